"""The options that commands share, as frozen dataclasses; `takes_options` spreads them over a command's signature."""

from __future__ import annotations

import inspect
import sys
from collections.abc import Callable
from dataclasses import dataclass, fields, is_dataclass
from functools import wraps
from pathlib import Path
from typing import Annotated, Any, Literal, TypeVar, get_args, get_type_hints

import typer

from llmpar.documents.document import Unit
from llmpar.errors import UsageError

_F = TypeVar("_F", bound=Callable[..., int])


def option(*names: str, help: str, panel: str, **more: Any) -> Any:  # noqa: A002 (typer's own word)
    """Return a Typer option under a heading of the help text."""
    return typer.Option(*names, help=help, rich_help_panel=panel, show_default=more.pop("show_default", True), **more)


def _auto_count(value: str) -> str:
    if value != "auto" and not (value.isascii() and value.isdigit() and 0 < int(value) <= 4096):
        raise typer.BadParameter(f"{value!r} is neither auto nor a number from 1 to 4096")
    return value


def _device(value: str) -> str:
    kind, _, index = value.partition(":")
    if kind not in ("auto", "cpu", "cuda", "mps") or (":" in value and not (kind == "cuda" and index.isdigit())):
        raise typer.BadParameter(f"{value!r} is not one of auto, cpu, cuda, cuda:N, mps")
    return value


@dataclass(frozen=True, slots=True)
class InputOptions:
    """What is read, and into what it is split."""

    unit: Annotated[
        Unit | None,
        option("--unit", "-u", help="What a piece is. Default: what suits the task.", panel="Input"),
    ] = None
    language: Annotated[
        str,
        option("--language", help="Language of the text, for its sentences: german, french, …", panel="Input"),
    ] = "auto"
    input_format: Annotated[
        Literal["auto", "plain", "markdown"],
        option("--input-format", help="How the text is marked up; auto goes by the file's name.", panel="Input"),
    ] = "auto"
    encoding_errors: Annotated[
        Literal["strict", "surrogateescape"],
        option("--encoding-errors", help="Refuse bytes that are no text, or carry them through.", panel="Input"),
    ] = "strict"


@dataclass(frozen=True, slots=True)
class ModelOptions:
    """Which model answers, and on what."""

    model: Annotated[
        str,
        option("--model", "-m", help="A name (`llmpar models list`), directory, GGUF file or hub name.", panel="Model"),
    ] = "smollm2-135m"
    engine: Annotated[
        Literal["model", "echo"],
        option("--engine", help="echo answers each piece with itself, without a model.", panel="Model"),
    ] = "model"
    device: Annotated[
        str, option("--device", help="auto, cpu, cuda, cuda:1 or mps.", panel="Model", callback=_device)
    ] = "auto"
    precision: Annotated[
        Literal["auto", "fp32", "bf16", "int8"],
        option("--precision", help="Of arithmetic; auto loses nothing that the model file holds.", panel="Model"),
    ] = "auto"
    threads: Annotated[
        str,
        option("--threads", "-j", help="Pieces run on N threads over one copy of the weights.", panel="Model",
               metavar="N|auto", callback=_auto_count),
    ] = "auto"  # fmt: skip
    batch_size: Annotated[
        str,
        option("--batch-size", help="Pieces that each thread runs at once.", panel="Model", metavar="N|auto",
               callback=_auto_count),
    ] = "auto"  # fmt: skip
    offline: Annotated[bool, option("--offline", help="Open no socket; fetch nothing.", panel="Model")] = False


@dataclass(frozen=True, slots=True)
class SamplingOptions:
    """How answers are drawn."""

    max_new_tokens: Annotated[
        int | None,
        option("--max-new-tokens", help="Cut answers here. Default: room that suits the task.", panel="Answers"),
    ] = None
    temperature: Annotated[
        float, option("--temperature", help="0 takes the likeliest token each time.", panel="Answers")
    ] = 0.0
    top_p: Annotated[
        float,
        option("--top-p", help="Draw from the likeliest tokens with this share.", panel="Answers"),
    ] = 1.0
    seed: Annotated[int, option("--seed", help="Equal seeds draw equal answers, for any -j.", panel="Answers")] = 0
    max_repeats: Annotated[
        int,
        option("--max-repeats", help="Stop what says the same more than N times in a row; 0: never.",
               panel="Answers", metavar="N"),
    ] = 4  # fmt: skip


