"""The engines' part: each contender alone on a shape, and one table of them all."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, field
from statistics import median
from typing import Any

from harness.table import markdown_table

from device.bandwidth import EXPLANATION, decode_bytes
from device.contender import Spec
from device.shapes import make_config
from device.trial import Trial, run_trial
from device.workload import make_workload

HEADER = [
    "engine",
    "shape",
    "requests",
    "useful tokens/s",
    "range",
    "requests/s",
    "first result s",
    "share of bandwidth",
    "loaded s",
    "cold first s",
    "cold last s",
    "memory GB",
]
_ONE_GPU = {"CUDA_VISIBLE_DEVICES": "0"}


@dataclass(frozen=True)
class Contender:
    """An engine as it is to be run. `repeats` jobs are timed, after one of `opening` requests, 0 for as many as they.

    `num_devices` is how many GPUs it may see; it is asked so many times as much.
    """

    name: str
    engine: str
    options: dict[str, Any] = field(default_factory=dict)
    opening: int = 0
    repeats: int = 1
    num_devices: int = 1


def contenders(num_devices: int, batch_size: int, variants: bool = False) -> list[Contender]:
    """Return who takes part; `variants` are other settings of continuous batching than its own choice."""
    found = [
        Contender("llmpar", "llmpar", repeats=3),
        Contender("llmpar -j 2", "llmpar", {"threads": 2}, repeats=3),
    ]
    if num_devices > 1:
        found.append(Contender(f"llmpar, {num_devices} GPUs", "llmpar", repeats=3, num_devices=num_devices))
    counts = {"counts": True}
    found += [
        Contender("llmpar, text", "text", repeats=5),
        Contender("llmpar, counted text", "text", counts, repeats=5),
    ]
    if num_devices > 1:
        found += [
            Contender(f"llmpar, text, {num_devices} GPUs", "text", repeats=5, num_devices=num_devices),
            Contender(f"llmpar, counted text, {num_devices} GPUs", "text", counts, repeats=5, num_devices=num_devices),
        ]
    found += [
        Contender(f"generate, sorted batches of {batch_size}", "generate", {"batch_size": batch_size}, opening=64),
        Contender("continuous batching", "continuous", {"block_size": 256}, opening=64),
    ]
    if variants:
        found += [
            Contender("continuous batching, small blocks", "continuous", {"block_size": 32}, opening=64),
            Contender("continuous batching, graphs", "continuous", {"block_size": 256, "graphs": True}, opening=64),
        ]
    return found


@dataclass(frozen=True)
class Entry:
    """A contender's trial on a shape."""

    contender: Contender
    shape: str
    trial: Trial

    def row(self, bandwidth: float, rows: int) -> list[str]:
        trial = self.trial
        cold, *jobs = trial.jobs
        loaded = f"{trial.load_seconds:.1f}"
        is_whole = cold.requests == jobs[0].requests
        rates = [job.rate for job in jobs]
        workload = make_workload(jobs[0].requests, make_config(self.shape).vocab_size, 1)
        limit = bandwidth * self.contender.num_devices / decode_bytes(make_config(self.shape), workload, rows)
        share = f"{median(rates) / (limit * workload.num_new_tokens):.0%}" if bandwidth else ""
        return [
            self.contender.name,
            self.shape,
            f"{jobs[0].requests:,}",
            f"{median(rates):,.0f}",
            f"{min(rates):,.0f}–{max(rates):,.0f}" if len(rates) > 1 else "",
            f"{median(job.requests / job.seconds for job in jobs):,.1f}",
            f"{median(job.first_seconds for job in jobs):.3f}",
            share,
            loaded,
            f"{trial.since_start(cold.first_at):.1f}",
            f"{trial.since_start(cold.last_at):.1f}" if is_whole else "",
            f"{trial.memory / 1e9:.1f}",
        ]


def run_engines(
    chosen: list[Contender],
    shapes: dict[str, str],
    device: str,
    requests: int,
    peer_requests: int,
    time_limit: float,
    tell: Callable[[str], None],
) -> list[Entry]:
    """Give every contender its trial on each shape (name → directory); one that fails is told, and left out."""
    entries = []
    for shape, directory in shapes.items():
        for contender in chosen:
            count = (requests if contender.engine in ("llmpar", "text") else peer_requests) * contender.num_devices
            spec = Spec(
                engine=contender.engine,
                model=directory,
                device=device,
                precision="bf16",
                vocabulary=make_config(shape).vocab_size,
                jobs=[min(count, contender.opening or count), *[count] * contender.repeats],
                options=contender.options,
            )
            trial = run_trial(spec, time_limit, _ONE_GPU if contender.num_devices == 1 else None)
            if len(trial.jobs) < 2:
                tell(f"{shape}  {contender.name}: FAILED: {trial.error}")
                continue
            if trial.error:
                tell(f"{shape}  {contender.name}: timed {len(trial.jobs) - 1} jobs, then: {trial.error}")
            entries.append(Entry(contender, shape, trial))
            job = trial.jobs[-1]
            took = trial.since_start(job.last_at)
            tell(f"{shape}  {contender.name}: {job.rate:,.0f} tokens/s; the trial took {took:.0f} s; {trial.settings}")
    return entries


def report(entries: list[Entry], bandwidth: float, rows: int, requests: int) -> str:
    if not entries:
        return "every engine failed"
    table = markdown_table(HEADER, [entry.row(bandwidth, rows) for entry in entries])
    workloads = [
        f"- {shape}: {make_workload(requests, make_config(shape).vocab_size, 1)}"
        for shape in dict.fromkeys(entry.shape for entry in entries)
    ]
    legend = (
        "bf16, random weights. Useful tokens are those that were asked for, over the time from the first request to "
        "the last answer, in an engine that has done a job before: llmpar one as large, the others one of 64 requests. "
        "Medians where a range is shown. First result: from the first request. Loaded, cold first and cold last: from "
        "the process's start to when it takes requests, and to the first and last answer of its first job. Memory: "
        "what is taken on the device at the end, what is kept for later included. "
        + (EXPLANATION.format(rows=rows, bandwidth=bandwidth / 1e12) if bandwidth else "")
    )
    return "\n".join([table, "", legend, "", *workloads])
