"""How far a run is, and how long it may still take: by tokens read and written, learnt from the answers so far."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING

from llmpar.reporting.costs import Costs
from llmpar.reporting.lengths import Lengths, fitted_lengths
from llmpar.reporting.report import Report

if TYPE_CHECKING:
    from llmpar.engine.worker import WorkerStatus

_FEW = 3  # answers that tell something about how long others will be
_EARLY = 1 / 8  # of those being written: the first to end are the shortest, and tell too little time of the others
_MOST_AGAIN = 0.5  # of all pieces: those that are asked again, or fail, which takes as long
_USUAL, _UNKNOWN_SPREAD = 40.0, 0.5  # tokens of an answer, before there is one, and how far logarithms differ


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
        costs: learns from this look, and has learnt from earlier ones.
    """
    costs = costs or Costs()
    num_read = sum(status.num_read for status in statuses)
    num_written = sum(status.num_tokens for status in statuses)
    num_running = sum(status.num_running for status in statuses)
    costs.look(seconds, num_read, num_written, num_running)
    share, seconds_left = None, None
    left = report.num_text_tokens_left
    is_done = report.num_segments_done >= report.num_segments_read and not report.num_coming[0]
    if left is not None and left <= 0 and is_done:
        share, seconds_left = 1.0, 0.0
    elif left is not None and (left > 0 or not is_done) and num_read + num_written:
        expected = _seconds_left(report, statuses, costs, left)
        share = seconds / (seconds + expected) if expected else 0.0
        seconds_left = expected if report.num_asked >= max(_FEW, _EARLY * num_running) else None
    elif left is not None:
        # Only what is kept or repeated was weighed so far: a resumed run has looked into its store, and loads a model.
        share = report.share_of_segments
    return Outlook(
        num_read, num_written, num_read / max(seconds, 1e-9), num_written / max(seconds, 1e-9), share, seconds_left
    )


def _seconds_left(report: Report, statuses: Sequence[WorkerStatus], costs: Costs, left: float) -> float:
    """Return how long it may take to do what is left, of which the prompts that are not done have `left` tokens."""
    num_running = sum(status.num_running for status in statuses)
    num_live = sum(status.num_live for status in statuses)
    num_live_read = sum(status.num_live_read for status in statuses)
    num_waiting = _num_waiting(report, statuses, left)
    lengths, mean_live = _lengths(report, statuses), _mean_live(statuses)
    running = num_running * lengths.expected(mean_live)
    # What is done is known; only of the others it matters whether their lengths are as they are taken to be.
    mean = (report.num_output_tokens + running) / max(1, report.num_asked + num_running)
    again = min(_MOST_AGAIN, (report.num_retried + report.num_failed) / max(1, report.num_asked))
    to_read = max(0.0, left - num_live_read) * (1 + again) + num_live_read * again
    to_write = max(0.0, running - num_live) + (num_waiting * (1 + again) + num_running * again) * mean
    # The last answers are the longest, and few are written beside them.
    least = 0.0 if num_waiting > num_running else mean_live
    tail = max(0.0, lengths.longest(max(1, num_running), least) - lengths.expected(least))
    steps = to_write / max(1, num_running) + tail
    # Then come the questions over answers, a level after the other: each waits for the longest of its answers, and for
    # one that is asked for again.
    num_coming, num_levels = report.num_coming
    coming = num_coming * (1 + again)
    if num_levels:
        at_once = max(1, round(num_coming / num_levels))
        steps += num_levels * lengths.longest(at_once, 0.0) * (1 + min(1.0, again * at_once))
    return costs.expected(to_read + coming * _mean_read(report, statuses), to_write + coming * mean, steps)


def _mean_live(statuses: Sequence[WorkerStatus]) -> float:
    num_running = sum(status.num_running for status in statuses)
    return sum(status.num_live for status in statuses) / max(1, num_running)


def _lengths(report: Report, statuses: Sequence[WorkerStatus]) -> Lengths:
    """Return how long answers are, of those that are done and those that are being written."""
    running = [(status.num_running, status.num_live / status.num_running) for status in statuses if status.num_running]
    if not report.num_asked:
        found = Lengths(math.log(max(_USUAL, 2 * _mean_live(statuses))), _UNKNOWN_SPREAD)
    else:
        found = fitted_lengths(report.num_asked, report.log_lengths, report.squared_log_lengths, running)
    return replace(found, most=report.most_tokens)


def _num_waiting(report: Report, statuses: Sequence[WorkerStatus], left: float) -> float:
    """Return how many questions nobody is at, of `left` tokens of prompts that are not done."""
    num_live_read = sum(status.num_live_read for status in statuses)
    return max(0.0, left - num_live_read) / max(1.0, _mean_read(report, statuses))


def _mean_read(report: Report, statuses: Sequence[WorkerStatus]) -> float:
    """Return how many tokens the prompts have that were begun, on average."""
    num_begun = report.num_asked + sum(status.num_running for status in statuses)
    return (report.num_prompt_tokens + sum(status.num_live_read for status in statuses)) / max(1, num_begun)
