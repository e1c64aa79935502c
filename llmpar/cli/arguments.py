"""What commands make of their arguments: the inputs, and small files."""

from __future__ import annotations

import sys
from pathlib import Path
from typing import Annotated

import typer

from llmpar.errors import InputError, InputUnreadable, UsageError


class NothingToRead(UsageError):
    """No file was named and nobody pipes anything in: a person wants to know how the command works."""


FILES = Annotated[
    list[str] | None,
    typer.Argument(metavar="[FILES]...", help="Documents; - or none is stdin.", show_default=False),
]


def sources_of(files: list[str] | None) -> list[str]:
    """Return what is read: the files, or stdin if something is piped in.

    Raises:
        NothingToRead: a person sits there.
    """
    if files:
        return files
    if sys.stdin is not None and sys.stdin.isatty():
        raise NothingToRead
    return ["-"]


def read_text(file: Path) -> str:
    """Return what a small file of the user's says: a prompt, a schema.

    Raises:
        InputError: it is not UTF-8.
        InputUnreadable: it cannot be read.
    """
    try:
        return file.read_text(encoding="utf-8")
    except OSError as error:
        raise InputUnreadable(f"{file}: cannot be read: {error.strerror}") from error
    except UnicodeDecodeError as error:
        raise InputError(f"{file}: not valid UTF-8 at byte {error.start}") from error
