"""A module in a process of its own that reports with a JSON object on each line."""

from __future__ import annotations

import json
import os
import subprocess
import sys
import tempfile
import threading
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

_ROOT = Path(__file__).parents[1]
_LAST_LINES = 12


def run_module(
    arguments: Sequence[str],
    time_limit: float,
    environment: dict[str, str] | None = None,
    tell: Callable[[str], None] = lambda _: None,
) -> tuple[list[dict[str, Any]], str | None]:
    """Run `python -m ARGUMENTS` for `time_limit` seconds at most: what it reported, and why it did not come to its end.

    Each report is told as it comes.
    """
    with tempfile.TemporaryFile("w+", encoding="utf-8", errors="replace") as log:
        process = subprocess.Popen(
            [sys.executable, "-m", *arguments],
            cwd=_ROOT,
            stdin=subprocess.DEVNULL,
            stdout=subprocess.PIPE,
            stderr=log,
            encoding="utf-8",
            env={**os.environ, "HF_HUB_OFFLINE": "1", **(environment or {})},
        )
        ended = threading.Timer(time_limit, process.kill)
        ended.start()
        found = []
        try:
            assert process.stdout
            for line in process.stdout:
                found.append(json.loads(line))
                tell(line.strip())
            code = process.wait()
        finally:
            was_late = not ended.is_alive()
            ended.cancel()
            process.kill()
            process.wait()
        if not code:
            return found, None
        if was_late:
            return found, f"did not end within {time_limit:g} s"
        log.seek(0)
        return found, "".join(log.readlines()[-_LAST_LINES:]).strip() or f"it ended with {code} and without a word"


def reports_of(
    arguments: Sequence[str], time_limit: float, tell: Callable[[str], None], environment: dict[str, str] | None = None
) -> list[dict[str, Any]]:
    """Run `python -m ARGUMENTS` and return what it reported, also if it failed or was too late: that is told."""
    found, error = run_module(arguments, time_limit, environment, tell)
    if error:
        tell(f"{arguments[0]}: {error}")
    return found


def reporting() -> Callable[..., None]:
    """Return what prints a report. Libraries print to stdout as they like; the reports keep the real one."""
    reports = os.fdopen(os.dup(1), "w", encoding="utf-8")
    os.dup2(2, 1)

    def report(**fields: object) -> None:
        reports.write(json.dumps(fields) + "\n")
        reports.flush()

    return report
