"""How long answers will be, while some are done and others are being written: those that end first are the shortest."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass
from statistics import NormalDist

_ROUNDS = 40  # of the estimate: enough where three in ten are done; where fewer are, the mean is still too low
_USUAL_SPREAD, _WEIGHT = 0.5, 8.0  # of logarithms, before anything is known; as good as so many answers
_FAR = 6.0  # standard deviations, from where on the tail of a normal distribution is computed by its limit
_NORMAL = NormalDist()


@dataclass(frozen=True, slots=True)
class Lengths:
    """Lengths of answers in tokens, whose logarithms are taken to be normal.

    Args:
        mean: of the logarithms.
        spread: their standard deviation.
        most: the longest that there can be.
    """

    mean: float
    spread: float
    most: float = math.inf

    def at(self, share: float, least: float = 0.0) -> float:
        """Return than which length so many are shorter, 0 to 1, of answers that have at least so many tokens."""
        far = (math.log(least) - self.mean) / self.spread if least >= 1 else -math.inf
        deviations = far - math.log(1 - share) / far if far > _FAR else -_NORMAL.inv_cdf((1 - share) * _beyond(far))
        return min(self.most, max(least, math.exp(self.mean + self.spread * deviations)))


def fitted_lengths(number: float, logs: float, squares: float, running: Sequence[tuple[int, float]]) -> Lengths:
    """Return what is likeliest of answers of which some are known to be longer than so much, and no more (Tobin).

    Args:
        number: of answers that are done, at least one.
        logs: the sum of the logarithms of their lengths.
        squares: the sum of the squares of these.
        running: of those that are being written, how many have how many tokens.
    """
    mean, spread = logs / number, _USUAL_SPREAD
    total = number + sum(count for count, _ in running)
    for _ in range(_ROUNDS):
        first, second = logs, squares
        for count, least in running:
            far = (math.log(max(1.0, least)) - mean) / spread
            more = far + 1 / far if far > _FAR else _density(far) / _beyond(far)
            first += count * (mean + spread * more)
            second += count * (mean**2 + 2 * mean * spread * more + spread**2 * (1 + far * more))
        mean = first / total
        varied = max(0.0, second - total * mean**2)
        spread = math.sqrt((varied + _WEIGHT * _USUAL_SPREAD**2) / (total + _WEIGHT))
    return Lengths(mean, spread)


def _density(far: float) -> float:
    return math.exp(-(far**2) / 2) / math.sqrt(2 * math.pi)


def _beyond(far: float) -> float:
    """Return how much of a normal distribution lies beyond so many standard deviations."""
    return math.erfc(far / math.sqrt(2)) / 2
