"""Dataclasses of options → a command's signature, which Typer reads: `takes_options`."""

from __future__ import annotations

import inspect
from collections.abc import Callable
from dataclasses import Field, fields, is_dataclass
from functools import wraps
from typing import Annotated, Any, TypeVar, get_args, get_type_hints

import typer

from llmpar.cli import roles
from llmpar.cli.common_options import COMMON, HELP_ALL
from llmpar.cli.option import option
from llmpar.documents.register import Register
from llmpar.interrupts import time_limit

_F = TypeVar("_F", bound=Callable[..., int])
_KEYWORD = inspect.Parameter.KEYWORD_ONLY


def takes_options(command: _F) -> _F:
    """Let a command take dataclasses of options: Typer sees their fields, the command gets the dataclasses.

    Dataclasses may hold others. Every option may also be set by the environment, as `LLMPAR_` and its name.
    """
    hints = get_type_hints(command, include_extras=True)
    plain: list[inspect.Parameter] = []
    spread: list[inspect.Parameter] = []
    groups: dict[str, type] = {}
    for name, parameter in inspect.signature(command).parameters.items():
        kind = hints[name]
        if is_dataclass(kind):
            groups[name] = kind  # type: ignore[assignment]
        else:
            plain.append(parameter.replace(annotation=_with_variable(name, kind), kind=_KEYWORD))

    for kind in groups.values():
        spread += _parameters(kind)

    parameters = plain + spread
    folding = [HELP_ALL] if command.__name__ in COMMON else []
    found = roles.roles_of({parameter.name: parameter.annotation for parameter in parameters})

    @wraps(command)
    def spread_command(*, help_all: bool = False, **given: Any) -> int:  # noqa: ARG001 (its callback has shown it)
        with time_limit(given.get("max_time")):  # small files are read before the run, and may be pipes
            register = roles.enter_all(found, given, roles.expand_folders(found, given))
            for name, kind in groups.items():
                given[name] = _gathered(kind, given, register)
            return command(**given)

    spread_command.__signature__ = inspect.Signature([*parameters, *folding])  # type: ignore[attr-defined]
    spread_command.__annotations__ = {parameter.name: parameter.annotation for parameter in (*parameters, *folding)}
    return spread_command  # type: ignore[return-value]


def _parameters(kind: type) -> list[inspect.Parameter]:
    """Return a parameter for each option in a dataclass, and in those that it holds."""
    hints = get_type_hints(kind, include_extras=True)
    found: list[inspect.Parameter] = []
    for member in fields(kind):
        hint = hints[member.name]
        if hint is Register:
            continue  # what the options name, and none of them
        if is_dataclass(hint):
            found += _parameters(hint)  # type: ignore[arg-type]
        else:
            annotation = _with_variable(member.name, _with_option(member, hint))
            found.append(inspect.Parameter(member.name, _KEYWORD, default=member.default, annotation=annotation))
    return found


def _with_option(member: Field[Any], hint: Any) -> Any:
    """Return the annotation of an option. Formats know no command line: they describe theirs in plain words."""
    if "help" not in member.metadata:
        return hint
    name = f"--{member.name.replace('_', '-')}"
    return Annotated[hint, option(name, panel="Input", **member.metadata)]


def _gathered(kind: type, given: dict[str, Any], register: Register) -> Any:
    """Return a dataclass of options with its values, which are taken out of `given`."""
    if kind is Register:
        return register
    hints = get_type_hints(kind)
    found = {}
    for name in (member.name for member in fields(kind)):
        is_group = is_dataclass(hints[name]) or hints[name] is Register
        found[name] = _gathered(hints[name], given, register) if is_group else given.pop(name)
    return kind(**found)


def _with_variable(name: str, annotation: Any) -> Any:
    for extra in get_args(annotation)[1:]:
        if isinstance(extra, typer.models.OptionInfo) and extra.envvar is None:
            extra.envvar = f"LLMPAR_{name.upper()}"
            extra.show_envvar = False
    return annotation
