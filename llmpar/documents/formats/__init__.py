"""One module per format: which characters of a document are prose, and how they stand on the page."""

from __future__ import annotations

from pathlib import Path

from llmpar.documents.formats.markdown import Markdown
from llmpar.documents.formats.plain import Plain

FORMATS: dict[str, type[Plain]] = {"plain": Plain, "markdown": Markdown}
_SUFFIXES = {".md": "markdown", ".markdown": "markdown", ".mkd": "markdown", ".rmd": "markdown", ".qmd": "markdown"}


def format_for(name: str, path: Path | None) -> Plain:
    """Return a new reader of the format called `name`, or for "auto" of the one that the file's name tells.

    A reader keeps state from block to block, so each document has its own.
    """
    if name == "auto":
        name = _SUFFIXES.get(path.suffix.lower(), "plain") if path else "plain"
    return FORMATS[name]()
