"""What a run looks like, as lines of text for a width: how far it is, how fast, and what each worker does."""

from __future__ import annotations

import math
import sys
import textwrap
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import TYPE_CHECKING

from llmpar.reporting.outlook import Outlook
from llmpar.reporting.report import Report, counted

if TYPE_CHECKING:
    from llmpar.engine.worker import WorkerStatus

_WIDE = 72  # columns from which on everything is spelled out
_BAR = (10, 30)  # columns of the bar, at least and at most


def picture(
    name: str, report: Report, outlook: Outlook, statuses: Sequence[WorkerStatus], doing: str, columns: int, rows: int
) -> list[str]:
    """Return the lines that show a run.

    Args:
        name: of the task.
        report: the run's counts.
        outlook: how far it is.
        statuses: what each worker is doing.
        doing: what goes on that people wait for, such as loading; "" for nothing else than the work.
        columns: of the terminal.
        rows: of the terminal; some are left free.
    """
    is_wide = columns >= _WIDE
    lines = [_head(name, report, outlook, columns)]
    if doing:
        lines += textwrap.wrap(f"{doing}…", columns - 1, initial_indent="  ", subsequent_indent="  ")
    for parts in (_pieces(report, statuses), _speeds(report, outlook, is_wide=is_wide)):
        lines += _filled([part for part in parts if part], columns - 1)
    most = max(1, rows - len(lines) - 3)
    shown = statuses if len(statuses) <= most else statuses[: most - 1]
    lines += [_worker(index, status, columns) for index, status in enumerate(shown)]
    if len(shown) < len(statuses):
        rest = statuses[len(shown) :]
        lines.append(f"  and {counted(len(rest), 'worker')} more at {sum(s.num_running for s in rest):,} pieces")
    return lines


def clock(seconds: float) -> str:
    """Return a time as hours, minutes and seconds."""
    minutes, seconds = divmod(int(seconds), 60)
    hours, minutes = divmod(minutes, 60)
    return f"{hours}:{minutes:02}:{seconds:02}"


def remaining(seconds: float, before: str = "") -> str:
    """Return a time that is left, a second at least, behind what stands before it; "" when all is done."""
    return f"{before}{clock(math.ceil(seconds))} left" if seconds else ""


def memory() -> int | None:
    """Return how many bytes of memory this process takes; None where the machine does not tell."""
    try:
        pages = int(Path("/proc/self/statm").read_text(encoding="ascii").split()[1])
    except (OSError, ValueError, IndexError):
        return None
    return pages * 4096


def _head(name: str, report: Report, outlook: Outlook, columns: int) -> str:
    share = "" if outlook.share is None else f"{outlook.share:4.0%}"
    left = " so far" if outlook.seconds_left is None else remaining(outlook.seconds_left, "  ")
    after = f"{share}  {clock(report.seconds)}{left}"
    width = min(_BAR[1], columns - 1 - len(name) - len(after) - 3)
    bar = _bar(outlook.share, width) if width >= _BAR[0] else ""
    return f"{name} {bar}{' ' if bar else ''}{after}"


def _bar(share: float | None, width: int) -> str:
    full, empty = ("━", "─") if _has_unicode() else ("#", "-")
    number = round((share or 0.0) * width)
    return full * number + empty * (width - number)


def _has_unicode() -> bool:
    return "utf" in (getattr(sys.stderr, "encoding", None) or "").lower()


def _pieces(report: Report, statuses: Sequence[WorkerStatus]) -> Iterator[str]:
    yield f"{report.num_segments_done:,} of {report.num_segments_read:,} {report.noun}s"
    if num_running := sum(status.num_running for status in statuses):
        yield f"{num_running:,} being answered"
    if report.num_documents > 1:
        yield f"{counted(report.num_documents, 'document')} done"
    for number, what in (
        (report.num_cached, "from the store"),
        (report.num_reused, "repeated"),
        (report.num_retried, "asked again"),
        (report.num_failed, "failed"),
    ):
        yield f"{number:,} {what}" if number else ""


def _speeds(report: Report, outlook: Outlook, *, is_wide: bool) -> Iterator[str]:
    if report.seconds_to_start is None:
        return
    if is_wide:
        yield f"{outlook.num_read:,} tokens read, {outlook.read_speed:,.0f}/s"
        yield f"{outlook.num_written:,} written, {outlook.write_speed:,.0f}/s"
    else:
        yield f"{outlook.num_written:,} tokens written, {outlook.write_speed:,.0f}/s"
    if taken := memory():
        yield f"{taken / 1e9:.1f} GB of memory" if is_wide else f"{taken / 1e9:.1f} GB"


def _filled(parts: Sequence[str], columns: int) -> Iterator[str]:
    """Yield lines of parts, as many on each as go on it."""
    line = ""
    for part in parts:
        longer = f"{line}, {part}" if line else f"  {part}"
        if line and len(longer) > columns:
            yield line
            longer = f"  {part}"
        line = longer
    if line:
        yield line


def _worker(index: int, status: WorkerStatus, columns: int) -> str:
    number = counted(status.num_running, "piece")
    doing = {
        "start": "starting",
        "idle": "waiting",
        "prefill": f"reading {number}",
        "decode": f"writing {number}",
        "ended": "ended",
    }[status.phase]
    place = f" on {status.place}" if status.place else ""
    line = f"  worker {index}{place}  {doing}"
    written = f", {status.num_tokens:,} tokens written", f", {status.num_tokens:,} written", f", {status.num_tokens:,}"
    fitting = (f"{line}{tokens}" for tokens in written if len(line) + len(tokens) < columns)
    return next(fitting, line) if status.num_tokens else line
