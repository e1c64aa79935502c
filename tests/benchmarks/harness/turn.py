"""One turn of one engine: start it in a process of its own, load, warm up, do the job, and end it."""

from __future__ import annotations

import json
import os
import subprocess
import sys
import tempfile
import time
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from harness.job import Job
from harness.processes import busy_seconds, peak_memory, processor_seconds

_ROOT = Path(__file__).parents[1]
_LAST_LINES = 15


@dataclass(frozen=True)
class Contender:
    """An engine as it is to be run: the module in peers/, whose interpreter, and how it is set up.

    `num_sentences` is how many of the job's are asked, None for all; `cores` is what its process is held to.
    """

    name: str
    peer: str
    options: dict[str, Any] = field(default_factory=dict)
    python: str = sys.executable
    model: str | None = None
    num_sentences: int | None = None
    cores: frozenset[int] | None = None


@dataclass(frozen=True)
class Turn:
    """What came of it. `outputs` are token ids by the prompt's index; `others` is the share of processor time that
    went to anything else while the job ran."""

    version: str
    settings: str
    load_seconds: float
    seconds: float
    outputs: dict[int, list[int]]
    peak_memory: int
    others: float

    @property
    def rate(self) -> float:
        """Sentences a second."""
        return len(self.outputs) / self.seconds


class TurnFailed(Exception):
    """The engine ended, or answered what it should not; the message holds the last lines of its stderr."""


def take_turn(contender: Contender, job: Job) -> Turn:
    """Do the job, or the contender's share of it.

    Raises:
        TurnFailed: it did not come to an end.
    """
    indexes = list(range(len(job.prompts))) if contender.num_sentences is None else job.subset(contender.num_sentences)
    cores = contender.cores or frozenset(os.sched_getaffinity(0))
    with tempfile.TemporaryFile("w+", encoding="utf-8", errors="replace") as log:
        started = time.perf_counter()
        process = subprocess.Popen(
            [contender.python, "-m", f"peers.{contender.peer}"],
            cwd=_ROOT,
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            stderr=log,
            encoding="utf-8",
            env={**os.environ, "HF_HUB_OFFLINE": "1", "TOKENIZERS_PARALLELISM": "false"},
        )
        os.sched_setaffinity(process.pid, cores)  # long before it counts them
        try:
            ready = _ask(process, log, {"load": _setup(contender, job, len(cores))})
            load_seconds = time.perf_counter() - started
            _ask(process, log, {"prompts": job.warm_up})
            own, all_busy, began = processor_seconds(process.pid), busy_seconds(), time.perf_counter()
            done = _ask(process, log, {"prompts": [job.prompts[index] for index in indexes]})
            elapsed = (time.perf_counter() - began) * (os.cpu_count() or 1)
            others = busy_seconds() - all_busy - (processor_seconds(process.pid) - own)
            memory = peak_memory(process.pid)
        finally:
            _end(process)
    if len(done["outputs"]) != len(indexes):
        raise TurnFailed(f"{contender.name} answered {len(done['outputs'])} of {len(indexes)} prompts")
    outputs = dict(zip(indexes, done["outputs"], strict=True))
    return Turn(
        ready["version"], ready["settings"], load_seconds, done["seconds"], outputs, memory, max(0.0, others / elapsed)
    )


def _setup(contender: Contender, job: Job, num_cores: int) -> dict[str, Any]:
    return {
        "model": contender.model or str(job.model),
        "prefix_ids": job.prefix_ids,
        "stop_ids": job.stop_ids,
        "max_new_tokens": job.max_new_tokens,
        "num_cores": num_cores,
        "options": contender.options,
    }


def _ask(process: subprocess.Popen[str], log: Any, message: dict[str, Any]) -> dict[str, Any]:
    assert process.stdin
    assert process.stdout
    try:
        process.stdin.write(json.dumps(message) + "\n")
        process.stdin.flush()
        line = process.stdout.readline()
    except BrokenPipeError:
        line = ""
    if not line:
        log.seek(0)
        raise TurnFailed("".join(log.readlines()[-_LAST_LINES:]).strip() or "it ended without a word")
    reply: dict[str, Any] = json.loads(line)
    return reply


def _end(process: subprocess.Popen[str]) -> None:
    """Close its stdin, which ends it; what does not end is made to."""
    assert process.stdin
    try:
        process.stdin.close()
        process.wait(timeout=30)
    except (BrokenPipeError, subprocess.TimeoutExpired):
        process.terminate()
        try:
            process.wait(timeout=10)
        except subprocess.TimeoutExpired:
            process.kill()
            process.wait()
