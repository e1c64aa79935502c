"""The list of formats in `llmpar/help/format-list.md`, made of what the formats say of themselves.

PYTHONPATH=tests python -m support.formats_table > llmpar/help/format-list.md
"""

from __future__ import annotations

from importlib import import_module

from llmpar.documents.formats import FORMATS
from llmpar.documents.formats.refused import BY_SUFFIX

_HEAD = """\
# format-list: for each format what is prose, what is copied, and the limits

`llmpar help formats` explains formats. A document that is read whole is read to its end before anything of it is
written; others are written while they are read. A program makes this page of what the formats say of themselves
(`tests/support/formats_table.py`).
"""


def table() -> str:
    """Return the page."""
    rows: list[str] = []
    for name, entry in FORMATS.items():
        format_ = getattr(import_module(entry.module), entry.name)
        about = format_.about
        options = ", ".join(f"`--{option.replace('_', '-')}`" for option in entry.options)
        names = ", ".join(f"`{suffix}`" for suffix in entry.suffixes)
        read = "whole" if format_().portion == "document" else "as it comes"
        told = {
            "names": names or "all others",
            "options": options,
            "prose": about.prose,
            "copied": about.kept,
            "read": read,
            "limits": about.limits,
            "places are found by": about.library.replace("read here", "llmpar itself"),
        }
        rows += ["", f"## {name}", "", *(f"- {key}: {text}" for key, text in told.items() if text)]
    kinds: dict[str, list[str]] = {}
    for suffix, refused in BY_SUFFIX.items():
        kinds.setdefault(f"{refused.kind} | {refused.remedy}", []).append(f"`{suffix}`")
    refusals = [f"| {', '.join(suffixes)} | {kind} |" for kind, suffixes in kinds.items()]
    return "\n".join(
        [
            _HEAD.rstrip("\n"),
            *rows,
            "",
            "## Refused",
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
