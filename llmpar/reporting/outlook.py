"""How far a run is, and how long it may still take: by tokens read and written, learnt from the answers so far."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING

from llmpar.reporting.costs import Costs
from llmpar.reporting.courses import courses
from llmpar.reporting.lengths import Lengths, fitted_lengths
from llmpar.reporting.report import Report

if TYPE_CHECKING:
    from llmpar.engine.worker import WorkerStatus

_FEW = 3  # answers that tell something about how long others will be
_EARLY = 1 / 8  # of those being written: the first to end are the shortest, and tell too little time of the others
_USUAL = 40.0  # tokens of an answer, before there is one
_MOST_BEFORE = 64  # drawn answers that those of earlier runs are as good as
_PASS = 10.0  # how much of a pass is left at least, the other way round
_UNKNOWN_AGAIN, _HELD_AGAIN = 0.2, 16  # the share that is asked for again where no run tells; as good as so many


@dataclass(frozen=True, slots=True)
class Outlook:
    """Where a run stands.

    Args:
        num_read: tokens of prompts that workers have read.
        num_written: tokens that they have written, those included that came to nothing.
        read_speed: the former in a second.
        write_speed: the latter.
        share: of the work that is done, 0 to 1; None while the total is unknown.
        seconds_left: None while that cannot be told.
    """

    num_read: int
    num_written: int
    read_speed: float
    write_speed: float
    share: float | None
    seconds_left: float | None


def look_ahead(report: Report, statuses: Sequence[WorkerStatus], seconds: float, costs: Costs | None = None) -> Outlook:
    """Return where a run stands.

    Args:
        report: the run's counts.
        statuses: what each worker is doing.
        seconds: since there were workers.
        costs: learns from this look, and has learnt from earlier ones, and from earlier runs.
    """
    costs = costs or Costs()
    num_read = sum(status.num_read for status in statuses)
    num_written = sum(status.num_tokens for status in statuses)
    num_running = sum(status.num_running for status in statuses)
    costs.look(seconds, statuses)
    share, seconds_left = None, None
    left = report.num_text_tokens_left
    is_done = report.num_segments_done >= report.num_segments_read and not report.num_coming()[0]
    if left is not None and left <= 0 and is_done:
        share, seconds_left = 1.0, 0.0
    elif left is not None and (left > 0 or not is_done) and (num_read + num_written or (costs.before and num_running)):
        expected = _seconds_left(report, statuses, seconds, costs, left)
        share = seconds / (seconds + expected) if expected else 0.0
        is_told = report.num_drawn + _num_before(costs) >= max(_FEW, _EARLY * num_running)
        seconds_left = expected if is_told else None
    elif left is not None:
        # Only what is kept or repeated was weighed so far: a resumed run has looked into its store, and loads a model.
        share = report.share_of_segments
    return Outlook(
        num_read, num_written, num_read / max(seconds, 1e-9), num_written / max(seconds, 1e-9), share, seconds_left
    )


def _seconds_left(report: Report, statuses: Sequence[WorkerStatus], seconds: float, costs: Costs, left: float) -> float:
    """Return how long it may take to do what is left, of which the prompts that are not done have `left` tokens."""
    num_running = sum(status.num_running for status in statuses)
    num_live_read = sum(status.num_live_read for status in statuses)
    mean_read, mean_live = _mean_read(report, statuses), _mean_live(statuses)
    waiting = max(0.0, left - num_live_read)
    num_waiting = waiting / max(1.0, mean_read)
    lengths, again = _lengths(report, statuses, costs), _again(report, costs)
    # Those that are being asked for again will not be once more.
    share_last = min(1.0, max(0, report.num_again - report.num_drawn_last) / max(1.0, num_running + num_waiting))
    fresh, begun = courses(lengths, again), courses(lengths, again * (1 - share_last), mean_live)
    # What is being written ends, what is waiting begins in its place, and the last answers are written beside few.
    to_write = num_running * (begun.mean - mean_live) + num_waiting * fresh.mean
    rows = num_running or _num_rows(costs) or max(1.0, num_waiting)
    steps = begun.longest(num_running) - mean_live if num_running else 0.0
    if num_waiting:
        steps = max(steps, to_write / rows + fresh.longest(min(rows, num_running + num_waiting)) - fresh.mean)
    reading = float(sum(status.num_reading for status in statuses))
    to_read = max(reading / _PASS, reading - costs.read_meanwhile(seconds)) if reading else 0.0
    readings = fresh.num_drawn * _readings(report, statuses, costs, mean_read)
    to_read += (num_waiting * readings + num_running * (readings - 1)) * mean_read
    expected = costs.expected(to_read, to_write, steps, num_running + num_waiting)
    # Then come the questions over answers, a level after the other: each waits for the longest of its answers.
    num_coming, num_levels = report.num_coming(fresh.mean / fresh.num_drawn)
    if num_levels:
        at_once = max(1.0, num_coming / num_levels)
        to_read, to_write = num_coming * readings * mean_read, num_coming * fresh.mean
        expected += costs.expected(to_read, to_write, num_levels * fresh.longest(at_once), at_once)
    return expected


def _num_before(costs: Costs) -> int:
    """Return how many drawn answers those of an earlier run are as good as, which is none if it had another job."""
    return min(_MOST_BEFORE, costs.before.num_drawn) if costs.before else 0


def _num_rows(costs: Costs) -> int:
    return costs.before.num_rows if costs.before else 0


def _again(report: Report, costs: Costs) -> float:
    """Return after which share of what is drawn an answer is asked for once more."""
    held = _num_before(costs)
    before, held = (costs.before.again, held) if costs.before and held else (_UNKNOWN_AGAIN, _HELD_AGAIN)
    seen = report.num_drawn - report.num_drawn_last
    return min(1.0, (report.num_again + held * before) / (seen + held))


def _readings(report: Report, statuses: Sequence[WorkerStatus], costs: Costs, mean_read: float) -> float:
    """Return how often a prompt is read for each answer that is drawn: once more where one that is too long goes on."""
    held = _num_before(costs)
    before = costs.before.read_again / (1 + costs.before.again) if costs.before else 1.0
    num_read = sum(status.num_read + status.num_reading - status.num_live_read for status in statuses)
    return max(1.0, (num_read / max(1.0, mean_read) + held * before) / max(1.0, report.num_drawn + held))


def _mean_live(statuses: Sequence[WorkerStatus]) -> float:
    num_running = sum(status.num_running for status in statuses)
    return sum(status.num_live for status in statuses) / max(1, num_running)


def _lengths(report: Report, statuses: Sequence[WorkerStatus], costs: Costs) -> Lengths:
    """Return how long answers are: those that were drawn, those that are being written, those of an earlier run."""
    running = [(status.num_running, status.num_live / status.num_running) for status in statuses if status.num_running]
    number, logs, squares = float(report.num_drawn), report.log_lengths, report.squared_log_lengths
    if costs.before and (held := _num_before(costs)):
        mean = costs.before.length
        number, logs, squares = number + held, logs + held * mean, squares + held * (mean**2 + costs.before.spread**2)
    if not number:
        number, logs = 1.0, math.log(max(_USUAL, 2 * _mean_live(statuses)))
        squares = logs**2
    return replace(fitted_lengths(number, logs, squares, running), most=report.most_tokens)


def _mean_read(report: Report, statuses: Sequence[WorkerStatus]) -> float:
    """Return how many tokens the prompts have that were begun, on average; of all, while none was."""
    num_begun = report.num_asked + sum(status.num_running for status in statuses)
    if not num_begun:
        return report.num_text_tokens_read / max(1, report.num_segments_read)
    return (report.num_prompt_tokens + sum(status.num_live_read for status in statuses)) / num_begun
