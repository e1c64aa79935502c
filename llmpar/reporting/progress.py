"""What a person sees on stderr while a run goes on. Reads the report and the workers' status, changes nothing."""

from __future__ import annotations

import contextlib
import json
import os
import stat
import sys
import time
from collections.abc import Callable, Iterable
from typing import TYPE_CHECKING, Any, Literal, TextIO

from llmpar.reporting.report import Report
from llmpar.visible import visible

if TYPE_CHECKING:
    from rich.console import RenderableType

    from llmpar.engine.worker import WorkerStatus

Mode = Literal["auto", "bar", "plain", "json", "none"]

_REDRAW = 0.1  # seconds
_PLAIN_LINE = 10.0
_JSON_LINE = 1.0


class Progress:
    """Shows a run's progress, and keeps other lines out of its way.

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
        self._doing = "reading"
        self._next = time.monotonic() + {"plain": _PLAIN_LINE, "json": _JSON_LINE}.get(self._mode, 0.0)
        self._live: Any = None

    def __enter__(self) -> Progress:
        if self._mode == "bar":
            self._draw()
        return self

    def __exit__(self, *_: object) -> None:
        if self._live:
            self._live.stop()
            self._live = None

    def watch(self, statuses: Callable[[], Iterable[WorkerStatus]]) -> None:
        """Show these workers from now on."""
        self._statuses = statuses
        self._doing = ""
        self._report.begin_work()

    def doing(self, what: str) -> None:
        """Show what is going on before there are workers."""
        self._doing = what
        self._next = 0.0 if self._mode == "bar" else self._next
        self.tick()

    def tick(self) -> None:
        """Show the present state, if it is time to."""
        now = time.monotonic()
        if self._mode == "none" or now < self._next:
            return
        if self._mode == "bar":
            self._next = now + _REDRAW
            self._live.refresh()
        elif self._mode == "plain":
            self._next = now + _PLAIN_LINE
            say(self._line())
        else:
            self._next = now + _JSON_LINE
            say(json.dumps(self._record()))

    def aside(self, action: Callable[[], None]) -> None:
        """Do something to the terminal with the display out of the way."""
        if not self._live:
            action()
            return
        self._live.stop()
        try:
            action()
        finally:
            self._draw()

    def note(self, message: str) -> None:
        """Print a line that everybody should see."""
        self.aside(lambda: say(message))

    def remark(self, message: str) -> None:
        """Print a line for those who asked to be told (`-v`)."""
        if self._verbose:
            self.note(f"llmpar: {message}")

    def warn(self, message: str) -> None:
        """Print a line about what went wrong while the run goes on."""
        self.note(f"llmpar: {message}")

    def _draw(self) -> None:
        from rich.console import Console
        from rich.live import Live

        # A new one each time: a Live that starts again erases as many lines as it drew before it stopped.
        self._live = Live(
            get_renderable=self._render,
            console=Console(stderr=True),
            auto_refresh=False,
            transient=True,
            redirect_stdout=False,
            redirect_stderr=False,
        )
        self._live.start(refresh=True)

    def _rate(self) -> float:
        return sum(status.num_tokens for status in self._statuses()) / max(self._report.seconds, 1e-9)

    def _line(self) -> str:
        report = self._report
        share, left = report.share_done, report.seconds_left
        parts = [f"{report.num_segments_done:,} of {report.num_segments_read:,} {report.noun}s"]
        parts += [f"{share:.0%}"] if share is not None else []
        parts += [f"{report.num_output_tokens:,} tokens", f"{self._rate():,.0f} tokens/s"]
        parts += [f"{_clock(left)} left"] if left is not None else []
        return f"llmpar {self._name}: " + ", ".join(parts) + (f" ({self._doing})" if self._doing else "")

    def _record(self) -> dict[str, object]:
        report = self._report
        return {
            "segments_read": report.num_segments_read,
            "segments_done": report.num_segments_done,
            "segments_failed": report.num_failed,
            "segments_looped": report.num_looped,
            "prompt_tokens": report.num_prompt_tokens,
            "output_tokens": report.num_output_tokens,
            "tokens_per_second": round(self._rate(), 1),
            "share_done": report.share_done,
            "seconds": round(report.seconds, 3),
            "seconds_left": report.seconds_left,
            "workers": [
                {"phase": status.phase, "running": status.num_running, "done": status.num_done}
                for status in self._statuses()
            ],
        }

    def _render(self) -> RenderableType:
        from rich.console import Group
        from rich.progress_bar import ProgressBar
        from rich.table import Table
        from rich.text import Text

        report = self._report
        share, left = report.share_done, report.seconds_left
        head = Table.grid(padding=(0, 2))
        cells: list[RenderableType] = [
            Text(self._name, style="bold"),
            ProgressBar(total=1.0, completed=share or 0.0, width=28, pulse=share is None),
            Text("" if share is None else f"{share:4.0%}", style="progress.percentage"),
            Text(f"{report.num_segments_done:,}/{report.num_segments_read:,} {report.noun}s"),
            Text(f"{report.num_output_tokens:,} tokens", style="progress.data.speed"),
            Text(f"{self._rate():,.0f}/s", style="progress.data.speed"),
            Text("" if left is None else f"{_clock(left)} left", style="progress.remaining"),
        ]
        head.add_row(*cells)
        lines: list[RenderableType] = [head]
        if self._doing:
            lines.append(Text(f"  {self._doing}…", style="dim"))
        for index, status in enumerate(self._statuses()):
            lines.append(Text(f"  worker {index}  {_activity(status)}", style="dim"))
        return Group(*lines)


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


def _activity(status: WorkerStatus) -> str:
    sequences = f"{status.num_running} sequence" + ("" if status.num_running == 1 else "s")
    doing = {
        "start": "starting",
        "idle": "waiting",
        "prefill": f"reading {sequences}",
        "decode": f"writing {sequences}",
        "ended": "ended",
    }[status.phase]
    return f"{doing}, {status.num_done:,} done, {status.num_tokens:,} tokens"


def _clock(seconds: float) -> str:
    minutes, seconds = divmod(int(seconds), 60)
    hours, minutes = divmod(minutes, 60)
    return f"{hours}:{minutes:02}:{seconds:02}"
