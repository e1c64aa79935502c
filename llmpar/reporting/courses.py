"""How much is written until an answer will do: it may be asked for again, and the longest way to the end is waited for.

A few hundred courses are drawn, always from the same numbers, so that what is told changes only as what is known does.
"""

from __future__ import annotations

import math
import random
from dataclasses import dataclass
from functools import cache
from itertools import pairwise

from llmpar.reporting.lengths import Lengths

_NUMBER = 256  # courses: the mean is within a few per cent of that of any number
_EVENLY = [(index + 0.5) / _NUMBER for index in range(_NUMBER)]
_MOST = 2  # times that one is asked for, as a rule


@dataclass(frozen=True, slots=True)
class Courses:
    """The ways of answers to their ends.

    Args:
        lengths: how many tokens each may have, in order, those included that came to nothing.
        num_drawn: how often an answer is asked for, on average.
    """

    lengths: tuple[float, ...]
    num_drawn: float

    @property
    def mean(self) -> float:
        """How many tokens one has on average."""
        return sum(self.lengths) / len(self.lengths)

    def longest(self, number: float) -> float:
        """Return how many tokens the longest of so many has on average."""
        shares = [math.pow(index / len(self.lengths), max(1.0, number)) for index in range(len(self.lengths) + 1)]
        return sum(length * (high - low) for length, (low, high) in zip(self.lengths, pairwise(shares), strict=True))

    def steps(self, number: float, num_rows: float) -> float:
        """Return in how many steps so many are written, if there is room for a number of rows at a time."""
        if number <= num_rows:
            return self.longest(number)
        # What is more has to wait for its turn; the last row is as much longer than the others as answers vary.
        return number / num_rows * self.mean + self.longest(num_rows) - self.mean


def courses(lengths: Lengths, again: float, least: float = 0.0) -> Courses:
    """Return the ways of answers to their ends.

    Args:
        lengths: of what is drawn.
        again: the share of what is drawn after which the answer is asked for once more.
        least: how many tokens are there of the first that is drawn.
    """
    totals, num_drawn = [], 0
    for place, others in _places():
        total, number = lengths.at(place, least), 1
        for chance, share in others:
            if chance >= again:
                break
            total, number = total + lengths.at(share), number + 1
        totals.append(total)
        num_drawn += number
    return Courses(tuple(sorted(totals)), num_drawn / _NUMBER)


@cache
def _places() -> tuple[tuple[float, tuple[tuple[float, float], ...]], ...]:
    """Return for each course how long what is drawn first is among all, and then by which chance there is more."""
    draw = random.Random(19)

    def shuffled() -> list[float]:
        return draw.sample(_EVENLY, _NUMBER)

    others = zip(*(zip(shuffled(), shuffled(), strict=True) for _ in range(1, _MOST)), strict=True)
    return tuple(zip(_EVENLY, others, strict=True))
