"""Whether an answer goes round in a loop: a matter of its own token ids, and of no batch."""

from __future__ import annotations

import operator
from collections.abc import Sequence as SequenceOf

LOOK_EVERY = 16
"""Tokens between looks: a look takes two microseconds, and a loop seen this much later costs less than it saves."""

# The longest n-gram, and the fewest tokens that must have come again. Laughter, rules, the bars of a table and rows of
# zeros are shorter as a rule, however often they repeat their token or two; a loop goes on. It is one number for both,
# so that the shortest n-gram that fits is the only one to follow: where p + q tokens have the periods p and q, their
# greatest common divisor is one, too (Fine and Wilf 1965).
_SPAN = 64


class LoopFinder:
    """Follows an answer, and tells when it ends in an n-gram that came again too often without a break.

    Text that repeats itself has answers that do (a chorus, a row of dashes to copy), so an answer may repeat something
    twice as often as the prompt does: models count badly. What they repeat need not be equal, as in a translation it is
    not, only of a similar length: a row of dashes is no excuse for a sentence.

    Args:
        prompt_ids: what was asked.
        answered_ids: what the answer begins with, if it goes on with an earlier one.
        max_repeats: how many times in a row an n-gram may come, at least.
    """

    __slots__ = ("_allowed", "_ids", "_max_repeats", "_num_followed", "_num_repeated", "_period", "_prompt_ids")

    def __init__(self, prompt_ids: SequenceOf[int], answered_ids: SequenceOf[int], max_repeats: int) -> None:
        self._prompt_ids = prompt_ids
        self._max_repeats = max_repeats
        self._ids: list[int] = []
        self._num_followed = 0  # of the tokens given to `follow`
        self._period = 0  # of the repetition at the end; 0 when there is none
        self._num_repeated = 0  # tokens of it that equal those a period before, less the few between two looks
        self._allowed: int | None = None  # how often it may come; None until that matters
        for start in range(0, len(answered_ids), LOOK_EVERY):
            self._add(answered_ids[start : start + LOOK_EVERY])

    def follow(self, output_ids: list[int]) -> bool:
        """Tell whether the answer, grown to `output_ids`, ends in a loop."""
        self._add(output_ids[self._num_followed :])
        self._num_followed = len(output_ids)
        if not self._period or self._num_repeated < self._max_repeats * self._period:
            return False
        if self._allowed is None:
            similar = range(max(1, self._period // 4), 2 * self._period + 1)
            self._allowed = 2 * most_repeats(self._prompt_ids, similar)
        return self._num_repeated >= self._allowed * self._period

    def _add(self, new_ids: SequenceOf[int]) -> None:
        ids, period = self._ids, self._period
        ids += new_ids
        first = len(ids) - len(new_ids)
        if period and ids[first:] == ids[first - period : -period]:
            self._num_repeated += len(new_ids)
        else:
            self._period, self._num_repeated, self._allowed = _period(ids), _SPAN, None


def _period(ids: list[int]) -> int:
    """Return the length of the shortest n-gram that the last tokens repeat, 0 if none."""
    first = len(ids) - _SPAN
    if first < 1:
        return 0
    last = ids[-1]
    tail = ids[-_SPAN:]
    for period, token_id in enumerate(ids[-2 : -2 - min(_SPAN, first) : -1], 1):
        if token_id == last and ids[first - period : -period] == tail:
            return period
    return 0


def most_repeats(ids: SequenceOf[int], periods: range) -> int:
    """Return how many times in a row an n-gram comes at most, for n-grams of these lengths; 1 is no repetition."""
    most = 1
    for period in periods:
        # A byte for each token, 1 where it equals the one a period before: a row of them is a repetition.
        equal = bytes(map(operator.eq, ids, ids[period:]))
        most = max(most, 1 + max(map(len, equal.split(b"\0"))) // period)
    return most
