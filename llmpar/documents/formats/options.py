"""What single formats can be told. Each option reaches its format, and no layer between knows its name."""

from __future__ import annotations

from dataclasses import dataclass, field


def _option(help: str, metavar: str) -> str | None:  # noqa: A002 (the command line's word)
    """Return a field for an option that the command line shows as `--NAME`; None where the user does not give it."""
    found: str | None = field(default=None, metadata={"help": help, "metavar": metavar})
    return found


@dataclass(frozen=True, slots=True)
class FormatOptions:
    """The options of all formats: a line for each."""

    field: str | None = _option("The field of a JSONL record that is the text. Default: text, message, …", "NAME")


NO_OPTIONS = FormatOptions()
"""What formats are told where nobody says anything."""
