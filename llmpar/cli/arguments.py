"""What commands make of their arguments: the inputs, and small files."""

from __future__ import annotations

import os
import sys
from pathlib import Path
from typing import Annotated, Any

import typer

from llmpar.cli import roles
from llmpar.cli.roles import Role, with_role
from llmpar.errors import InputError, UsageError
from llmpar.smallfile import read_whole
from llmpar.visible import one_line


class NothingToRead(UsageError):
    """No file was named and nobody pipes anything in: a person wants to know how the command works."""


def argument(*, help: str, role: Role | None, **more: Any) -> Any:  # noqa: A002 (Typer's own word)
    """Return a Typer argument; one that takes a path needs a role."""
    return with_role(typer.Argument(help=help, **more), role)


FILES = Annotated[
    list[str] | None,
    argument(
        metavar="[FILES]...", help="Documents; - or no document is stdin.", show_default=False, role=roles.documents
    ),
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


def names_a_file(text: str) -> bool:
    """Return whether a text is the name of a file; one that is too long for any is none."""
    return os.path.isfile(text)  # noqa: PTH113 (Path's raises where a name is too long)


def refuse_file(option: str, text: str, wanted: str) -> None:
    """Raise UsageError if an option that wants a text has the name of a file, which would be taken for the text."""
    if names_a_file(text):
        raise UsageError(
            f"{option} {one_line(text)}: is a file, and {option} takes {wanted} itself; move the name behind it, or "
            f'write {option} "$(cat FILE)" if the file holds it'
        )


def read_text(file: Path) -> str:
    """Return what a small file of the user's says: a prompt, a schema.

    Raises:
        InputError: it is not UTF-8.
        InputUnreadable: it cannot be read.
    """
    try:
        return read_whole(file).decode("utf-8")
    except UnicodeDecodeError as error:
        raise InputError(f"{one_line(file)}: not valid UTF-8 at byte {error.start}") from error
