"""How far a run is, and how long it may still take: by tokens read and written, learnt from the answers so far."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING

from llmpar.reporting.pace import WRITING
from llmpar.reporting.report import Report

if TYPE_CHECKING:
    from llmpar.engine.worker import WorkerStatus

_FEW = 3  # answers that tell something about how long others will be
_EARLY = 1 / 8  # of those being written: the first to end are the shortest, and tell too little time of the others
_TAIL = 0.25  # of a step's time, for a step with few answers in it: less on a CPU, more on a GPU
_USUAL = 40.0  # tokens of an answer, before there is one


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


def look_ahead(report: Report, statuses: Sequence[WorkerStatus], seconds: float) -> Outlook:
    """Return where a run stands.

    Args:
        report: the run's counts.
        statuses: what each worker is doing.
        seconds: since there were workers.
    """
    num_read = sum(status.num_read for status in statuses)
    num_written = sum(status.num_tokens for status in statuses)
    spent = num_read + WRITING * num_written
    speed = spent / max(seconds, 1e-9)
    share, seconds_left = None, None
    left = report.num_text_tokens_left
    if left is not None and left <= 0 and report.num_segments_done >= report.num_segments_read:
        share, seconds_left = 1.0, 0.0
    elif left is not None and left > 0 and spent:
        cost = _cost_left(report, statuses, left)
        share = spent / (spent + cost)
        num_running = sum(status.num_running for status in statuses)
        if report.num_asked >= max(_FEW, _EARLY * num_running):
            seconds_left = cost / speed + _seconds_of_tail(report, statuses, num_written / max(seconds, 1e-9))
    elif left is not None:
        # Only what is kept or repeated was weighed so far: a resumed run has looked into its store, and loads a model.
        share = report.share_of_segments
    return Outlook(
        num_read, num_written, num_read / max(seconds, 1e-9), num_written / max(seconds, 1e-9), share, seconds_left
    )


def _seconds_of_tail(report: Report, statuses: Sequence[WorkerStatus], write_speed: float) -> float:
    """Return how much longer the last answers take than others, as they are long and few are written beside them."""
    num_running = sum(status.num_running for status in statuses)
    step = num_running / write_speed if write_speed else 0.0
    left = report.longest_answer - max(report.num_output_tokens / report.num_asked, _mean_live(statuses))
    return _TAIL * max(0.0, left) * step


def _mean_live(statuses: Sequence[WorkerStatus]) -> float:
    num_running = sum(status.num_running for status in statuses)
    return sum(status.num_live for status in statuses) / max(1, num_running)


def _cost_left(report: Report, statuses: Sequence[WorkerStatus], left: float) -> float:
    """Return what is left to do, in tokens that are read, of `left` tokens of prompts that are not done."""
    num_running = sum(status.num_running for status in statuses)
    num_live = sum(status.num_live for status in statuses)
    num_live_read = sum(status.num_live_read for status in statuses)
    if report.num_asked:
        mean_written = report.num_output_tokens / report.num_asked
        mean_read = report.num_prompt_tokens / report.num_asked
    else:
        mean_written, mean_read = _USUAL, num_live_read / max(1, num_running)
    # Short answers are done first. One that is being written is taken to be half done, and no shorter than those were.
    running = num_running * max(mean_written, 2 * num_live / max(1, num_running))
    mean = (report.num_output_tokens + running) / max(1, report.num_asked + num_running)
    num_waiting = max(0.0, left - num_live_read) / max(1.0, mean_read)
    written_left = running - num_live + num_waiting * mean
    return max(0.0, left - num_live_read) + WRITING * max(0.0, written_left)
