"""What queries have in common is made once, while they have it in common; what follows from nothing is not made."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import pytest
from support.questions import TASK, question

from llmpar.answering.backend import Query
from llmpar.answering.begun import Begun
from llmpar.answering.memory import LimitedMemory
from llmpar.answering.sizing import needs_length
from llmpar.answering.usual import Usual
from llmpar.answering.wire import Asked, Handed
from llmpar.models.thoughts import outlook_of
from llmpar.store.answer import StoredAnswer
from llmpar.store.store import Store
from llmpar.tasks.question import Prompt, Sampling
from llmpar.tasks.task import Form

QUERY = Query(0, Prompt((("user", "A"),), "A"), Sampling(), 8, Form(choices=("yes", "no")))
OUTLOOK = outlook_of(is_open=False, is_sure=True, returns=True)


def test_another_prompt_has_the_same_manner() -> None:
    usual = Usual()
    first = usual.of(QUERY, OUTLOOK)
    assert usual.of(replace(QUERY, id=1, prompt=Prompt((("user", "B"),), "B"), max_new_tokens=9), OUTLOOK) is first


@pytest.mark.parametrize(
    "change",
    [
        {"sampling": Sampling(temperature=0.5, stop=("x",))},
        {"form": Form(choices=("a",))},
        {"form": None},
        {"timeout": 1.0},
        {"thinking_room": 5},
        {"is_scored": False},
        {"num_others": 0},
        {"continues": Begun([1], [-0.5]).packed()},
    ],
)
def test_a_query_that_differs_has_a_manner_of_its_own(change: dict[str, object]) -> None:
    usual, other = Usual(), replace(QUERY, **change)  # type: ignore[arg-type]
    first = usual.of(QUERY, OUTLOOK)
    made = usual.of(other, OUTLOOK)
    assert made == Usual().of(other, OUTLOOK) != first
    assert usual.of(QUERY, OUTLOOK) == first


def test_another_outlook_is_another_expectation() -> None:
    usual = Usual()
    assert usual.of(QUERY, OUTLOOK)[1].outlook is OUTLOOK
    assert usual.of(QUERY, None)[1].outlook is None


def test_manners_that_come_by_turns_arrive_with_their_queries() -> None:
    manners = [Usual().of(replace(QUERY, timeout=float(number % 2)), OUTLOOK)[0] for number in range(6)]
    asked = [Asked(number, [7] * number, 0, number, manner) for number, manner in enumerate(manners)]
    handed = Handed.of(asked)
    assert len(handed.manners) == 2
    assert [(one.number, list(one.ids), one.manner) for one in handed.queries()] == [
        (one.number, list(one.ids), one.manner) for one in asked
    ]


@pytest.mark.parametrize(
    ("limit", "changes", "needed"),
    [
        (None, {}, True),
        (8, {}, False),
        (8, {"min_text_tokens": 1}, True),
        (8, {"max_text_tokens": 9}, True),
    ],
)
def test_a_text_is_measured_where_something_follows_from_its_length(
    limit: int | None, changes: dict[str, int], needed: bool
) -> None:
    asked = question("A", replace(TASK, **changes))  # type: ignore[arg-type]
    assert needs_length(asked, Sampling(max_new_tokens=limit)) is needed


def test_an_answer_that_was_cut_is_found_as_soon_as_there_is_one(tmp_path: Path) -> None:
    store = Store(tmp_path / "store")
    whole, cut = store.job({"limit": None}), store.job({"limit": 4})
    memory = LimitedMemory(whole, cut, 4)
    keys = [memory.key(text) for text in ("A", "B")]
    memory.foresee(keys)
    assert [memory.find(key) for key in keys] == [[], []]
    answers = [StoredAnswer(0, "so", "length", 1, 4), StoredAnswer(0, "so far", "stop", 1, 3)]
    memory.foresee(keys)
    for key, text, answer in zip(keys, "AB", answers, strict=True):
        memory.add(key, text, answer)
    memory.commit()
    assert [memory.find(key) for key in keys] == [[answer] for answer in answers]
    memory.foresee(keys)
    assert [memory.find(key) for key in keys] == [[answer] for answer in answers]
    store.close()
