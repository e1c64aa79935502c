"""The table of formats in `llmpar/help/format-table.md`, made of what the formats say of themselves.

PYTHONPATH=tests python -m support.formats_table > llmpar/help/format-table.md
"""

from __future__ import annotations

from importlib import import_module

from llmpar.documents.formats import FORMATS
from llmpar.documents.formats.refused import BY_SUFFIX

_HEAD = """\
# format-table: for each format what is prose, what is copied, and the limits

`llmpar help formats` explains formats. "Whole" in the column "read" means that a document is read to its end before
anything of it is written; the others are written while they are read. A program makes this page of what the formats say
of themselves (`tests/support/formats_table.py`).

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
