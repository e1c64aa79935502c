"""One contender's trial: its process is started, listened to, and ended at its time limit."""

from __future__ import annotations

import time
from dataclasses import dataclass
from typing import Any

from device.contender import Spec
from device.reports import run_module


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
    started_at = time.monotonic()
    events, error = run_module(module, time_limit, environment)
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
