"""Thoughts in the engine: a limit of their own, no form before their end, and no string of the user's ends them."""

from __future__ import annotations

from collections.abc import Sequence as SequenceOf
from copy import deepcopy
from functools import partial
from typing import Any

import pytest
from support.constraints import OPTIONS, STOP, VOCABULARY, OneOf
from support.thoughts import CLOSING, OPENING, Between, Brief
from support.tiny_models import decoder, make, ready

from llmpar.engine.build import build_engine
from llmpar.engine.constraint import unpack
from llmpar.engine.request import Completion, Request, SamplingParams, Sequence

STOPS = frozenset({STOP})


def sequence(
    max_new_tokens: int, max_thinking_tokens: int, answered: SequenceOf[int] = (), *, is_open: bool = True, **more: Any
) -> Sequence:
    params = SamplingParams(max_new_tokens, max_thinking_tokens=max_thinking_tokens)
    prompt = [9, 9, *answered]
    return Sequence(Request(0, prompt, params, len(answered), thoughts=partial(Between, is_open=is_open), **more))


def appended(taken: Sequence, ids: SequenceOf[int]) -> tuple[list[int], str | None]:
    for token_id in ids:
        taken.append(token_id, STOPS)
    return taken.output_ids, taken.finish_reason


def test_thoughts_and_answer_have_limits_of_their_own() -> None:
    # 3 for the answer, 4 for the thoughts, their last token included.
    assert appended(sequence(7, 4), [5, 5, CLOSING, 6, 6, 6, 6]) == ([5, 5, CLOSING, 6, 6, 6], "length")
    assert appended(sequence(7, 4), [5, 5, 5, CLOSING, 6, STOP]) == ([5, 5, 5, CLOSING, 6], "stop")
    assert appended(sequence(7, 4), [5, 5, 5, 5, 5]) == ([5, 5, 5, 5], "length")
    assert appended(sequence(7, 4, is_open=False), [6, 6, 6, 6]) == ([6, 6, 6], "length")
    assert appended(sequence(7, 4, is_open=False), [OPENING, 5, CLOSING, 6, 6, 6]) == (
        [OPENING, 5, CLOSING, 6, 6, 6],
        "length",
    )


def test_a_sequence_without_thoughts_is_as_it_was() -> None:
    taken = Sequence(Request(0, [9], SamplingParams(3)))
    assert appended(taken, [OPENING, 5, CLOSING, 6]) == ([OPENING, 5, CLOSING], "length")


def test_an_answer_that_goes_on_knows_where_its_thoughts_are() -> None:
    assert appended(sequence(7, 4, [5, 5]), [5, CLOSING, 6, 6, 6]) == ([5, CLOSING, 6, 6, 6], "length")
    assert appended(sequence(7, 4, [5, CLOSING, 6]), [6, 6, 6, 6]) == ([6, 6, 6], "length")


def test_what_ends_an_answer_is_not_looked_for_in_thoughts() -> None:
    seen: list[list[int]] = []

    def ends(ids: SequenceOf[int]) -> bool:
        seen.append(list(ids))
        return 8 in ids

    assert appended(sequence(20, 10, ends=ends), [8, 8, CLOSING, 6, 8, 6]) == ([8, 8, CLOSING, 6, 8], "stop")
    assert seen == [[6], [6, 8]]


def test_thoughts_that_fail_fail_their_sequence_alone() -> None:
    def fail() -> Any:
        raise ValueError("no thoughts")

    taken = Sequence(Request(0, [9], SamplingParams(3), thoughts=fail))
    taken.append(5, STOPS)
    assert (taken.finish_reason, taken.error) == ("error", "ValueError: no thoughts")


def test_a_form_begins_behind_the_thoughts() -> None:
    taken = sequence(20, 10, constraint=OneOf)
    (mask,) = taken.allowed([5, 5])
    assert unpack(mask, VOCABULARY).all()
    appended(taken, [5, 200, CLOSING])
    (mask,) = taken.allowed()
    firsts = {option[0] for option in OPTIONS}
    assert set(unpack(mask, VOCABULARY).nonzero()[0].tolist()) == firsts
    appended(taken, [10])
    assert taken.forced_id == 11
    taken = sequence(20, 10, [5, CLOSING, 10, 11], constraint=OneOf)  # it goes on with one that was cut
    assert taken.forced_id is None
    assert set(unpack(taken.allowed()[0], VOCABULARY).nonzero()[0].tolist()) == {12, 13}


MODELS = {
    "decoder": lambda: decoder("llama"),
    "torch": lambda: deepcopy(make("llama")),  # an engine changes how it attends
    "padded": lambda: deepcopy(make("bloom-alibi")),
}


def answers(model: Any, requests: SequenceOf[Request], workers: int, batch: int) -> list[Completion]:
    found: dict[int, Completion] = {}
    with build_engine([ready(model)], 256, STOPS, workers, batch) as engine:
        for request in requests:
            engine.submit(request)
        while len(found) < len(requests):
            completion = engine.collect(timeout=60)
            assert completion is not None, "the engine hangs"
            found[completion.id] = completion
    return [found[index] for index in sorted(found)]


@pytest.mark.parametrize("name", MODELS)
def test_every_runner_lets_thoughts_be_and_holds_the_answer(name: str, monkeypatch: pytest.MonkeyPatch) -> None:
    for kind in ("cpu", "generic"):
        monkeypatch.setattr(f"llmpar.engine.{kind}.model.usable_cores", lambda: 1)

    params = SamplingParams(40, max_thinking_tokens=20)
    requests = [
        Request(index, [9, 30 + index, 4], params, constraint=OneOf, thoughts=partial(Brief, 6) if index % 2 else None)
        for index in range(16)
    ]
    found = answers(MODELS[name](), requests, 1, 4)
    assert [completion.error for completion in found] == [None] * 16
    num_thoughts = 0
    for index, completion in enumerate(found):
        ids = tuple(completion.output_ids)
        if index % 2:
            assert ids[0] == OPENING
            num_thoughts += len(ids) > 6
        if len(ids) > 6 or index % 2 == 0:  # some end in the middle of their thoughts
            assert (ids[6:] if index % 2 else ids) in OPTIONS
    assert num_thoughts >= 2
    again = answers(MODELS[name](), requests, 2, 1)
    assert [list(completion.output_ids) for completion in again] == [list(c.output_ids) for c in found]
