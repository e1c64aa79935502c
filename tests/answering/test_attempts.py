"""Which try comes next: a table of cases."""

from __future__ import annotations

import pytest

from llmpar.answering.attempts import Attempt, Policy, Step, begin, next_step, sampling_of
from llmpar.tasks.question import Sampling

FIRST = Attempt(0, 1, limit=8)
LAST = Attempt(1, 1, limit=8)
WISHED = Attempt(0, 1, limit=8, is_ours=False)
EXTENDED = FIRST.extended()


@pytest.mark.parametrize(
    ("attempt", "finish_reason", "facts", "step"),
    [
        # An answer that ended by itself.
        (FIRST, "stop", {}, Step.FINISH),
        (FIRST, "stop", {"is_faulty": True}, Step.RETRY),
        (LAST, "stop", {"is_faulty": True}, Step.FINISH),
        (FIRST, "stop", {"is_faulty": True, "is_ending": True}, Step.FINISH),
        (FIRST, "loop", {"is_faulty": True}, Step.RETRY),
        # One that was cut at our own limit is given room one time.
        (FIRST, "length", {"is_faulty": True}, Step.EXTEND),
        (LAST, "length", {"is_faulty": True}, Step.EXTEND),
        (EXTENDED, "length", {"is_faulty": True}, Step.RETRY),
        (LAST.extended(), "length", {"is_faulty": True}, Step.FINISH),
        # Not by a backend that cannot go on where it stopped: it would only say the same again.
        (FIRST, "length", {"is_faulty": True, "can_extend": False}, Step.RETRY),
        (LAST, "length", {"is_faulty": True, "can_extend": False}, Step.FINISH),
        # Where the context is full, only halves can help.
        (FIRST, "length", {"is_faulty": True, "room": 0, "can_split": True}, Step.SPLIT),
        (EXTENDED, "length", {"is_faulty": True, "room": 0, "can_split": True}, Step.SPLIT),
        (FIRST, "length", {"is_faulty": True, "room": 0}, Step.RETRY),
        (LAST, "length", {"is_faulty": True, "room": 0}, Step.FINISH),
        (LAST, "length", {"is_faulty": True, "room": 0, "can_split": True, "is_ending": True}, Step.FINISH),
        # The user's own limit is a wish.
        (WISHED, "length", {}, Step.FINISH),
        (WISHED, "length", {"room": 0, "can_split": True}, Step.FINISH),
        (WISHED, "length", {"is_faulty": True}, Step.RETRY),
        # What the machine failed at is asked once more, one time fewer; not where workers were lost over it.
        (FIRST, "error", {"is_faulty": True}, Step.REPEAT),
        (Attempt(0, 0), "error", {"is_faulty": True}, Step.FINISH),
        (LAST, "error", {"is_faulty": True}, Step.FINISH),
        (FIRST, "error", {"is_faulty": True, "deadly": True}, Step.FINISH),
        (FIRST, "error", {"is_faulty": True, "is_ending": True}, Step.FINISH),
        # What a server finds too long is split, and never asked again as it is.
        (FIRST, "error", {"is_faulty": True, "overflows": True, "can_split": True}, Step.SPLIT),
        (LAST, "error", {"is_faulty": True, "overflows": True, "can_split": True}, Step.SPLIT),
        (FIRST, "error", {"is_faulty": True, "overflows": True}, Step.FINISH),
        (FIRST, "error", {"is_faulty": True, "overflows": True, "can_split": True, "is_ending": True}, Step.FINISH),
        # An answer that is not of its form is bad like any other.
        (FIRST, "form", {"is_faulty": True}, Step.RETRY),
        (LAST, "form", {"is_faulty": True}, Step.FINISH),
    ],
)
def test_what_follows(attempt: Attempt, finish_reason: str, facts: dict[str, object], step: Step) -> None:
    assert next_step(attempt, finish_reason, **{"is_faulty": False, "room": 5, **facts}) is step  # type: ignore[arg-type]


def test_errors_without_end_come_to_an_end() -> None:
    attempt, count = Attempt(0, 3), 0
    while next_step(attempt, "error", is_faulty=True, room=5) is Step.REPEAT:
        attempt, count = attempt.failed(deadly=False), count + 1
    assert count == 3
    assert attempt.number == 0


@pytest.mark.parametrize(
    ("known", "policy", "expected"),
    [
        ([], Policy(retries=0), (0, 0)),
        ([], Policy(retries=2), (0, 2)),
        ([0], Policy(retries=0), None),
        ([0], Policy(retries=2), (1, 2)),
        ([0, 1, 2], Policy(retries=2), None),
        ([0, 1], Policy(retries=1, retry_failed=True), (2, 3)),
        ([4], Policy(retries=0, retry_failed=True), (5, 5)),
        # One whose answer had too little room no longer counts, and is made again.
        ([1], Policy(retries=1), (0, 1)),
        ([0, 2], Policy(retries=2), (1, 2)),
        ([1, 2], Policy(retries=2, retry_failed=True), (3, 5)),
    ],
)
def test_where_an_earlier_run_left_off(known: list[int], policy: Policy, expected: tuple[int, int] | None) -> None:
    attempt = begin([(number, "stop") for number in known], policy)
    assert (None if attempt is None else (attempt.number, attempt.last)) == expected


def test_each_attempt_is_drawn_by_itself() -> None:
    greedy, warm = Sampling(seed=5), Sampling(temperature=1.5, top_p=0.5, seed=5)
    assert sampling_of(Attempt(0, 2), greedy) == greedy
    assert sampling_of(Attempt(0, 2), warm) == warm
    again, third = sampling_of(Attempt(1, 2), greedy), sampling_of(Attempt(2, 2), greedy)
    assert again.temperature == third.temperature > 0
    assert len({greedy.seed, again.seed, third.seed}) == 3
    other = sampling_of(Attempt(1, 2), warm)
    assert (other.temperature, other.top_p) == (1.5, 0.5)
    assert other.seed != warm.seed


def test_an_attempt_that_was_made_is_not_made_again() -> None:
    attempt = begin([(1, "stop")], Policy(retries=1))
    assert attempt is not None
    assert attempt.following().number == 2
    assert next_step(attempt, "stop", is_faulty=True, room=5) is Step.FINISH


def test_the_next_attempt_begins_anew() -> None:
    attempt = EXTENDED.following()
    assert (attempt.number, attempt.is_extended, attempt.limit) == (1, False, 8)
