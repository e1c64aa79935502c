"""What a person sees on stderr while a run goes on. Reads the report and the workers' status, changes nothing else."""

from __future__ import annotations

import contextlib
import json
import os
import signal
import stat
import sys
import threading
import time
from collections import deque
from collections.abc import Callable, Iterable
from typing import TYPE_CHECKING, Any, Literal, TextIO

from llmpar.reporting.costs import Costs
from llmpar.reporting.outlook import Outlook, look_ahead
from llmpar.reporting.pace import Pace
from llmpar.reporting.picture import picture, remaining
from llmpar.reporting.report import Report
from llmpar.reporting.screen import Screen, terminal_size
from llmpar.visible import visible

if TYPE_CHECKING:
    from llmpar.engine.worker import WorkerStatus

Mode = Literal["auto", "bar", "plain", "json", "none"]

_REDRAW = 0.2  # seconds
_MOST_SHARE = 0.005  # of the run's time that drawing may take
_PLAIN_LINE = 10.0
_LOOK = 0.5
_JSON_LINE = 1.0


class Progress:
    """Shows a run's progress, and keeps other lines out of its way. SIGUSR1 prints the state one time.

    Args:
        mode: "auto" is a bar on a terminal that can draw one, plain lines on one that cannot, and nothing where
            stderr is no terminal or stdout a pipe.
        name: of the task.
        report: the run's counts.
        verbose: whether notes meant for the curious are shown.
    """

    def __init__(self, mode: Mode, name: str, report: Report, verbose: bool = False) -> None:
        self._name = name
        self._report = report
        self._verbose = verbose
        self._mode = _resolve(mode)
        self._statuses: Callable[[], Iterable[WorkerStatus]] = lambda: ()
        self._costs = Costs()
        self._recall: Callable[[float], Pace | None] | None = None
        self._next_look = 0.0
        self._doing = "reading"
        self._held_up: float | None = None  # since when something keeps the workers from their work
        self._next = time.monotonic() + {"plain": _PLAIN_LINE, "json": _JSON_LINE}.get(self._mode, 0.0)
        self._screen: Screen | None = None
        self._thread = threading.get_ident()
        self._soon: deque[str] = deque()
        self._is_asked = False  # for the state, by the signal
        self._before: Any = None  # what the signal did

    def __enter__(self) -> Progress:
        if self._mode == "bar":
            self._screen = Screen()
            self._draw()
        if threading.current_thread() is threading.main_thread():
            self._before = signal.signal(signal.SIGUSR1, self._on_signal)
        return self

    def __exit__(self, *_: object) -> None:
        self._say_what_waits()
        if self._screen:
            self._screen.erase()
            self._screen = None
        if self._before is not None:
            signal.signal(signal.SIGUSR1, self._before)
            self._before = None

    def watch(self, statuses: Callable[[], Iterable[WorkerStatus]]) -> None:
        """Show these workers from now on."""
        self._statuses = statuses
        self._doing = ""
        self._report.begin_work()

    def recall(self, find: Callable[[float], Pace | None]) -> None:
        """Let the time left begin from how fast an earlier run was.

        Args:
            find: returns that, given how many tokens the prompts have that are to be read.
        """
        self._recall = find

    def doing(self, what: str) -> None:
        """Show what is going on that people wait for; at the next tick, where another thread says so."""
        self._doing = what
        self._time_what_holds_up(is_doing=bool(what))
        if threading.get_ident() != self._thread:
            return
        self._next = 0.0 if self._mode == "bar" else self._next
        self.tick()

    def _time_what_holds_up(self, *, is_doing: bool) -> None:
        if self._held_up is not None:
            self._report.seconds_held_up += time.monotonic() - self._held_up
        at_work = self._report.seconds_to_start is not None
        self._held_up = time.monotonic() if at_work and is_doing else None

    def tick(self) -> None:
        """Show the present state, if it is time to."""
        if self._is_asked:
            self._tell_state()
        self._say_what_waits()
        now = time.monotonic()
        if now >= self._next_look:
            self._next_look = now + _LOOK
            self._outlook(list(self._statuses()))  # from which costs are learnt, whether anything is shown or not
        if self._mode == "none" or now < self._next:
            return
        if self._mode == "bar":
            self._draw()
            taken = time.monotonic() - now
            self._next = now + max(_REDRAW, taken / _MOST_SHARE)
        elif self._mode == "plain":
            self._next = now + _PLAIN_LINE
            say(self._line())
        else:
            self._next = now + _JSON_LINE
            say(json.dumps(self._record()))

    @property
    def statuses(self) -> list[WorkerStatus]:
        """What each worker is doing, or did at the end."""
        return list(self._statuses())

    def aside(self, action: Callable[[], None]) -> None:
        """Do something to the terminal with the display out of the way."""
        if not self._screen:
            action()
            return
        try:
            self._screen.aside(action)
        finally:
            self._draw()

    def note(self, message: str) -> None:
        """Print a line that everybody should see."""
        self.aside(lambda: say(message))

    def note_soon(self, message: str) -> None:
        """Print such a line at the next tick; any thread may call this."""
        self._soon.append(message)

    def remark(self, message: str) -> None:
        """Print a line for those who asked to be told (`-v`)."""
        if self._verbose:
            self.note(f"llmpar: {message}")

    def warn(self, message: str) -> None:
        """Print a line about what went wrong while the run goes on."""
        self.note(f"llmpar: {message}")

    @property
    def is_watched(self) -> bool:
        """Whether somebody sits at a terminal."""
        return sys.stderr is not None and not sys.stderr.closed and sys.stderr.isatty()

    def _say_what_waits(self) -> None:
        while self._soon:
            self.note(self._soon.popleft())

    def _on_signal(self, *_: object) -> None:
        # Nothing is printed in the middle of something else that is; before there are workers, nobody looks for long.
        self._is_asked = True

    def _tell_state(self) -> None:
        self._is_asked = False
        lines = self._picture(columns=100, rows=1000)
        self.note("\n".join([f"llmpar {lines[0]}", *lines[1:]]))

    def _draw(self) -> None:
        if self._screen:
            self._screen.draw(self._picture(*terminal_size()))

    def _picture(self, columns: int, rows: int) -> list[str]:
        statuses = list(self._statuses())
        return picture(self._name, self._report, self._outlook(statuses), statuses, self._doing, columns, rows)

    def _outlook(self, statuses: list[WorkerStatus]) -> Outlook:
        if self._recall and (left := self._report.num_text_tokens_left):
            self._costs.before = self._recall(left)
            self._recall = None
        return look_ahead(self._report, statuses, self._report.seconds_at_work, self._costs)

    def _line(self) -> str:
        statuses = list(self._statuses())
        report, outlook = self._report, self._outlook(statuses)
        parts = [f"{report.num_segments_done:,} of {report.num_segments_read:,} {report.noun}s"]
        num_running = sum(status.num_running for status in statuses)
        parts += [f"{num_running:,} being answered"] if num_running else []
        parts += [f"{outlook.share:.0%}"] if outlook.share is not None else []
        parts += [f"{outlook.num_written:,} tokens", f"{outlook.write_speed:,.0f} tokens/s"]
        parts += [remaining(outlook.seconds_left)] if outlook.seconds_left else []
        return f"llmpar {self._name}: " + ", ".join(parts) + (f" ({self._doing})" if self._doing else "")

    def _record(self) -> dict[str, object]:
        report, statuses = self._report, list(self._statuses())
        outlook = self._outlook(statuses)
        return {
            "segments_read": report.num_segments_read,
            "segments_done": report.num_segments_done,
            "segments_failed": report.num_failed,
            "segments_looped": report.num_looped,
            "prompt_tokens": report.num_prompt_tokens,
            "output_tokens": report.num_output_tokens,
            "tokens_read": outlook.num_read,
            "tokens_written": outlook.num_written,
            "tokens_per_second": round(outlook.write_speed, 1),
            "share_done": outlook.share,
            "seconds": round(report.seconds, 3),
            "seconds_left": outlook.seconds_left,
            "workers": [
                {"phase": status.phase, "running": status.num_running, "done": status.num_done} for status in statuses
            ],
        }


def say(message: str) -> None:
    """Print a line on stderr. Where there is none, or it is full, there is nobody to tell."""
    with contextlib.suppress(OSError, ValueError):
        if sys.stderr is not None:
            print(visible(message), file=sys.stderr, flush=True)  # noqa: T201


def _resolve(mode: Mode) -> Mode:
    if mode != "auto":
        return mode
    if sys.stderr is None or not sys.stderr.isatty() or _is_pipe(sys.stdout):
        return "none"
    return "plain" if os.environ.get("TERM") in (None, "", "dumb", "unknown") else "bar"


def _is_pipe(stream: TextIO | None) -> bool:
    """Tell whether a stream is a pipe, whose reader may write to the terminal that we would draw on."""
    try:
        return stream is not None and stat.S_ISFIFO(os.fstat(stream.fileno()).st_mode)
    except (OSError, ValueError):
        return False
