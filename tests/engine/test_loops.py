"""Loops are found, soon, and nothing else is; a look costs the same however long the answer is."""

from __future__ import annotations

import itertools
import random

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from llmpar.engine.loops import LOOK_EVERY, LoopFinder, most_repeats
from llmpar.engine.request import Request, SamplingParams, Sequence

LEAST, LONGEST = 64, 64  # tokens said again, and of an n-gram
LATE = 2 * LOOK_EVERY
NEVER = frozenset({-1})
# Stretches of one n-gram each, over so few tokens that they fit into one another in every way.
NGRAMS = st.lists(st.integers(0, 2), min_size=1, max_size=70)
STRETCHES = st.lists(st.tuples(NGRAMS, st.integers(1, 300)), max_size=6)


def repeated(ngram: list[int], length: int) -> list[int]:
    return list(itertools.islice(itertools.cycle(ngram), length))


def stretched(stretches: list[tuple[list[int], int]]) -> list[int]:
    return [token for ngram, length in stretches for token in repeated(ngram, length)]


def stopped_at(answer: list[int], max_repeats: int, prompt: list[int] | None = None, num_answered: int = 0) -> int:
    """Return how many tokens were taken before the loop was seen, 0 if none was; the prompt ends with the answered."""
    params = SamplingParams(len(answer) + 1, max_repeats=max_repeats)
    sequence = Sequence(Request(0, (prompt or [9]) + answer[:num_answered], params, num_answered))
    for token in answer[num_answered:]:
        sequence.append(token, NEVER)
        if sequence.finish_reason:
            assert sequence.finish_reason == "loop"
            return num_answered + len(sequence.output_ids)
    return 0


def said_again(ids: list[int], period: int) -> int:
    """Return how many tokens at the end equal those a period before."""
    count = 0
    while count + period < len(ids) and ids[-1 - count] == ids[-1 - count - period]:
        count += 1
    return count


def is_loop(ids: list[int], max_repeats: int, late: int = 0) -> bool:
    """Tell whether `ids` end in a loop, and did `late` tokens before."""
    return any(said_again(ids, period) >= max(LEAST, max_repeats * period) + late for period in range(1, LONGEST + 1))


@settings(max_examples=150, deadline=None)
@given(STRETCHES, st.integers(2, 12))
def test_loops_are_what_the_definition_says(stretches: list[tuple[list[int], int]], max_repeats: int) -> None:
    answer = stretched(stretches)
    end = stopped_at(answer, max_repeats)
    if end:
        assert is_loop(answer[:end], max_repeats)
    for earlier in range(0, end - 1 if end else len(answer), 7):
        assert not is_loop(answer[:earlier], max_repeats, LATE), "a loop was missed, or seen too late"


@settings(deadline=None)
@given(st.lists(st.integers(0, 2), max_size=300), st.lists(st.integers(0, 99), min_size=1, max_size=LONGEST),
       st.integers(2, 9))  # fmt: skip
def test_a_loop_is_seen_soon(before: list[int], ngram: list[int], max_repeats: int) -> None:
    enough = max(LEAST, max_repeats * len(ngram)) + LATE
    answer = before + repeated(ngram, len(ngram) + enough)
    assert stopped_at(answer, max_repeats)


@given(st.permutations(range(300)), st.integers(1, 5))
def test_what_never_repeats_is_never_a_loop(answer: list[int], max_repeats: int) -> None:
    assert not stopped_at(answer, max_repeats)


@pytest.mark.parametrize("ngram", [[1], [1, 2], [1, 2, 3, 4]], ids=len)
def test_a_little_repetition_is_no_loop(ngram: list[int]) -> None:
    assert not stopped_at([7, 8, *repeated(ngram, LEAST), 7, 8] * 4, 4)


def test_longer_ngrams_may_come_as_often_as_is_said() -> None:
    line = list(range(40))
    assert not stopped_at(line * 4 + [99] * 40, 4)
    assert stopped_at(line * 6, 4) == 40 * 5 + LOOK_EVERY - 40 * 5 % LOOK_EVERY
    assert not stopped_at(line * 6, 6)
    assert not stopped_at(line * 100, 0), "0 stops nothing"


def test_what_the_prompt_repeats_may_be_repeated() -> None:
    chorus, other = [1, 2, 3], [4, 5]
    prompt = [9, *chorus * 50, 9]
    assert not stopped_at(chorus * 50, 4, prompt)
    assert not stopped_at(other * 50, 4, prompt), "a translation repeats other tokens"
    assert stopped_at(chorus * 50, 4, [9, *chorus, 9])
    assert 100 * 3 < stopped_at(chorus * 1000, 4, prompt) <= 101 * 3 + LATE, "twice as often, and no more"
    assert stopped_at(list(range(40)) * 50, 4, [9, *[1] * 50, 9]), "a row of dashes is no excuse for a sentence"


@settings(deadline=None)
@given(st.integers(0, 150), st.integers(1, 40))
def test_an_answer_that_goes_on_is_one_answer(num_answered: int, length: int) -> None:
    ngram = list(range(length))
    answer = [*range(100, 120), *ngram * (2 + 400 // length)]
    whole = stopped_at(answer, 4)
    assert whole
    assert whole - LATE <= stopped_at(answer, 4, num_answered=min(num_answered, whole - LATE)) <= whole + LATE


def test_a_loop_that_fills_the_limit_is_a_loop() -> None:
    for limit, reason in ((65, "loop"), (64, "length")):
        sequence = Sequence(Request(0, [9], SamplingParams(limit, max_repeats=4)))
        while not sequence.finish_reason:
            sequence.append(1, NEVER)
        assert (sequence.finish_reason, len(sequence.output_ids)) == (reason, limit)


@given(NGRAMS, st.integers(1, 30), st.lists(st.integers(5, 9)), st.lists(st.integers(5, 9)))
def test_repeats_are_counted(ngram: list[int], times: int, before: list[int], after: list[int]) -> None:
    ids = before + ngram * times + after
    period = len(ngram)
    expected = 1 + max([said_again(ids[:end], period) // period for end in range(len(ids) + 1)])
    assert most_repeats(ids, range(period, period + 1)) == expected >= times


class Counted(int):
    """A token that counts how often it is compared."""

    comparisons = 0

    def __eq__(self, other: object) -> bool:
        Counted.comparisons += 1
        return int(self) == other

    __hash__ = int.__hash__


@pytest.mark.parametrize("kind", ["text", "few words", "allowed"])
def test_a_look_costs_the_same_however_long_the_answer_is(kind: str) -> None:
    draw = random.Random(0)

    def cost(length: int) -> float:
        ids = {"text": draw.choices(range(1000), k=length), "few words": draw.choices(range(5), k=length)}.get(
            kind, [1] * length
        )
        finder, answer = LoopFinder([1] * 16_000, [], 4), []
        Counted.comparisons = 0
        for start in range(0, length, LOOK_EVERY):
            answer += map(Counted, ids[start : start + LOOK_EVERY])
            assert not finder.follow(answer)
        return Counted.comparisons / length

    assert cost(16_000) < 1.2 * cost(1_600) < 12
