"""A model that other machines open: the same answers under the same keys, the same files and code, or none."""

from __future__ import annotations

import sys
from collections.abc import Callable
from dataclasses import replace
from functools import partial
from pathlib import Path
from typing import Any

import pytest
from support.parts import Told, is_gone
from support.stations import FakeCluster

from llmpar.answering.backend import Model, Query, Reply, Watcher
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

    def place(*cpus: int, **options: Any) -> FakeCluster:
        fake = FakeCluster(*cpus, **options)
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


def finds(watcher: Watcher, precision: str) -> str:
    """Stand for `precision_there` on a machine with such a GPU."""
    if not precision:
        raise ModelUnavailable("the model is not to be had there")
    watcher.remark(f"asked, {precision}")
    return precision


def finding(*precisions: str) -> list[Callable[[Watcher], str]]:
    return [partial(finds, precision=precision) for precision in precisions]


def test_the_key_has_what_the_workers_say_that_they_compute_in(tiny_model: Path, cluster: Placing) -> None:
    told = Told()
    fake = cluster(1, 1, 1, finds=finding("bf16", "fp32", ""))
    choice = ModelChoice(str(tiny_model), offline=True, ray="auto")
    there = open_model(choice, told)
    facts = dict(there.identify().facts)
    assert (facts["device"], facts["precision"]) == ("cuda", "fp32"), "what the least able takes, and all can"
    assert told.warnings == ["a worker on host2 is left out: the model is not to be had there"]
    assert sorted(told.remarks) == ["asked, bf16", "asked, fp32"]
    assert there.identify() == there.identify()
    found = answers(there)
    assert len(fake.posts) == 3, "those that were asked answer"
    computed = [str(post.frames[1][0].open.args[0].precision) for post in fake.posts[:2]]  # type: ignore[union-attr]
    assert computed == ["fp32", "fp32"]
    assert "2 Ray workers on 2 machines, each with cpu=1,gpu=1" in told.remarks
    alone = replace(choice, ray=None, device="cpu", precision="fp32", threads=1)
    assert found == answers(open_model(alone, Told()))
    assert all(is_gone(post.station.place().process_id) for post in fake.posts)


@pytest.mark.parametrize(
    ("found", "precision"), [(["bf16"], "bf16"), (["bf16", "int8"], "int8"), (["int8", "fp32"], "fp32")]
)
def test_keys_of_unlike_workers_differ(found: list[str], precision: str, tiny_model: Path, cluster: Placing) -> None:
    fake = cluster(*[1] * len(found), finds=finding(*found))
    there = open_model(ModelChoice(str(tiny_model), offline=True, ray="auto"), Told())
    assert dict(there.identify().facts)["precision"] == precision
    for post in fake.posts:
        post.kill()


def test_workers_are_not_asked_what_is_said_already(tiny_model: Path, cluster: Placing) -> None:
    fake = cluster(1, finds=finding("int8"))
    there = open_model(ModelChoice(str(tiny_model), offline=True, ray="auto", precision="bf16"), Told())
    assert dict(there.identify().facts)["precision"] == "bf16"
    assert not fake.posts, "none has begun"


def test_if_no_worker_can_tell_what_the_first_said_is_told(tiny_model: Path, cluster: Placing) -> None:
    fake = cluster(1, 1, finds=finding("", ""))
    there = open_model(ModelChoice(str(tiny_model), offline=True, ray="auto"), Told())
    with pytest.raises(ModelUnavailable, match="the model is not to be had there"):
        there.identify()
    assert all(is_gone(post.station.place().process_id) for post in fake.posts)


def test_a_worker_that_was_lost_before_it_was_asked_is_left_out(tiny_model: Path, cluster: Placing) -> None:
    told = Told()
    fake = cluster(1, 1, finds=finding("bf16", "bf16"))
    place = fake.place

    def place_and_lose(*given: Any) -> Any:
        found = place(*given)
        fake.posts[0].lose("was lost with its node")
        return found

    fake.place = place_and_lose  # type: ignore[method-assign]
    there = open_model(ModelChoice(str(tiny_model), offline=True, ray="auto"), told)
    assert dict(there.identify().facts)["precision"] == "bf16"
    assert told.warnings == ["a worker on host0 is left out: the worker was lost with its node"]
    fake.posts[1].kill()


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
