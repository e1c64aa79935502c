"""What single formats can be told. Each option reaches its format, and no layer between knows its name."""

from __future__ import annotations

from dataclasses import dataclass
from dataclasses import field as option


@dataclass(frozen=True, slots=True)
class FormatOptions:
    """The options of all formats: a line for each. None, or False, is what the user does not say.

    Args:
        field: names or paths of fields of JSON, whose texts are asked about.
        column: names or numbers (from 1) of a table's columns that are asked about.
        into: the name of the column, or the path of the field, that answers go into; None for their own.
        no_header: whether a table has no row that names its columns.
        fuzzy: whether new translations of a catalogue are marked as fuzzy.
        cue_width: the cells that a line of subtitles may have.
        front_matter: whether a Markdown file's title, description and summary are asked about.
    """

    field: list[str] | None = option(
        default=None,
        metadata={
            "help": "The field of JSON with the text, by name or path: body, review.body, messages[-1].content, "
            "'$..text'; may be given several times. Default for JSONL: the first of text, message, …",
            "metavar": "NAME|PATH",
        },
    )
    column: list[str] | None = option(
        default=None,
        metadata={
            "help": "The column of a table (CSV, TSV) that is asked about; may be given several times.",
            "metavar": "NAME|N",
        },
    )
    into: str | None = option(
        default=None,
        metadata={
            "help": "Write answers into this column of a table or field of JSON (answer, review.answer), which may "
            "be new. Default: in the place of the text.",
            "metavar": "NAME|PATH",
        },
    )
    no_header: bool = option(
        default=False,
        metadata={"help": "A table's first row is no heading; its columns have numbers."},
    )
    fuzzy: bool = option(
        default=False,
        metadata={"help": "Mark new translations of a catalogue (PO) as fuzzy, so that somebody looks at them."},
    )
    cue_width: int | None = option(
        default=None,
        metadata={
            "help": "How wide lines of subtitles may be. Default: as wide as the widest one in the file.",
            "metavar": "N",
            "min": 10,
            "max": 1000,
        },
    )
    front_matter: bool = option(
        default=False,
        metadata={"help": "Ask also about the title, description and summary in the front matter of Markdown."},
    )


NO_OPTIONS = FormatOptions()
"""What formats are told where nobody says anything."""
