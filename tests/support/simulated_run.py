"""A run without a clock of ours: workers' counts and the report's as they would be, step by step."""

from __future__ import annotations

import random
from collections.abc import Iterator, Sequence
from dataclasses import dataclass

from llmpar.documents.document import Result, text_document, text_segment
from llmpar.engine.worker import WorkerStatus
from llmpar.reporting.report import Report

_SEGMENT = text_segment(text_document("x"), "x")


@dataclass
class _Row:
    read: int
    length: int
    fails: bool = False
    is_last: bool = False
    done: int = 0


def simulate(
    lengths: Sequence[tuple[int, int]],
    num_slots: int,
    reading: float = 0.001,
    writing: float = 0.05,
    *,
    again: float = 0.0,
    is_timed: bool = False,
) -> Iterator[tuple[float, Report, list[WorkerStatus]]]:
    """Yield the time, the report and the status after each step of one worker.

    Args:
        lengths: of each piece, the tokens of its prompt and its answer.
        num_slots: pieces at a time.
        reading: seconds for each token of a prompt.
        writing: seconds for each step, and a hundredth of that for each piece in it.
        again: the share of pieces that are asked for once more.
        is_timed: whether the worker tells how long its passes took.
    """
    report, status = Report(seconds_to_start=0.0), WorkerStatus("decode")
    report.expect_bytes(len(lengths))
    report.read(len(lengths), len(lengths))
    for read, _ in lengths:
        report.read_tokens(read)
    fails = [int(number * again) < int((number + 1) * again) for number in range(len(lengths))]
    waiting = [_Row(*piece, fails=fail) for piece, fail in zip(reversed(lengths), fails, strict=True)]
    running, seconds = list[_Row](), 0.0
    while waiting or running:
        while waiting and len(running) < num_slots:
            running.append(waiting.pop())
            status.num_read += running[-1].read
            seconds += reading * running[-1].read
            status.timing.reading += reading * running[-1].read if is_timed else 0
        step = writing * (1 + len(running) / 100)
        seconds += step
        if is_timed:
            status.timing.add_step(len(running), step)
        for row in running:
            row.done += 1
        status.num_tokens += len(running)
        for row in [row for row in running if row.done >= row.length]:
            running.remove(row)
            report.draw(row.length, is_last=row.is_last)
            if row.fails:
                waiting.insert(0, _Row(row.read, row.length, is_last=True))
                continue
            report.add(Result(_SEGMENT, "a", num_prompt_tokens=row.read, num_output_tokens=row.length))
        status.num_running = len(running)
        status.num_live = sum(row.done for row in running)
        status.num_live_read = sum(row.read for row in running)
        yield seconds, report, [status]


def lengths(count: int, seed: int, *, spread: float = 0.6) -> list[tuple[int, int]]:
    """Return lengths of prompts and answers; the answers follow from the prompts, more or less."""
    draw = random.Random(seed)
    prompts = [round(30 + draw.expovariate(1 / 30)) for _ in range(count)]
    return [(prompt, max(1, round(0.6 * prompt * draw.lognormvariate(0, spread)))) for prompt in prompts]
