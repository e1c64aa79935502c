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


def reports_of(
    arguments: Sequence[str], time_limit: float, tell: Callable[[str], None], environment: dict[str, str] | None = None
) -> list[dict[str, Any]]:
    """Run `python -m ARGUMENTS` and return what it reported, also if it failed or was too late: that is told."""
    with tempfile.TemporaryFile("w+", encoding="utf-8", errors="replace") as log:
        process = subprocess.Popen(
            [sys.executable, "-m", *arguments],
            cwd=_ROOT,
            stdin=subprocess.DEVNULL,
            stdout=subprocess.PIPE,
            stderr=log,
            encoding="utf-8",
            env={**os.environ, "HF_HUB_OFFLINE": "1", "TOKENIZERS_PARALLELISM": "false", **(environment or {})},
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
            ended.cancel()
            process.kill()
            process.wait()
        if code:
            log.seek(0)
            tell(f"{arguments[0]} ended with {code}: {''.join(log.readlines()[-_LAST_LINES:]).strip()}")
    return found


def reporting() -> Callable[..., None]:
    """Return what prints a report. Libraries print to stdout as they like; the reports keep the real one."""
    reports = os.fdopen(os.dup(1), "w", encoding="utf-8")
    os.dup2(2, 1)

    def report(**fields: object) -> None:
        reports.write(json.dumps(fields) + "\n")
        reports.flush()

    return report
