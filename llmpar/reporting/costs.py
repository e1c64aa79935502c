"""What reading, writing and a step cost here, in seconds, learnt while a run goes on.

A step that writes one token for each of many pieces takes little longer than one for few: so the last answers of a run
come slowly for their tokens, and what a token cost on average says too little of them.

    seconds = (reading * tokens read + writing * tokens written) / workers + step * steps

Workers time their passes. What they do not time, as servers do not, is taken from how far they are at each look. At
first, costs are those of an earlier run on this machine, or in their usual proportions; what is seen counts more and
more, the last looks most of all.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING

from llmpar.reporting.pace import STEP, WRITING, Pace, line_of, num_at_work

if TYPE_CHECKING:
    from llmpar.engine.worker import WorkerStatus

_LEAST_TIME = 0.2  # seconds between two looks that are worth comparing
_FADING = 0.985  # what one look counts at the next one
_HELD_READ, _HELD_STEPS = 500.0, 10.0  # tokens and steps that what was known before is as good as
_FIGURES = ("reading", "steps", "rows", "rows_squared", "writing", "rows_by_writing")


class Costs:
    """Learns what a run's work costs from how far it is at each look.

    Args:
        before: how fast an earlier run was here that was like this one, if there was one.
    """

    def __init__(self, before: Pace | None = None) -> None:
        self.before = before
        self.num_busy = 1
        """How many workers have begun, of those that time what they do; of others, all together are one."""
        self._seconds = self._since = 0.0
        self._num_read = self._num_written = self._num_running = 0
        self._timed = [0.0] * len(_FIGURES)
        self._read = self._written = 0.0  # with the figures, all of it fading
        self._figures = [0.0] * len(_FIGURES)

    def look(self, seconds: float, statuses: Sequence[WorkerStatus]) -> None:
        """Take note of how far a run is.

        Args:
            seconds: that the workers have been at work.
            statuses: what each of them is doing.
        """
        passed = seconds - self._seconds
        num_read = sum(status.num_read for status in statuses)
        if num_read != self._num_read:
            self._since = seconds
        if num_read or self.before:
            self.num_busy = max(1, sum(bool(status.num_read or status.num_running) for status in statuses))
        if passed < _LEAST_TIME:
            return
        num_written = sum(status.num_tokens for status in statuses)
        num_running = sum(status.num_running for status in statuses)
        read, written = float(num_read - self._num_read), float(num_written - self._num_written)
        timed = [float(sum(getattr(status.timing, name) for status in statuses)) for name in _FIGURES]
        if any(timed):
            figures = [now - before for now, before in zip(timed, self._timed, strict=True)]
        else:
            figures = _guessed(passed, read, written, max(1.0, (num_running + self._num_running) / 2))
        self._timed = timed
        self._figures = [_FADING * old + new for old, new in zip(self._figures, figures, strict=True)]
        self._read, self._written = _FADING * self._read + read, _FADING * self._written + written
        self._seconds, self._num_running = seconds, num_running
        self._num_read, self._num_written = num_read, num_written

    def read_meanwhile(self, seconds: float) -> float:
        """Return how many tokens of prompts were read since some were last counted, which they are after each pass."""
        reading = self._reading
        return (seconds - self._since) * self.num_busy / reading if reading else 0.0

    def expected(self, num_read: float, num_written: float, num_steps: float, at_once: float = float("inf")) -> float:
        """Return how many seconds so much may take; 0 before anything was done.

        Args:
            num_read: tokens of prompts.
            num_written: tokens of answers.
            num_steps: in which these are written.
            at_once: how many answers are written at the same time.
        """
        writing, step = self._line
        work = self._reading * num_read + writing * num_written
        return work / num_at_work(self.num_busy, at_once) + step * num_steps

    @property
    def _reading(self) -> float:
        """The seconds of a token that is read."""
        held, usual = (_HELD_READ, self.before.reading) if self.before else (0.0, 0.0)
        return (self._figures[0] + held * usual) / (self._read + held) if self._read + held else 0.0

    @property
    def _line(self) -> tuple[float, float]:
        """The seconds of a token that is written, and of a step."""
        _, steps, rows, squares, writing, products = self._figures
        a_row = self._written / rows if rows and self._written else 1.0
        most = rows / steps if steps else float(max(1, self._num_running / self.num_busy))
        if self.before:
            row, step = self.before.writing * a_row, self.before.step * a_row
        else:
            each = writing / rows if rows else WRITING * self._reading
            row, step = (1 - STEP) * each, STEP * each * most
        # As if there had been a few steps of one row, and of as many as there are, that took as long as usual.
        for number in (1.0, most):
            taken = _HELD_STEPS * (step + row * number)
            steps, rows, squares = steps + _HELD_STEPS, rows + _HELD_STEPS * number, squares + _HELD_STEPS * number**2
            writing, products = writing + taken, products + taken * number
        row, step = line_of(steps, rows, squares, writing, products)
        return row / a_row, step / a_row


def _guessed(passed: float, read: float, written: float, rows: float) -> list[float]:
    """Return the figures of a time in which so much was read and written, by so many rows at a time."""
    work = read + WRITING * written
    reading = passed * read / work if work else 0.0
    writing = passed - reading if work else 0.0
    return [reading, written / rows, written, written * rows, writing, writing * rows]
