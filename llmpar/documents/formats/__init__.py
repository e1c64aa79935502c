"""The formats that documents can have: a line in the table for each, and a module that says all about it."""

from __future__ import annotations

from dataclasses import dataclass
from importlib import import_module
from pathlib import Path
from typing import TYPE_CHECKING

from llmpar.errors import InputError, setting
from llmpar.visible import one_line

if TYPE_CHECKING:
    from llmpar.documents.formats.protocol import Format, Reading
    from llmpar.documents.formats.refused import Refused
    from llmpar.documents.source import Source


@dataclass(frozen=True, slots=True)
class Entry:
    """A format: where its class is, which is imported when it is used, and how it is known.

    Args:
        module: of the class.
        name: of the class.
        suffixes: how names of its files end.
        options: the names of those `FormatOptions` that it heeds.
        needs: the name of the one that it cannot do without, None for none.
    """

    module: str
    name: str
    suffixes: tuple[str, ...] = ()
    options: tuple[str, ...] = ()
    needs: str | None = None


_ROOM = "llmpar.documents.formats"
FORMATS = {
    "plain": Entry(f"{_ROOM}.plain", "Plain"),
    "markdown": Entry(
        f"{_ROOM}.markdown", "Markdown", (".md", ".markdown", ".mkd", ".mdx", ".rmd", ".qmd"), ("front_matter",)
    ),
    "jsonl": Entry(f"{_ROOM}.jsonl", "JsonLines", (".jsonl", ".ndjson"), ("field", "into")),
    "json": Entry(f"{_ROOM}.json_document", "JsonDocument", (".json",), ("field", "into"), "field"),
    "csv": Entry(f"{_ROOM}.table", "Table", (".csv", ".tsv", ".tab"), ("column", "into", "no_header"), "column"),
    "html": Entry(f"{_ROOM}.html_page", "Html", (".html", ".htm", ".xhtml", ".xht")),
    "srt": Entry(f"{_ROOM}.srt", "SubRip", (".srt",), ("cue_width",)),
    "vtt": Entry(f"{_ROOM}.vtt", "WebVtt", (".vtt",), ("cue_width",)),
    "po": Entry(f"{_ROOM}.po", "Po", (".po", ".pot"), ("fuzzy",)),
    "properties": Entry(f"{_ROOM}.properties", "Properties", (".properties",)),
}
"""The formats by their names, which users give."""
TEXTS = (".txt", ".text")
"""How names of files end whose users say that they are prose, or at least no table."""


def find_format(name: str, path: Path | None, source: Source | None = None, *, is_table: bool = False) -> str:
    """Return the format called `name`, or for "auto" the one that the file's name tells, else its beginning.

    Args:
        name: of a format, or "auto".
        path: the file's; None if it has no name.
        source: the file, opened; None if nobody can look at it.
        is_table: whether the user speaks of columns, so that a text that looks like nothing else is a table.

    Raises:
        InputError: it is of a kind that is not read.
        InputUnreadable: it cannot be read.
    """
    if name != "auto":
        return name
    from llmpar.documents.formats.refused import BY_SUFFIX
    from llmpar.documents.source import suffix_of

    suffix = suffix_of(path) if path else ""
    told = next((name for name, entry in FORMATS.items() if suffix in entry.suffixes), None)
    if told is not None:
        return told
    found: str | Refused = BY_SUFFIX.get(suffix, "plain")
    if found == "plain" and source is not None:
        from llmpar.documents.formats.recognition import recognise

        found = recognise(source)
    if found == "plain" and is_table and suffix not in TEXTS:
        return "csv"
    if isinstance(found, str) and found in FORMATS:
        return found
    shown = source.shown if source else one_line(str(path))
    from llmpar.documents.formats.recognition import is_binary

    # Who insists may have a text read as plain text. What is none would only be nonsense.
    is_text = source is None or not is_binary(source)
    way_out = f"; {setting('input_format', 'plain')} takes it for plain text" if is_text else ""
    raise InputError(f"{shown}: {_refusal(found)}{way_out}")


def _refusal(found: str | Refused) -> str:
    if isinstance(found, str):
        return f"looks like {found}, which is not read"
    return f"is {found.kind}, which is not read: {found.remedy}"


def make_format(reading: Reading, name: str) -> Format:
    """Return the format of this name, which a document is read as; see `find_format`."""
    entry = FORMATS[name]
    made: Format = getattr(import_module(entry.module), entry.name)(reading)
    return made
