"""The cores' part: llmpar's speed on the CPU against the number of workers, its own choice, and one core alone."""

from __future__ import annotations

import os
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

from harness.job import Job
from harness.table import markdown_table
from harness.turn import Contender, TurnFailed, take_turn

from device.shapes import make_config
from device.workload import make_workload

HEADER = ["path", "workers", "cores", "prompts", "tokens/s", "against one core", "efficiency", "others", "load s"]
_NUM_WARM_UP = 16


@dataclass(frozen=True)
class Measured:
    """One setting: `workers` is 0 for llmpar's own choice. `others` is what others used of the processors."""

    path: str
    workers: int
    num_cores: int
    num_prompts: int
    rate: float
    others: float
    load_seconds: float
    settings: str


def run_cores(
    path: str,
    directory: Path,
    shape: str,
    precision: str,
    workers: list[int],
    prompts_per_core: int,
    num_new_tokens: int,
    tell: Callable[[str], None],
) -> list[Measured]:
    """Measure one path: one core alone, then each number of workers on all cores, then llmpar's choice.

    The work grows with the cores that can take part, so that a turn takes about as long with many as with one.
    """
    cores = sorted(os.sched_getaffinity(0))
    settings = [(1, cores[:1]), *((number, cores) for number in workers), (0, cores)]
    vocabulary = make_config(shape).vocab_size
    found: list[Measured] = []
    for number, held_to in settings:
        busy = len(held_to) if number == 0 else min(number, len(held_to))
        drawn = make_workload(prompts_per_core * busy, vocabulary, 1)
        warm_up = make_workload(_NUM_WARM_UP * busy, vocabulary, 0).prompts
        job = Job(directory, drawn.prompts, warm_up, [], num_new_tokens)
        contender = Contender(
            f"{path} -j {number or 'auto'} on {len(held_to)} cores",
            "llmpar",
            {"precision": precision, "threads": number, "batch_size": 0},
            cores=frozenset(held_to),
        )
        try:
            turn = take_turn(contender, job)
        except TurnFailed as error:
            tell(f"{contender.name}: FAILED: {error}")
            continue
        rate = sum(map(len, turn.outputs.values())) / turn.seconds
        found.append(
            Measured(
                path, number, len(held_to), len(drawn.prompts), rate, turn.others, turn.load_seconds, turn.settings
            )
        )
        tell(f"{contender.name}: {rate:,.0f} tokens/s in {turn.seconds:.1f} s; {turn.settings}")
    return found


def report(measured: list[Measured], num_new_tokens: int) -> str:
    lone = {item.path: item.rate for item in reversed(measured) if item.num_cores == 1}
    best = {
        path: max((item.rate for item in measured if item.path == path and item.workers), default=0.0)
        for path in dict.fromkeys(item.path for item in measured)
    }
    rows = []
    for item in measured:
        gain = item.rate / lone[item.path] if item.path in lone else None
        rows.append(
            [
                item.path,
                str(item.workers or "auto"),
                str(item.num_cores),
                f"{item.num_prompts:,}",
                f"{item.rate:,.0f}",
                f"{gain:.2f} ×" if gain else "",
                f"{gain / item.num_cores:.0%}" if gain else "",
                f"{item.others:.0%}",
                f"{item.load_seconds:.1f}",
            ]
        )
    choices = [
        f"- {item.path}: llmpar's own choice reaches {item.rate / best[item.path]:.0%} of the best; {item.settings}"
        for item in measured
        if not item.workers and best[item.path]
    ]
    return "\n".join(
        [
            markdown_table(HEADER, rows),
            "",
            f"135M shape, random weights, {num_new_tokens} new tokens for each prompt. The first row of a path is one "
            "worker held to one core; efficiency is the gain over it for each core. Others: the share of the "
            "processors that anything else used.",
            "",
            *choices,
        ]
    )
