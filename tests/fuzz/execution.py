"""One execution of a target: a key decides its input, so that a finding can be had again."""

from __future__ import annotations

import re
import signal
import time
import traceback
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from random import Random
from typing import Any

Target = Callable[[Random, dict[str, Any]], None]
"""Makes an input from a Random, notes it in a dictionary, and raises unless all is well."""

_SECONDS, _SECONDS_PER_MB = 2.0, 60.0  # of computing; a segment may have one character, and is read twice
_FRAME = re.compile(r'File "[^"]*?([^/"]+/[^/"]+\.py)", line (\d+)')


class TooSlow(BaseException):
    """Raised wherever the target is when its time is up; no Exception, so that nothing takes it for a library's."""


@dataclass(frozen=True)
class Finding:
    """What an execution found: `what` on one line, where it came from, and its input."""

    key: str
    what: str
    trace: str
    record: dict[str, Any]

    @property
    def place(self) -> str:
        """What findings of one cause have in common."""
        frames = _FRAME.findall(self.trace)
        where = ":".join(frames[-1]) if frames else ""
        return re.sub(r"\d+", "N", self.what)[:80] + " @ " + where

    def save(self, directory: Path) -> None:
        """Write the trace, and each input under its own name."""
        directory.mkdir(parents=True, exist_ok=True)
        text = f"{self.key}\n{self.what}\n\n{self.trace}\n"
        for name, value in self.record.items():
            if isinstance(value, bytes):
                (directory / f"input-{name}").write_bytes(value)
            else:
                text += f"\n{name}: {value!r}\n"
        (directory / "finding.txt").write_text(text, encoding="utf-8", errors="backslashreplace")


def execute(target: Target, key: str, seconds: float | None = None) -> Finding | None:
    """Execute a target once; return what it found.

    Args:
        target: the target.
        key: decides the input.
        seconds: of computing that it may take; None for what its input's size allows.
    """
    record: dict[str, Any] = {}
    started = time.process_time()
    limit = seconds or _SECONDS + 2 * _SECONDS_PER_MB  # what hangs; no input is larger than 2 MB
    try:
        with _time_limit(limit):
            target(Random(key), record)
    except (KeyboardInterrupt, GeneratorExit):
        raise
    except BaseException as error:
        what = f"{type(error).__name__}: {error}".splitlines()[0][:300]
        return Finding(key, what, traceback.format_exc(), record)
    took = time.process_time() - started
    size = sum(len(value) for value in record.values() if isinstance(value, bytes))
    allowed = seconds or _SECONDS + _SECONDS_PER_MB * size / 1e6
    if took > allowed:
        return Finding(key, f"TooSlow: {took:.1f} s for {size:,} bytes", "", record)
    return None


@contextmanager
def _time_limit(seconds: float) -> Iterator[None]:
    def end(*_: object) -> None:
        raise TooSlow(f"more than {seconds:g} s")

    before = signal.signal(signal.SIGPROF, end)  # the command line has SIGALRM for its own limit
    signal.setitimer(signal.ITIMER_PROF, seconds)
    try:
        yield
    finally:
        signal.setitimer(signal.ITIMER_PROF, 0)
        signal.signal(signal.SIGPROF, before)
