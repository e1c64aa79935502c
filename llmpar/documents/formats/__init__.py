"""The formats that documents can have: a line in the table for each, and a module that says all about it."""

from __future__ import annotations

from dataclasses import dataclass
from importlib import import_module
from pathlib import Path
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from llmpar.documents.formats.protocol import Format, Reading


@dataclass(frozen=True, slots=True)
class Entry:
    """Where the class of a format is, which is imported when it is used, and how names of its files end."""

    module: str
    name: str
    suffixes: tuple[str, ...] = ()


FORMATS = {
    "plain": Entry("llmpar.documents.formats.plain", "Plain"),
    "markdown": Entry("llmpar.documents.formats.markdown", "Markdown", (".md", ".markdown", ".mkd", ".rmd", ".qmd")),
    "jsonl": Entry("llmpar.documents.formats.jsonl", "JsonLines", (".jsonl", ".ndjson")),
}
"""The formats by their names, which users give."""


def find_format(name: str, path: Path | None) -> str:
    """Return the format called `name`, or for "auto" the one that the file's name tells."""
    if name != "auto":
        return name
    suffix = path.suffix.lower() if path else ""
    return next((name for name, entry in FORMATS.items() if suffix in entry.suffixes), "plain")


def make_format(reading: Reading, path: Path | None) -> Format:
    """Return the format that a file is read as; see `find_format`."""
    entry = FORMATS[find_format(reading.format, path)]
    made: Format = getattr(import_module(entry.module), entry.name)(reading)
    return made
