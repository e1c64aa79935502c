"""The table of formats in `llmpar/documents/formats/README.md`, made of what the formats say of themselves.

PYTHONPATH=tests python -m support.formats_table > llmpar/documents/formats/README.md
"""

from __future__ import annotations

from importlib import import_module

from llmpar.documents.formats import FORMATS
from llmpar.documents.formats.refused import BY_SUFFIX

_HEAD = """\
# Formats

A program makes this page (`tests/support/formats_table.py`), of what the formats say of themselves; a test holds it
against them. What a file is follows from its name, else from its beginning; `--input-format NAME` says it. "Whole" is a
format whose documents are read to their end before anything is written; the others stream. `.gz` and `.zst` come in all
of them, and come back compressed.

| format | names | options | prose | copied | read | limits | places are found by |
|---|---|---|---|---|---|---|---|
"""


def table() -> str:
    """Return the page."""
    rows = []
    for name, entry in FORMATS.items():
        format_ = getattr(import_module(entry.module), entry.name)
        about = format_.about
        options = ", ".join(f"`--{option.replace('_', '-')}`" for option in entry.options)
        names = ", ".join(f"`{suffix}`" for suffix in entry.suffixes)
        read = "whole" if format_().portion == "document" else "as it comes"
        cells = (f"`{name}`", names, options, about.prose, about.kept, read, about.limits, about.library)
        rows.append(f"| {' | '.join(cells)} |")
    kinds: dict[str, list[str]] = {}
    for suffix, refused in BY_SUFFIX.items():
        kinds.setdefault(f"{refused.kind} | {refused.remedy}", []).append(f"`{suffix}`")
    refusals = [f"| {', '.join(suffixes)} | {kind} |" for kind, suffixes in kinds.items()]
    return "\n".join(
        [
            _HEAD + "\n".join(rows),
            "",
            "These are recognised, by their names or their beginnings, and refused (exit code 65):",
            "",
            "| names | kind | what to do, or why |",
            "|---|---|---|",
            *refusals,
            "",
        ]
    )


if __name__ == "__main__":
    print(table(), end="")
