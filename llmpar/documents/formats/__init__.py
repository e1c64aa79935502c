"""One module per format: which characters of a document are prose, and how they stand on the page."""

from __future__ import annotations

from pathlib import Path

from llmpar.documents.formats.markdown import Markdown
from llmpar.documents.formats.plain import Plain

FORMATS: dict[str, type[Plain]] = {"plain": Plain, "markdown": Markdown}
_SUFFIXES = dict.fromkeys((".md", ".markdown", ".mkd", ".rmd", ".qmd"), "markdown")
_SUFFIXES |= dict.fromkeys((".jsonl", ".ndjson"), "jsonl")


def format_for(name: str, path: Path | None) -> Plain:
    """Return a new reader of a format of prose; see `find_format`.

    A reader keeps state from block to block, so each document has its own.
    """
    return FORMATS[find_format(name, path)]()


def find_format(name: str, path: Path | None) -> str:
    """Return the format called `name`, or for "auto" the one that the file's name tells."""
    if name != "auto":
        return name
    return _SUFFIXES.get(path.suffix.lower(), "plain") if path else "plain"
