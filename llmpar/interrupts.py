"""Signals and the time limit: the first ends the run at the next safe moment, a second signal ends it at once."""

from __future__ import annotations

import contextlib
import os
import signal
import sys
from collections.abc import Iterator
from types import FrameType

from llmpar.errors import Interrupted, TimeUp

_SIGNALS = (signal.SIGINT, signal.SIGTERM, signal.SIGHUP)
_MOMENT = 0.01  # seconds
_SHOW_CURSOR = b"\x1b[?25h\n"
_depth = 0  # of the shields that are up
_pending: Interrupted | None = None


def install() -> None:
    """Let signals raise Interrupted in the main thread, wherever it is, unless it is `shielded`."""
    for signum in _SIGNALS:
        if signal.getsignal(signum) is not signal.SIG_IGN:  # nohup keeps its promise
            signal.signal(signum, _on_signal)
    sys.unraisablehook = _on_unraisable


@contextlib.contextmanager
def shielded() -> Iterator[None]:
    """Keep a few steps together that must all happen or none: what interrupts them is raised after the last.

    For the main thread, and for what takes no longer than writing a file.
    """
    global _depth, _pending
    _depth += 1
    try:
        yield
    finally:
        _depth -= 1
        if not _depth and _pending is not None:
            pending, _pending = _pending, None
            raise pending


@contextlib.contextmanager
def time_limit(seconds: float | None) -> Iterator[None]:
    """Raise TimeUp in what is inside after so many seconds, None for never. For the main thread."""
    if seconds is None:
        yield
        return

    def end(signum: int, frame: FrameType | None) -> None:  # noqa: ARG001 (the shape of a handler)
        _interrupt(TimeUp(seconds))

    previous = signal.signal(signal.SIGALRM, end)
    signal.setitimer(signal.ITIMER_REAL, seconds)
    try:
        yield
    finally:
        signal.setitimer(signal.ITIMER_REAL, 0)
        signal.signal(signal.SIGALRM, previous)


def _on_signal(signum: int, frame: FrameType | None) -> None:  # noqa: ARG001
    for other in _SIGNALS:
        if signal.getsignal(other) is not signal.SIG_IGN:
            signal.signal(other, _end_now)
    _interrupt(Interrupted(signum))


def _interrupt(reason: Interrupted) -> None:
    global _pending
    if not _depth:
        raise reason
    _pending = _pending or reason


def _on_unraisable(unraisable: sys.UnraisableHookArgs) -> None:
    """Raise once more, a moment later, what came while an object was finalized: there Python drops it."""
    reason = unraisable.exc_value
    if not isinstance(reason, Interrupted):
        sys.__unraisablehook__(unraisable)
        return
    signal.signal(signal.SIGALRM, lambda *_: _interrupt(reason))
    signal.setitimer(signal.ITIMER_REAL, _MOMENT)


def _end_now(signum: int, frame: FrameType | None) -> None:  # noqa: ARG001
    # Whatever the workers are doing, and whatever is drawn: a person should at least have the cursor back.
    with contextlib.suppress(OSError, ValueError, AttributeError):
        if sys.stderr.isatty():
            os.write(sys.stderr.fileno(), _SHOW_CURSOR)
    os._exit(128 + signum)
