"""Which try at an answer comes next, and why: functions of plain values, with a table of cases in their tests.

An attempt is one drawing of an answer. It may be asked in two parts, when the answer needs more room than it was given
at first. Knows no backend, no store and no text.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace
from enum import Enum
from itertools import count
from typing import Literal

from llmpar.answering.fitting import Size
from llmpar.frozen import quickly_made
from llmpar.tasks.question import Sampling

Overflow = Literal["split", "error"]

# What a greedy answer is drawn with when it is asked for again: the same once more would fail once more.
_RETRY_TEMPERATURE, _RETRY_TOP_P, _RETRY_SEED = 0.7, 0.95, 1_000_003


@dataclass(frozen=True, slots=True)
class Policy:
    """What happens when an answer will not do. The command line reads its defaults from here.

    Args:
        retries: how often a segment whose answer will not do is asked again, drawn differently.
        timeout: seconds for each answer, None for any.
        refresh: compute again what is in the store, and replace it.
        retry_failed: give segments that failed in an earlier run as many attempts again.
        overflow: what becomes of a segment that does not fit the model's context: it is split, or fails.
        scores_forms: whether it is told how sure the model was of answers that have a form, too: of others it always
            is, if the model can tell. It takes a few per cent of the time that such an answer takes.
    """

    retries: int = 1
    timeout: float | None = None
    refresh: bool = False
    retry_failed: bool = False
    overflow: Overflow = "split"
    scores_forms: bool = True


@quickly_made
@dataclass(frozen=True, slots=True)
class Attempt:
    """Where a question stands.

    Args:
        number: of this attempt, from 0, those of earlier runs counted.
        last: the number of the last one that there may be.
        limit: tokens that the answer may have at first.
        is_ours: whether that limit is our own, and not the user's wish.
        is_extended: whether the answer was given more room.
        thinking_room: how many tokens of the limit are for thoughts.
        made: the numbers of attempts that earlier runs made, and that are not made again.
    """

    number: int
    last: int
    limit: int = 0
    is_ours: bool = True
    is_extended: bool = False
    thinking_room: int = 0
    made: frozenset[int] = frozenset()

    def granted(self, size: Size, wanted: int | None) -> Attempt:
        """Return this attempt with the room that a question of some size has.

        Args:
            size: the question's.
            wanted: the limit that the user gave to the answer, None for none: it counts if the answer has all of it.
        """
        limit, thinking_room = size.limit, size.thinking_room
        is_ours = wanted is None or limit - thinking_room != wanted
        return Attempt(self.number, self.last, limit, is_ours, self.is_extended, thinking_room, self.made)

    def extended(self) -> Attempt:
        """Return this attempt after its answer was given more room."""
        return replace(self, is_extended=True)

    def following(self) -> Attempt:
        """Return the next attempt."""
        return replace(self, number=_first_missing(self.made, self.number + 1), is_extended=False)

    def failed(self, *, deadly: bool) -> Attempt:
        """Return what is left after an error of the machine's: the same again, one time fewer.

        That was no attempt of the model's. One over which workers were lost is not asked again.
        """
        return replace(self, last=-1 if deadly else self.last - 1, is_extended=False)


class Step(Enum):
    """What happens after a reply."""

    EXTEND = "the answer goes on where it was cut"
    SPLIT = "each half of the text is asked about by itself"
    REPEAT = "the same is asked once more"
    PART = "each text between marks is asked about by itself"
    RETRY = "the next attempt is made"
    FINISH = "this is the result, good or not"


def next_step(
    attempt: Attempt,
    finish_reason: str,
    *,
    is_faulty: bool,
    room: int,
    can_extend: bool = True,
    can_split: bool = False,
    can_part: bool = False,
    deadly: bool = False,
    overflows: bool = False,
    is_ending: bool = False,
) -> Step:
    """Return what happens after a reply.

    Args:
        attempt: what was asked.
        finish_reason: why the answer ended; "error" for none.
        is_faulty: whether the answer will not do.
        room: tokens that the context has left after prompt and answer.
        can_extend: whether the backend can go on with an answer that was cut.
        can_split: whether the text can be asked about in halves.
        can_part: whether the answer lost markup, and what stands between that can be asked about by itself.
        deadly: whether workers were lost over it.
        overflows: whether the prompt was too long to be read.
        is_ending: whether nothing more is asked, as the run ends.
    """
    if overflows:
        return Step.SPLIT if can_split and not is_ending else Step.FINISH
    if finish_reason == "error":
        may_repeat = not is_ending and attempt.number <= attempt.failed(deadly=deadly).last
        return Step.REPEAT if may_repeat else Step.FINISH
    if finish_reason == "length" and attempt.is_ours:
        if not attempt.is_extended and room > 0 and can_extend:
            return Step.EXTEND
        if room <= 0 and can_split and not is_ending:
            return Step.SPLIT  # no answer to the whole has room
    if is_faulty and attempt.following().number <= attempt.last and not is_ending:
        return Step.RETRY
    return Step.PART if is_faulty and can_part and not is_ending else Step.FINISH


def begin(known: Sequence[tuple[int, str]], policy: Policy) -> Attempt | None:
    """Return the attempt to begin with when no answer in the store will do; None if there had been enough.

    Args:
        known: the attempts that earlier runs made, none of which will do: their numbers and finish reasons.
        policy: how many there may be.
    """
    if not known:
        return Attempt(0, policy.retries)
    made = frozenset(number for number, _ in known)
    first_new = max(made, default=-1) + 1
    # One before the others may be missing: its answer had too little room, and no longer counts.
    number = first_new if policy.retry_failed else _first_missing(made, 0)
    last = policy.retries + (first_new if policy.retry_failed else 0)
    return Attempt(number, last, made=made) if number <= last else None


def _first_missing(made: frozenset[int], number: int) -> int:
    """Return the first number from `number` on that is not among those that were made."""
    return next(candidate for candidate in count(number) if candidate not in made)


def sampling_of(attempt: Attempt, sampling: Sampling) -> Sampling:
    """Return how an attempt is drawn: each by other numbers, and none but the first greedily."""
    if attempt.number == 0:
        return sampling
    redrawn = sampling.temperature == 0
    return replace(
        sampling,
        temperature=_RETRY_TEMPERATURE if redrawn else sampling.temperature,
        top_p=_RETRY_TOP_P if redrawn else sampling.top_p,
        seed=sampling.seed + attempt.number * _RETRY_SEED,
    )
