"""How long a job's answers are, and how long others will be. Knows no file."""

from __future__ import annotations

import math
from dataclasses import dataclass

_ENOUGH = 8  # answers that tell how the length follows from the prompt's


@dataclass(frozen=True, slots=True)
class Lengths:
    """How long a job's answers are, as sums over them: of tokens read, written, and their squares and products."""

    count: int = 0
    read: float = 0.0
    written: float = 0.0
    read_squared: float = 0.0
    read_by_written: float = 0.0
    written_squared: float = 0.0

    @property
    def spread(self) -> float:
        """By how many tokens the answers differ: the standard deviation."""
        return math.sqrt(max(0.0, self.written_squared / self.count - (self.written / self.count) ** 2))

    def expected(self, num_read: float) -> float:
        """Return how many tokens an answer to a prompt of so many may have: the straight line of least squares."""
        mean_read, mean_written = self.read / self.count, self.written / self.count
        spread = self.read_squared / self.count - mean_read**2
        slope = (self.read_by_written / self.count - mean_read * mean_written) / spread if spread > 1 else 0.0
        # With few answers a line may be as steep as it likes; none is steeper than one that grows as its text does.
        slope = min(max(slope, 0.0), 2.0) if self.count >= _ENOUGH else 0.0
        return max(1.0, mean_written + slope * (num_read - mean_read))
