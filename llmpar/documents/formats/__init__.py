"""One module per format: which characters of a document are prose, and how they stand on the page."""

from __future__ import annotations

from pathlib import Path

from llmpar.documents.document import Document
from llmpar.documents.formats.jsonl import Jsonl
from llmpar.documents.formats.markdown import Markdown
from llmpar.documents.formats.plain import Plain

_SUFFIXES = {".md": "markdown", ".markdown": "markdown", ".mkd": "markdown", ".rmd": "markdown", ".qmd": "markdown"}
_SUFFIXES |= {".jsonl": "jsonl", ".ndjson": "jsonl"}


def format_name(name: str, path: Path | None) -> str:
    """Return the format called `name`, for "auto" the one that the file's name tells: "plain", "markdown", "jsonl"."""
    if name != "auto":
        return name
    return _SUFFIXES.get(path.suffix.lower(), "plain") if path else "plain"


def format_for(name: str, document: Document, field: str | None = None) -> Plain | Jsonl:
    """Return a new reader of the format called `name`, or for "auto" of the one that the document's name tells.

    A reader keeps state from block to block, so each document has its own. `field` is where JSONL has its text.
    """
    name = format_name(name, document.path)
    if name == "jsonl":
        return Jsonl(document.name, field)
    return Markdown() if name == "markdown" else Plain()
