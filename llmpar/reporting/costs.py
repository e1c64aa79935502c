"""What reading, writing and a step cost here, in seconds, learnt while a run goes on.

A step that writes one token for each of many pieces takes little longer than one for few: so the last answers of a run
come slowly for their tokens, and what a token cost on average says too little of them.

    seconds = reading * tokens read + writing * tokens written + step * steps

At first only their usual proportions are known. The more looks there are, the more these are what was seen, the last
ones most of all (least squares, held near the usual proportions).
"""

from __future__ import annotations

from collections.abc import Sequence

from llmpar.reporting.pace import WRITING

_STEP = 0.3  # of the time of a step with many pieces: what it takes however few they are, before more is known
_LEAST_TIME = 0.2  # seconds between two looks that are worth comparing
_FADING = 0.985  # what one look counts at the next one
_HELD = 6.0  # looks that the usual proportions are as good as
_LEAST_SHARE = 0.05  # of what is usual: nothing is free


class Costs:
    """Learns what a run's work costs from how far it is at each look."""

    def __init__(self) -> None:
        self._products = [[0.0] * 3 for _ in range(3)]
        self._by_time = [0.0] * 3
        self._squares = self._num_looks = 0.0
        self._seconds = self._num_steps = 0.0
        self._num_read = self._num_written = self._num_running = 0

    def look(self, seconds: float, num_read: int, num_written: int, num_running: int) -> None:
        """Take note of how far a run is.

        Args:
            seconds: that the workers have been at work.
            num_read: tokens of prompts.
            num_written: tokens of answers.
            num_running: how many answers are being written.
        """
        passed = seconds - self._seconds
        if passed < _LEAST_TIME:
            return
        written = num_written - self._num_written
        steps = written / max(1.0, (num_running + self._num_running) / 2)
        done = (float(num_read - self._num_read), float(written), steps)
        for row, one in zip(self._products, done, strict=True):
            row[:] = [_FADING * cell + one * other for cell, other in zip(row, done, strict=True)]
        self._by_time = [_FADING * cell + one * passed for cell, one in zip(self._by_time, done, strict=True)]
        self._squares = _FADING * self._squares + passed * passed
        self._num_looks = _FADING * self._num_looks + 1
        self._seconds, self._num_steps = seconds, self._num_steps + steps
        self._num_read, self._num_written, self._num_running = num_read, num_written, num_running

    def expected(self, num_read: float, num_written: float, num_steps: float) -> float:
        """Return how many seconds so much may take; 0 before anything was done."""
        usual = self._usual()
        held = _HELD * self._squares / max(1.0, self._num_looks)
        if not held or not usual[0]:
            return 0.0
        # In units of what is usual, which are all of about the same size.
        matrix = [[cell * usual[i] * usual[j] for j, cell in enumerate(row)] for i, row in enumerate(self._products)]
        for i in range(3):
            matrix[i][i] += held
        found = _solved(matrix, [cell * usual[i] + held for i, cell in enumerate(self._by_time)])
        amounts = (num_read, num_written, num_steps)
        return sum(
            max(_LEAST_SHARE, factor) * cost * amount
            for factor, cost, amount in zip(found, usual, amounts, strict=True)
        )

    def _usual(self) -> tuple[float, float, float]:
        """Return the seconds of a token read, a token written, and a step, in the usual proportions."""
        each = self._seconds / max(1.0, self._num_read + WRITING * self._num_written)
        rows = self._num_written / self._num_steps if self._num_steps else self._num_running
        return each, (1 - _STEP) * WRITING * each, _STEP * WRITING * each * rows


def _solved(matrix: Sequence[list[float]], right: list[float]) -> list[float]:
    """Return what solves linear equations with a positive definite matrix."""
    size = len(right)
    for i in range(size):
        for k in range(i + 1, size):
            factor = matrix[k][i] / matrix[i][i]
            matrix[k][i:] = [low - factor * high for low, high in zip(matrix[k][i:], matrix[i][i:], strict=True)]
            right[k] -= factor * right[i]
    found = [0.0] * size
    for i in reversed(range(size)):
        found[i] = (right[i] - sum(matrix[i][j] * found[j] for j in range(i + 1, size))) / matrix[i][i]
    return found
