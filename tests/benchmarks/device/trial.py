"""One contender's trial: its process is started, listened to, and ended at its time limit."""

from __future__ import annotations

import json
import os
import subprocess
import sys
import tempfile
import threading
import time
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from device.contender import Spec

_ROOT = Path(__file__).parents[1]
_LAST_LINES = 12


@dataclass(frozen=True)
class Job:
    """One job of a trial. Seconds count from its first request."""

    requests: int
    tokens: int
    first_seconds: float
    seconds: float
    first_at: float
    last_at: float
    outputs: list[list[int]] | None

    @property
    def rate(self) -> float:
        """Useful tokens a second."""
        return self.tokens / self.seconds


@dataclass(frozen=True)
class Trial:
    """What came of it; seconds count from the process's start. `error` is None, or why it did not come to its end."""

    settings: str
    load_seconds: float | None
    jobs: list[Job]
    started_at: float
    memory: int
    error: str | None = None

    def since_start(self, moment: float) -> float:
        return moment - self.started_at


def run_trial(spec: Spec, time_limit: float, environment: dict[str, str] | None = None) -> Trial:
    """Start the contender, and return what it reported within `time_limit` seconds."""
    return listen(["device.contender", spec.as_json()], time_limit, environment)


def listen(module: list[str], time_limit: float, environment: dict[str, str] | None = None) -> Trial:
    """Run a module that reports as a contender does."""
    with tempfile.TemporaryFile("w+", encoding="utf-8", errors="replace") as log:
        started_at = time.monotonic()
        process = subprocess.Popen(
            [sys.executable, "-m", *module],
            cwd=_ROOT,
            stdin=subprocess.DEVNULL,
            stdout=subprocess.PIPE,
            stderr=log,
            encoding="utf-8",
            env={**os.environ, "HF_HUB_OFFLINE": "1", "TOKENIZERS_PARALLELISM": "false", **(environment or {})},
        )
        ended = threading.Timer(time_limit, process.kill)
        ended.start()
        try:
            assert process.stdout
            events: list[dict[str, Any]] = [json.loads(line) for line in process.stdout]
            code = process.wait()
        finally:
            was_late = not ended.is_alive()
            ended.cancel()
            process.kill()
            process.wait()
        error = None
        if was_late and code:
            error = f"did not end within {time_limit:g} s"
        elif code:
            log.seek(0)
            error = "".join(log.readlines()[-_LAST_LINES:]).strip() or f"it ended with {code} and without a word"
    return _trial(events, started_at, error)


def _trial(events: list[dict[str, Any]], started_at: float, error: str | None) -> Trial:
    by_kind: dict[str, list[dict[str, Any]]] = {"loaded": [], "job": [], "done": []}
    for event in events:
        by_kind[event["event"]].append(event)
    jobs = [
        Job(
            event["requests"],
            event["tokens"],
            event["first"] - event["started"],
            event["last"] - event["started"],
            event["first"],
            event["last"],
            event["outputs"],
        )
        for event in by_kind["job"]
    ]
    loaded, done = by_kind["loaded"], by_kind["done"]
    return Trial(
        loaded[0]["settings"] if loaded else "",
        loaded[0]["at"] - started_at if loaded else None,
        jobs,
        started_at,
        done[0]["memory"] if done else 0,
        error,
    )
