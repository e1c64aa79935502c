"""One option of the command line, and how options become settings."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import fields
from typing import Any, TypeVar

import typer

from llmpar.cli.roles import Role, with_role

_S = TypeVar("_S")


def option(*names: str, help: str, panel: str, role: Role | None = None, **more: Any) -> Any:  # noqa: A002 (Typer's)
    """Return a Typer option under a heading of the help text; one that takes a path needs a role."""
    shows = more.pop("show_default", True)
    return with_role(typer.Option(*names, help=help, rich_help_panel=panel, show_default=shows, **more), role)


def settings_of(kind: Callable[..., _S], *groups: Any, **others: object) -> _S:
    """Return settings made of the options that bear their names; a setting that is no option keeps its default.

    Args:
        kind: a dataclass of settings.
        groups: dataclasses of options.
        others: settings whose options have another name.
    """
    given = {member.name: getattr(group, member.name) for group in groups for member in fields(group)} | others
    return kind(**{member.name: given[member.name] for member in fields(kind) if member.name in given})  # type: ignore[arg-type]
