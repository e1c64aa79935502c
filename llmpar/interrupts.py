"""Signals and the time limit: the first ends the run at the next safe moment, a second signal ends it at once."""

from __future__ import annotations

import contextlib
import os
import signal
import sys
import threading
from collections.abc import Iterator
from types import FrameType

from llmpar.errors import Interrupted, TimeUp

_SIGNALS = (signal.SIGINT, signal.SIGTERM, signal.SIGHUP)
_MOMENT = 0.01  # seconds
_SHOW_CURSOR = b"\x1b[?25h\n"
_depth = 0  # of the shields that are up
_pending: Interrupted | None = None
_is_ending = False
_is_watched = False
_num_seen = 0  # signals, by the watch


def install() -> None:
    """Let signals raise Interrupted in the main thread, wherever it is, unless it is `shielded`."""
    global _is_ending, _num_seen
    _is_ending, _num_seen = False, 0
    _watch()
    for signum in _SIGNALS:
        if signal.getsignal(signum) is not signal.SIG_IGN:  # nohup keeps its promise
            signal.signal(signum, _on_signal)
    sys.unraisablehook = _on_unraisable


def uninstall() -> None:
    """Let signals end the process, now that there is nothing left to keep: Python's own end is no place to raise."""
    for signum in _SIGNALS:
        if signal.getsignal(signum) is not signal.SIG_IGN:
            signal.signal(signum, signal.SIG_DFL)


def is_pending() -> bool:
    """Tell whether something waits for the shield to come down: what takes long in there should give up."""
    return _pending is not None


def is_ending() -> bool:
    """Tell whether a signal or the time limit has come: what is done from then on should not take long."""
    return _is_ending


@contextlib.contextmanager
def shielded() -> Iterator[None]:
    """Keep a few steps together that must all happen or none: what interrupts them is raised after the last.

    For what takes no longer than writing a file. Only the main thread is ever interrupted.
    """
    global _depth, _pending
    if threading.current_thread() is not threading.main_thread():
        yield
        return
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
    global _pending, _is_ending
    _is_ending = True
    if not _depth:
        raise reason
    _pending = _pending or reason


def _watch() -> None:
    """Watch for the second signal in a thread: no handler runs while the main thread is inside a library."""
    global _is_watched
    if _is_watched:
        return
    try:
        reader, writer = os.pipe()
        threading.Thread(target=_count, args=(reader,), name="signals", daemon=True).start()
    except (OSError, RuntimeError):  # no descriptor or thread is left, and handlers must do
        return
    os.set_blocking(writer, False)
    signal.set_wakeup_fd(writer, warn_on_full_buffer=False)
    _is_watched = True


def _count(reader: int) -> None:
    global _num_seen
    while True:
        for signum in os.read(reader, 1):
            if signum in _SIGNALS and signal.getsignal(signum) in (_on_signal, _end_now):
                _num_seen += 1
                if _num_seen > 1:
                    _end_now(signum, None)


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
