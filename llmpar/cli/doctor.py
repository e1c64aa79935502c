"""`llmpar doctor`: what this machine has, what would be chosen, and what is missing."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import asdict
from itertools import groupby
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from llmpar.cli import roles
from llmpar.cli.model_options import ModelOptions
from llmpar.cli.option import option, settings_of
from llmpar.cli.signature import takes_options
from llmpar.errors import ModelUnavailable
from llmpar.visible import json_text, one_line

if TYPE_CHECKING:
    from llmpar.answering.choice import ModelChoice
    from llmpar.health.finding import Finding


@takes_options
def doctor(
    as_json: Annotated[bool, option("--json", help="Print one JSON object, for programs.", panel="Output")] = False,
    store: Annotated[
        Path | None,
        option("--store", help="Look at this store.", panel="Store", metavar="FILE", role=roles.store),
    ] = None,
    options: ModelOptions = ModelOptions(),  # noqa: B008
) -> int:
    """Tell what this machine has for llmpar, what would be chosen for a model, and what is missing.

    Nothing is fetched, and no weights are loaded. The exit code is 69 if something that is needed, or that is named
    here, does not work. Example:

    [bold]llmpar doctor --model Qwen/Qwen3-0.6B --endpoint http://localhost:8080[/bold]
    """
    from llmpar.answering.choice import ModelChoice

    choice = settings_of(ModelChoice, options, name=options.model, endpoints=tuple(options.endpoint or ()))
    findings = list(_look(choice, store, is_named=options.model != ModelOptions().model))
    if as_json:
        typer.echo(json_text({"is_well": not any(finding.is_fault for finding in findings), "findings": [
            asdict(finding) for finding in findings
        ]}))  # fmt: skip
    else:
        _show(findings)
    return ModelUnavailable.exit_code if any(finding.is_fault for finding in findings) else 0


def _look(choice: ModelChoice, store: Path | None, *, is_named: bool) -> Iterator[Finding]:
    from llmpar.health import chosen, machine, places, reach, software

    yield from machine.look()
    yield from software.look()
    yield from places.look(store)
    yield from reach.look(choice)
    if not choice.endpoints:
        yield from chosen.look(choice, is_named=is_named)


def _show(findings: list[Finding]) -> None:
    width = max(len(finding.name) for finding in findings)
    for topic, some in groupby(findings, lambda finding: finding.topic):
        typer.echo(f"{topic}:")
        for finding in some:
            mark = "!" if finding.is_fault else " "
            typer.echo(f" {mark} {finding.name:<{width}}  {one_line(finding.value)}")
            if finding.remedy:
                typer.echo(f"   {'':<{width}}  → {one_line(finding.remedy)}")
    num_faults = sum(finding.is_fault for finding in findings)
    typer.echo("everything that is needed is there" if not num_faults else f"{num_faults} of these do not work (!)")
