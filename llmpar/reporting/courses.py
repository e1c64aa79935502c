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
    totals, num_again = [], 0
    for place, chance in _places():
        total = lengths.at(place, least)
        if chance < again:
            # What is drawn again is about as long: a long text has long answers.
            total, num_again = total + lengths.at(place), num_again + 1
        totals.append(total)
    return Courses(tuple(sorted(totals)), 1 + num_again / _NUMBER)


@cache
def _places() -> tuple[tuple[float, float], ...]:
    """Return for each course how long what is drawn is among all, and by which chance it is asked for once more."""
    evenly = [(index + 0.5) / _NUMBER for index in range(_NUMBER)]
    return tuple(zip(evenly, random.Random(19).sample(evenly, _NUMBER), strict=True))
