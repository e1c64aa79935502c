"""How fast a run was, measured step by step, and how long other work takes at that pace."""

from __future__ import annotations

import math
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING

from llmpar.reporting.courses import Courses, courses
from llmpar.reporting.lengths import Lengths
from llmpar.reporting.report import Report

if TYPE_CHECKING:
    from llmpar.engine.worker import WorkerStatus

_LEAST_SPREAD = 0.01  # of logarithms: answers that are all alike
_FEW = 4.0  # questions that one worker takes
_VARIED = 1.0  # variance of rows from which on something does
_FULL = 1.5  # times as many answers as were ever written at a time: then some had to wait
WRITING = 5.0
"""What a token that is written costs, in tokens that are read: about, on processors of all kinds."""

STEP = 0.3
"""How much of the time of a step it takes however few answers are in it, where nothing tells."""


@dataclass(frozen=True, slots=True)
class Machine:
    """What a run computed on, as far as its pace depends on it; the settings are the user's, None for our choice."""

    model: str
    device: str
    precision: str
    threads: int | None
    batch_size: int | None


@dataclass(frozen=True, slots=True)
class Pace:
    """How fast a run was.

    Args:
        machine: what it computed on.
        job: what was asked, as a digest: another job's answers may be asked for again more often.
        start: seconds until the workers were there.
        num_read: tokens of prompts.
        num_written: tokens of answers.
        num_workers: how many worked at the same time.
        reading: seconds of a worker for a token of a prompt.
        writing: seconds of a worker for a token of an answer, beside what its step takes.
        step: seconds of a step, however few answers are written in it.
        read_again: how often a prompt was read, as bad answers are asked for again, and long ones go on.
        written_again: how many tokens were written for one of those that count.
        num_drawn: how many answers were drawn, those included that were asked for again; 0 if they tell nothing.
        again: the share of these that were, of those that could be.
        length: the mean of the logarithms of how many tokens they had.
        spread: the standard deviation of these.
        num_rows: how many answers were written at a time, if more were waiting; 0 if there was always room.
    """

    machine: Machine
    job: str
    start: float
    num_read: int
    num_written: int
    num_workers: int
    reading: float
    writing: float
    step: float
    read_again: float
    written_again: float
    num_drawn: int
    again: float
    length: float
    spread: float
    num_rows: int = 0

    def expected(self, work: Work) -> float:
        """Return how many seconds some work may take here."""
        seconds = self.start
        for level in work.levels:
            if not level.num_asked:
                continue
            workers = num_at_work(self.num_workers, level.num_asked)
            reading = self.reading * self.read_again * level.num_read
            seconds += (reading + self.writing * self.written_again * level.num_written) / workers
            seconds += self.step * self._courses(level, work.spread).steps(
                level.num_asked, self.num_rows or level.num_asked
            )
        return seconds

    def _courses(self, level: Level, spread: float) -> Courses:
        """Return the ways of a level's answers to their ends, on which as much is written as was for others."""
        varied = math.sqrt(math.log1p((spread / max(1.0, level.mean)) ** 2))
        # What is written beside an answer is one that came to nothing, or an end of its own: about as long as it.
        found = courses(Lengths(0.0, max(varied, _LEAST_SPREAD)), self.written_again - 1)
        scale = level.mean * self.written_again / found.mean
        return Courses(tuple(scale * length for length in found.lengths), found.num_drawn)


@dataclass(frozen=True, slots=True)
class Level:
    """Questions that can be asked at the same time: how many, and how many tokens they and their answers have."""

    num_asked: int
    num_read: float
    num_written: float

    @property
    def mean(self) -> float:
        """How long an answer is."""
        return self.num_written / max(1, self.num_asked)


@dataclass(frozen=True, slots=True)
class Work:
    """What a run would do.

    Args:
        levels: of questions; each begins when answers of the one before are there.
        spread: by how many tokens the lengths of answers differ (standard deviation).
    """

    levels: Sequence[Level]
    spread: float = 0.0


def num_at_work(num_workers: int, num_asked: float) -> float:
    """Return about how many workers are at work of some where so much is asked: one takes a few questions at once."""
    return max(1.0, min(num_workers, num_asked / _FEW))


def measured(machine: Machine, job: str, report: Report, statuses: Iterable[WorkerStatus]) -> Pace | None:
    """Return how fast a run was; None if nothing was timed, as where servers answer.

    Args:
        machine: what it computed on.
        job: what was asked, as a digest.
        report: the run's counts.
        statuses: of its workers, at the end.
    """
    busy = [status for status in statuses if status.timing.reading or status.timing.steps]
    timings = [status.timing for status in busy]
    num_read, num_written = (sum(getattr(status, name) for status in busy) for name in ("num_read", "num_tokens"))
    tokens = report.num_prompt_tokens, report.num_output_tokens
    if not num_read or not all(tokens) or not report.num_drawn:
        return None
    steps, rows, squares = (sum(getattr(one, name) for one in timings) for name in ("steps", "rows", "rows_squared"))
    seconds, products = (sum(getattr(one, name) for one in timings) for name in ("writing", "rows_by_writing"))
    row, step = line_of(steps, rows, squares, seconds, products)
    a_row = num_written / rows if rows else 1.0  # tokens: more than one where some were guessed right
    most = sum(one.most_rows for one in timings)
    length = report.log_lengths / report.num_drawn
    return Pace(
        machine,
        job,
        report.seconds_to_start or 0.0,
        *tokens,
        len(busy),
        sum(one.reading for one in timings) / num_read,
        row / a_row,
        step / a_row,
        max(1.0, num_read / tokens[0]),
        max(1.0, num_written / tokens[1]),
        report.num_drawn,
        report.share_again,
        length,
        math.sqrt(max(0.0, report.squared_log_lengths / report.num_drawn - length**2)),
        most if sum(status.num_done for status in busy) > _FULL * most else 0,
    )


def line_of(steps: float, rows: float, squares: float, seconds: float, products: float) -> tuple[float, float]:
    """Return what a row and a step take: the straight line of least squares through the seconds of steps by rows.

    Args:
        steps: how many there were.
        rows: of all of them.
        squares: of their rows.
        seconds: that they took.
        products: each step's rows times its seconds.
    """
    if not steps:
        return 0.0, 0.0
    mean, variance = rows / steps, squares / steps - (rows / steps) ** 2
    slope = (products / steps - mean * seconds / steps) / variance if variance > _VARIED else 0.0
    # Where all steps have about as many rows, nothing tells the two apart.
    most = seconds / rows
    slope = min(max(slope, 0.0), most) if variance > _VARIED else (1 - STEP) * most
    return slope, seconds / steps - slope * mean