@dataclass(frozen=True, slots=True)
class OutputOptions:
    """Where answers go, and what is shown."""

    output: Annotated[
        Path | None,
        option("--output", "-o", help="Write here instead of stdout; replaced whole, at the end.", panel="Output"),
    ] = None
    output_dir: Annotated[
        Path | None,
        option("--output-dir", help="Write each document here under its own name.", panel="Output"),
    ] = None
    progress: Annotated[
        Literal["auto", "bar", "plain", "json", "none"],
        option("--progress", help="What stderr shows; auto: a bar, on a terminal, outside of pipes.", panel="Output"),
    ] = "auto"
    quiet: Annotated[bool, option("--quiet", "-q", help="No summary line.", panel="Output")] = False
    verbose: Annotated[bool, option("--verbose", "-v", help="Tell what was chosen.", panel="Output")] = False
    dry_run: Annotated[bool, option("--dry-run", help="Count pieces and tokens; load no weights.", panel="Output")] = (
        False
    )


def takes_options(command: _F) -> _F:
    """Let a command take dataclasses of options: Typer sees their fields, the command gets the dataclasses.

    Every option may also be set by the environment, as `LLMPAR_` and its name.
    """
    hints = get_type_hints(command, include_extras=True)
    plain: list[inspect.Parameter] = []
    spread: list[inspect.Parameter] = []
    groups: dict[str, type] = {}
    for name, parameter in inspect.signature(command).parameters.items():
        kind = hints[name]
        if not is_dataclass(kind):
            plain.append(parameter.replace(annotation=_with_variable(name, kind), kind=_KEYWORD))
            continue
        groups[name] = kind  # type: ignore[assignment]
        field_hints = get_type_hints(kind, include_extras=True)
        spread += [
            inspect.Parameter(
                field.name,
                _KEYWORD,
                default=field.default,
                annotation=_with_variable(field.name, field_hints[field.name]),
            )
            for field in fields(kind)
        ]

    @wraps(command)
    def spread_command(**values: Any) -> int:
        for name, kind in groups.items():
            values[name] = kind(**{field.name: values.pop(field.name) for field in fields(kind)})
        return command(**values)

    parameters = plain + spread
    spread_command.__signature__ = inspect.Signature(parameters)  # type: ignore[attr-defined]
    spread_command.__annotations__ = {parameter.name: parameter.annotation for parameter in parameters}
    return spread_command  # type: ignore[return-value]


_KEYWORD = inspect.Parameter.KEYWORD_ONLY


def _with_variable(name: str, annotation: Any) -> Any:
    for extra in get_args(annotation)[1:]:
        if isinstance(extra, typer.models.OptionInfo) and extra.envvar is None:
            extra.envvar = f"LLMPAR_{name.upper()}"
            extra.show_envvar = False
    return annotation


def number(value: str) -> int | None:
    """Return the number that an option of `N|auto` holds, None for auto."""
    return None if value == "auto" else int(value)


def check_sampling(options: SamplingOptions) -> None:
    """Raise UsageError when a number is out of its range; not a number (NaN) is out of every one."""
    ranges = (
        ("--temperature", options.temperature, 0, 100),
        ("--top-p", options.top_p, 0, 1),
        ("--max-repeats", options.max_repeats, 0, sys.maxsize),
        ("--max-new-tokens", 1 if options.max_new_tokens is None else options.max_new_tokens, 1, sys.maxsize),
    )
    for name, value, least, most in ranges:
        if not least <= value <= most:
            raise UsageError(f"{name} {value}: must be {least} or more" + ("" if most > 100 else f", up to {most}"))


def check_output(options: OutputOptions) -> None:
    """Raise UsageError when options exclude each other."""
    for name, path in (("-o", options.output), ("--output-dir", options.output_dir)):
        if str(path) == "-":
            raise UsageError(f"{name} -: name a file or directory; stdout needs no option")
    if options.output and options.output_dir:
        raise UsageError("-o and --output-dir exclude each other")
