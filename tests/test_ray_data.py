"""llmpar as a stage of Ray Data, which is called with a batch after another; it is a class that needs no Ray."""

from __future__ import annotations

import sys
from collections.abc import Iterator
from dataclasses import replace
from types import SimpleNamespace

import numpy as np
import pytest

from llmpar.answering.choice import ModelChoice
from llmpar.errors import UsageError
from llmpar.ray import Answer

ECHO = ModelChoice(engine="echo")


@pytest.fixture
def stage() -> Iterator[Answer]:
    stage = Answer("{text}", text="said", model=ECHO)
    yield stage
    stage._asker.close()


def test_columns_are_added_to_each_batch_in_its_order(stage: Answer) -> None:
    for size in (3, 500, 1):
        texts = [f"text {number}" for number in range(size)]
        batch = {"said": np.array(texts), "id": np.arange(size)}
        found = stage(batch)
        assert list(found) == ["said", "id", "answer", "error"]
        assert found["answer"] == texts
        assert found["error"] == [""] * size
        assert found["id"] is batch["id"]
    assert stage({"said": np.array(["a", "b"], dtype=object)})["answer"] == ["a", "b"]
    assert stage({"said": np.array([], dtype=object)})["answer"] == []


def test_a_text_that_fails_tells_why_beside_its_neighbours(stage: Answer, monkeypatch: pytest.MonkeyPatch) -> None:
    good, bad = stage._asker.ask(["a", "b"])
    results = [good, replace(bad, answer=None, error="the answer was cut")]
    monkeypatch.setattr(stage._asker, "ask", lambda _: results)
    found = stage({"said": ["a", "b"]})
    assert (found["answer"], found["error"]) == (["a", ""], ["", "the answer was cut"])


@pytest.mark.parametrize(
    ("batch", "said"),
    [
        ({"id": [1]}, "text='said': there is no such column; there are id"),
        (["text"], "take batch_format='numpy'"),
        ({"said": [None]}, "number 1 is no str"),
        ({"said": "text"}, "is a single str"),
    ],
)
def test_what_is_no_column_of_texts_is_refused(stage: Answer, batch: object, said: str) -> None:
    with pytest.raises(UsageError, match=said):
        stage(batch)  # type: ignore[arg-type]


def test_it_takes_the_threads_that_its_actor_has(monkeypatch: pytest.MonkeyPatch) -> None:
    context = SimpleNamespace(get_assigned_resources=lambda: {"CPU": 3.0})
    ray = SimpleNamespace(is_initialized=lambda: True, get_runtime_context=lambda: context)
    monkeypatch.setitem(sys.modules, "ray", ray)
    stages = [Answer("{text}", model=ECHO), Answer("{text}", model=ModelChoice(engine="echo", threads=2))]
    assert [stage._asker._session.model._choice.threads for stage in stages] == [3, 2]  # type: ignore[attr-defined]
    for stage in stages:
        stage._asker.close()
