"""A model that other machines open: the same answers under the same keys, the same files and code, or none."""

from __future__ import annotations

import sys
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
from support.parts import Told, is_gone
from support.stations import FakeCluster

from llmpar.answering.backend import Model, Query, Reply
from llmpar.answering.choice import ModelChoice, open_model
from llmpar.answering.cluster import connection
from llmpar.answering.cluster.opening import check_contents, contents_of
from llmpar.errors import ModelUnavailable, UsageError
from llmpar.tasks.question import Prompt, Sampling

TEXTS = ["The cat sat.", "Two dogs ran home.", "äöü 我", "", "x" * 300]
Placing = Callable[..., FakeCluster]


@pytest.fixture
def cluster(monkeypatch: pytest.MonkeyPatch) -> Placing:
    """What puts a cluster without Ray in the place of one that is connected with."""

    def place(*cpus: int, code: str | None = None) -> FakeCluster:
        fake = FakeCluster(*cpus, code=code)
        monkeypatch.setattr("llmpar.answering.cluster.model.Cluster", lambda _: fake)
        monkeypatch.setattr("llmpar.answering.cluster.model.require_ray", lambda: None)
        return fake

    return place


def prompts() -> list[Prompt]:
    return [Prompt((("user", f"Say: {text}"),), text) for text in TEXTS if text]


def answers(model: Model) -> dict[int, tuple[str, str]]:
    backend = model.open(prompts())
    for number, prompt in enumerate(prompts()):
        backend.submit(Query(number, prompt, Sampling(max_repeats=0), 12))
    found: list[Reply] = []
    for _ in prompts():
        reply = backend.collect(60)
        assert reply
        assert reply.error is None
        found.append(reply)
    backend.close()
    return {reply.id: (reply.text, reply.finish_reason) for reply in found}


@pytest.mark.parametrize("engine", ["echo", "model"])
def test_answers_and_keys_are_those_of_this_machine_alone(engine: Any, tiny_model: Path, cluster: Placing) -> None:
    fake = cluster(1, 2)
    choice = ModelChoice(str(tiny_model), engine, device="cpu", precision="fp32", threads=1, offline=True)
    alone = open_model(choice, Told())
    there = open_model(replace(choice, ray="auto"), Told())
    assert there.identify() == alone.identify(), "the key is the model, not the place"
    assert (there.families, there.context_length, there.name) == (alone.families, alone.context_length, alone.name)
    assert answers(there) == answers(alone)
    assert len(fake.posts) == 2
    assert all(is_gone(post.station.place().process_id) for post in fake.posts)


def test_it_is_told_how_many_there_are_and_where(cluster: Placing) -> None:
    cluster(3, 1)
    told, watched = Told(), []
    told.watch = watched.append  # type: ignore[method-assign]
    model = open_model(ModelChoice(engine="echo", ray="auto"), told)
    backend = model.open([])
    assert told.remarks == ["2 Ray workers on 2 machines, each with cpu=3"]
    assert [status.place for status in watched[-1]()] == ["host0"] * 3 + ["host1"]
    backend.close()


def test_a_node_with_other_code_is_refused(cluster: Placing) -> None:
    fake = cluster(1, code="another")
    with pytest.raises(ModelUnavailable, match="host0 has another llmpar than this machine"):
        open_model(ModelChoice(engine="echo", ray="auto"), Told()).open([])
    assert all(is_gone(post.station.place().process_id) for post in fake.posts)


def test_a_model_whose_files_are_others_is_refused(tmp_path: Path) -> None:
    here, there = tmp_path / "here", tmp_path / "there"
    for place in (here, there):
        place.mkdir()
        (place / "config.json").write_text("{}")
        (place / "model.safetensors").write_bytes(b"weights")
    files = sorted(here.iterdir())
    expected = contents_of(sorted(there.iterdir()))
    check_contents("m", expected, files)
    (here / "model.safetensors").write_bytes(b"Weights")
    with pytest.raises(ModelUnavailable, match=r"m: model.safetensors of it is not the same here"):
        check_contents("m", expected, files)
    with pytest.raises(ModelUnavailable, match=r"config.json and 1 more of it"):
        check_contents("m", expected, [])


@pytest.mark.parametrize(
    ("given", "said"),
    [
        ({"ray_workers": 2}, "ray_workers needs ray=auto"),
        ({"ray_resources": (("cpu", 1),)}, "ray_resources needs ray=auto"),
        ({"ray": "auto", "endpoints": ("http://localhost:1",)}, "exclude each other"),
        ({"ray": "auto", "tensor_parallel": 2}, "exclude each other"),
        ({"ray": "auto", "device": "cuda:1"}, "exclude each other"),
        ({"ray": "auto", "ray_workers": 0}, "must be 1 or more"),
        ({"ray": "auto", "ray_resources": (("cpu", float("nan")),)}, "must be more than 0"),
    ],
)
def test_what_excludes_a_cluster_is_said(given: dict[str, Any], said: str) -> None:
    with pytest.raises(UsageError, match=said):
        ModelChoice(**given)


def test_where_nobody_answers_is_said_at_once(monkeypatch: pytest.MonkeyPatch) -> None:
    class Ray:
        @staticmethod
        def is_initialized() -> bool:
            return False

    monkeypatch.setattr(connection, "_import", lambda: Ray)
    with pytest.raises(ModelUnavailable, match=r"no Ray cluster at 127.0.0.1:1: .*ray start --head"):
        connection.Cluster("127.0.0.1:1")
    monkeypatch.setenv("RAY_ADDRESS", "127.0.0.1:port")
    with pytest.raises(ModelUnavailable, match=r"no Ray cluster at 127.0.0.1:port"):
        connection.Cluster("auto")
    with pytest.raises(UsageError, match="clients outside of a cluster"):
        connection.Cluster("ray://head:10001")


def test_without_ray_the_remedy_is_named(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "ray", None)
    with pytest.raises(ModelUnavailable, match=r"Ray is not installed .*pip install 'llmpar\[ray\]'"):
        open_model(ModelChoice(engine="echo", ray="auto"), Told()).prepare()
