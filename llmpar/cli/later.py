"""What `llmpar report` writes: pieces from logs, texts from the store, and settings as far as the store has them."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence

from llmpar.cli.particulars import without_secrets
from llmpar.documents.writer import Writer
from llmpar.pages.page import Fact, Table
from llmpar.reporting.kept import Kept
from llmpar.reporting.logs import read_log
from llmpar.reporting.page import About, RunPage
from llmpar.reporting.progress import say
from llmpar.visible import json_text, one_line

_NOT_LOGGED = "A log does not say which command it was, on which machine, or with which versions."


def write_page(logs: Sequence[str], kept: Kept, writer: Writer) -> None:
    """Write the page of some logs.

    Args:
        logs: paths, "-" for stdin.
        kept: finds what belongs to their records.
        writer: takes the page.

    Raises:
        InputError, InputUnreadable: a file is no log, or cannot be read.
        WriteFailed: the page cannot be written.
    """
    page = RunPage(writer)
    dates: list[str] = []

    def records() -> Iterator[dict[str, object]]:
        for log in logs:
            for record in read_log(log):
                if isinstance(date := record.get("date"), str):
                    dates[:] = [min(dates[0], date), max(dates[1], date)] if dates else [date, date]
                yield record

    try:
        for piece in kept.pieces(records()):
            page.add(piece)
        names = ", ".join("stdin" if log == "-" else one_line(log) for log in logs)
        when = f", written {dates[0]} to {dates[1]}" if dates else ""
        lacks = page.totals.lacks()
        notice = f"{lacks[0].upper()}{lacks[1:]}, or is no longer in the store." if lacks else ""
        page.publish(About("llmpar report", f"From {names}{when}.", notice, _tables(kept.description())))
        if notice:
            say(f"llmpar report: {notice[0].lower()}{notice[1:]}")
    finally:
        page.abandon()


def _tables(description: Mapping[str, object]) -> tuple[Table, ...]:
    """Return what a job's description says, as the store has it."""
    tables = [
        Table(name.capitalize(), tuple(_facts(value)), "As the store has it, of the job that most pieces belong to.")
        for name, value in sorted(description.items())
        if isinstance(value, dict)
    ]
    return (*tables, Table("Command, machine, versions", (), _NOT_LOGGED))


def _facts(settings: Mapping[str, object]) -> Iterator[Fact]:
    for name, value in settings.items():
        if value not in (None, "", [], {}):
            yield Fact(one_line(name), without_secrets(value if isinstance(value, str) else json_text(value)))
