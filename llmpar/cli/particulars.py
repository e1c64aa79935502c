"""What a report says of a run besides its pieces: command, settings, versions and machine, and no secrets."""

from __future__ import annotations

import os
import re
import shlex
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import fields, is_dataclass

from llmpar.cli.options import RunOptions
from llmpar.documents.register import Register
from llmpar.health import machine, software
from llmpar.pages.page import Fact, Table
from llmpar.visible import one_line

_HIDDEN = "…"
_SHORTEST = 8  # characters of a variable's value that may be a key: shorter ones are words of any text
_NAMES_SECRET = re.compile(r"KEY|TOKEN|SECRET|PASSWORD|PASSWD|CREDENTIAL", re.IGNORECASE)
_SECRETS = (
    re.compile(r"(?<=://)[^/@\s]+(?=@)"),  # a user's name and password in a URL
    re.compile(r"\b(?:sk-|hf_|gh[pousr]_|xox[abp]-|AKIA)[\w-]{8,}"),  # how well-known services begin their keys
    re.compile(r"(?<=Bearer )[^\s'\"]+"),
    re.compile(r"(?<![\w-])(?<=[?&])[^\s'\"=]+=[^\s'\"&]+"),
    re.compile(r"(?i)(?:(?<=key=)|(?<=token=)|(?<=secret=)|(?<=password=))[^\s'\"&]+"),
)

_commanded: list[str] = []


@contextmanager
def commanded(arguments: Sequence[str]) -> Iterator[None]:
    """Take note of the command line that runs inside, for its report."""
    global _commanded
    before, _commanded = _commanded, list(arguments)
    try:
        yield
    finally:
        _commanded = before


def command() -> str:
    """Return the command line that runs, as a shell takes it."""
    return without_secrets(shlex.join(["llmpar", *_commanded]))


def tables_of(options: RunOptions) -> tuple[Table, ...]:
    """Return what a report says of a run with these options, on this machine."""
    given, usual = _settings(options)
    return (
        Table("Command", (Fact("Command", command()),)),
        Table("Settings", (*given, *usual), "Those that differ from the defaults come first, and say so."),
        versions(),
        Table("Machine", tuple(Fact(found.name, one_line(found.value)) for found in machine.brief())),
    )


def versions() -> Table:
    """Return the versions of llmpar and of what it stands on."""
    return Table("Versions", tuple(Fact(found.name, one_line(found.value)) for found in software.look()))


def without_secrets(text: str) -> str:
    """Return a text in which nothing is left that looks like a key, or that a variable for one holds."""
    values = [value for name, value in os.environ.items() if _NAMES_SECRET.search(name) and len(value) >= _SHORTEST]
    for value in sorted(values, key=len, reverse=True):
        # A variable may hold a file's name, which is no secret and stands on many command lines.
        if not os.path.exists(value):  # noqa: PTH110 (Path's raises where a name is too long)
            text = text.replace(value, _HIDDEN)
    for secret in _SECRETS:
        text = secret.sub(_HIDDEN, text)
    return text


def _settings(options: object) -> tuple[list[Fact], list[Fact]]:
    """Return the settings in a dataclass of options that differ from the defaults, and the others that are anything."""
    given: list[Fact] = []
    usual: list[Fact] = []
    defaults = type(options)()
    for member in fields(options):  # type: ignore[arg-type]
        value = getattr(options, member.name)
        if isinstance(value, Register):
            continue
        if is_dataclass(value) and not isinstance(value, type) and _is_group(value):
            for mine, others in zip((given, usual), _settings(value), strict=True):
                mine += others
            continue
        name = f"--{member.name.replace('_', '-')}"
        if value != getattr(defaults, member.name):
            given.append(Fact(f"{name} (given)", without_secrets(_told(value))))
        elif value is not None and value != "":
            usual.append(Fact(name, _told(value)))
    return given, usual


def _is_group(value: object) -> bool:
    """Tell whether a value holds options, and is none itself."""
    return type(value).__name__.endswith("Options")


def _told(value: object) -> str:
    if isinstance(value, bool):
        return "yes" if value else "no"
    if isinstance(value, list | tuple):
        return ", ".join(map(_told, value))
    return one_line(value)
