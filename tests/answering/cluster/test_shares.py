"""What each worker takes of a cluster."""

from __future__ import annotations

import pytest

from llmpar.answering.cluster.shares import Node, Share, divide
from llmpar.errors import ModelUnavailable, UsageError


def nodes(*resources: dict[str, float]) -> list[Node]:
    return [Node(f"n{index}", f"host{index}", given) for index, given in enumerate(resources)]


SMALL, LARGE = {"CPU": 4.0}, {"CPU": 64.0}
GPUS = {"CPU": 32.0, "GPU": 4.0}
HEAD: dict[str, float] = {"CPU": 0.0}


@pytest.mark.parametrize(
    ("cluster", "device", "count", "given", "expected"),
    [
        # Nobody says anything: a worker for each node, with all of its CPUs, or for each GPU.
        ([SMALL, LARGE, HEAD], "auto", None, (), [Share(4, node_id="n0"), Share(64, node_id="n1")]),
        ([GPUS, SMALL], "auto", None, (), [Share(1, 1)] * 4),
        ([GPUS, SMALL], "cpu", None, (), [Share(32, node_id="n0"), Share(4, node_id="n1")]),
        # So many workers: as many CPUs for each as all of them can have.
        ([SMALL, SMALL], "auto", 2, (), [Share(4)] * 2),
        ([SMALL, SMALL], "auto", 3, (), [Share(2)] * 3),
        ([SMALL, LARGE], "auto", 5, (), [Share(12)] * 5),
        ([GPUS], "auto", 9, (), [Share(1, 1)] * 9),  # a cluster that grows may have them later
        # So much for each: as many as there is room for.
        ([SMALL, LARGE], "auto", None, (("cpu", 8),), [Share(8)] * 8),
        ([GPUS, LARGE], "auto", None, (("cpu", 2), ("gpu", 0.5)), [Share(2, 0.5)] * 8),
        ([{**SMALL, "tpu": 2.0}], "auto", None, (("tpu", 1),), [Share(1, 0, (("tpu", 1),))] * 2),
        ([SMALL], "cuda", 3, (("cpu", 8),), [Share(8, 1)] * 3),
    ],
)
def test_the_cluster_is_divided(
    cluster: list[dict[str, float]],
    device: str,
    count: int | None,
    given: tuple[tuple[str, float], ...],
    expected: list[Share],
) -> None:
    assert divide(nodes(*cluster), device, count, given) == expected


@pytest.mark.parametrize(
    ("cluster", "device", "count", "given", "error", "said"),
    [
        ([SMALL], "auto", 9, (), UsageError, "ray_workers=9: the cluster has 4 CPUs; take 4 workers or fewer"),
        ([HEAD], "auto", None, (), ModelUnavailable, "no node that lends CPUs: host0 has cpu=0,gpu=0"),
        ([], "auto", None, (), ModelUnavailable, "it has no node"),
        ([SMALL], "cuda", None, (), ModelUnavailable, "no GPU: host0 has cpu=4,gpu=0"),
        ([SMALL], "auto", None, (("cpu", 8),), ModelUnavailable, "no node with cpu=8"),
        ([GPUS], "auto", None, (("gpu", 2),), UsageError, "one GPU"),
        ([GPUS], "cpu", None, (("gpu", 1),), UsageError, "device=cpu exclude each other"),
    ],
)
def test_what_cannot_be_is_said(
    cluster: list[dict[str, float]],
    device: str,
    count: int | None,
    given: tuple[tuple[str, float], ...],
    error: type[Exception],
    said: str,
) -> None:
    with pytest.raises(error, match=said):
        divide(nodes(*cluster), device, count, given)


def test_a_share_is_told_as_it_is_written() -> None:
    assert str(Share(8, 1, (("tpu", 2),))) == "cpu=8,gpu=1,tpu=2"
    assert str(Share(0.5)) == "cpu=0.5"
    assert (Share(0.5).num_threads, Share(8).num_threads, Share(1, 1).kind, Share(1).kind) == (1, 8, "cuda", "cpu")
