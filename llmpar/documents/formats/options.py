"""What single formats can be told. Each option reaches its format, and no layer between knows its name."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Any


def _option(help: str, metavar: str | None = None, default: Any = None, **more: Any) -> Any:  # noqa: A002 (the shell's word)
    """Return a field for an option that the command line shows as `--NAME`."""
    shown = {} if metavar is None else {"metavar": metavar}
    return field(default=default, metadata={"help": help, **shown, **more})


@dataclass(frozen=True, slots=True)
class FormatOptions:
    """The options of all formats: a line for each. None, or False, is what the user does not say.

    Args:
        field: names or paths of fields of JSON, whose texts are asked about.
        column: names or numbers (from 1) of a table's columns that are asked about.
        into: the name of the column that answers go into; None for their own.
        no_header: whether a table has no row that names its columns.
        cue_width: the cells that a line of subtitles may have.
    """

    field: list[str] | None = _option(
        "The field of JSON that is the text, by name or path: body, review.body, messages[-1].content, '$..text'; "
        "several times for several. Default for JSONL: the first of text, message, …", "NAME|PATH"
    )  # fmt: skip
    column: list[str] | None = _option(
        "The column of a table (CSV, TSV) that is asked about; several times for several", "NAME|N"
    )
    into: str | None = _option(
        "The column of a table that answers go into, perhaps a new one. Default: their own", "NAME"
    )
    no_header: bool = _option("A table's first row is one like the others; columns have numbers", default=False)
    cue_width: int | None = _option(
        "How wide lines of subtitles may be. Default: as the widest one is", "N", min=10, max=1000
    )


NO_OPTIONS = FormatOptions()
"""What formats are told where nobody says anything."""
