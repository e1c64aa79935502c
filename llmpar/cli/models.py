"""`llmpar models`: what models there are, and looking after those on this machine."""

from __future__ import annotations

import os
from pathlib import Path
from typing import Annotated

import typer

from llmpar.cli import roles
from llmpar.cli.arguments import argument
from llmpar.cli.fetching import ask_to_fetch, told
from llmpar.cli.roles import enters_files
from llmpar.cli.words import size
from llmpar.errors import ModelUnavailable
from llmpar.reporting.progress import say
from llmpar.visible import one_line

_OFFLINE = Annotated[bool, typer.Option("--offline", help="Connect to no other machine.", envvar="LLMPAR_OFFLINE")]
_YES = Annotated[bool, typer.Option("--yes", help="Fetch without asking.", envvar="LLMPAR_YES")]

app = typer.Typer(
    no_args_is_help=True, help="List, fetch and remove models. Example: [bold]llmpar models pull smollm2-135m[/bold]"
)
_NAME = Annotated[str, argument(metavar="NAME", help="A name, directory, GGUF file or hub name.", role=roles.model)]


@app.command("list")
def list_() -> int:
    """List the models that have a name, and those on this machine."""
    from llmpar.models.registry import models, models_of_hub

    for entry in [*models(), *models_of_hub()]:
        shown = size(entry.size) if entry.present else "not fetched"
        typer.echo(f"{entry.name:<40} {shown:>12}  {one_line(entry.source)}")
    return 0


@app.command()
@enters_files
def info(name: _NAME, offline: _OFFLINE = False) -> int:
    """Tell what a model costs: licence, languages, download, disk, memory; nothing of it is fetched."""
    from llmpar.models.facts import facts_of

    facts = facts_of(name, offline=offline)
    rows = list(told(facts))
    if facts.place is not None:
        from llmpar.health.chosen import describe

        rows += ((finding.name, finding.value) for finding in describe(name))
    for row, text in rows:
        typer.echo(f"{row:<14} {one_line(text)}")
    return 0


@app.command()
@enters_files
def pull(name: _NAME, yes: _YES = False) -> int:
    """Fetch a model and make it ready, so that later runs need no network."""
    from llmpar.models.registry import resolve

    ask_to_fetch(name, yes=yes)
    _show(resolve(name, notify=say).path)
    return 0


@app.command()
@enters_files
def path(name: _NAME) -> int:
    """Print the directory or GGUF file of a model that is there, for other programs."""
    from llmpar.models.registry import resolve

    _show(resolve(name, offline=True).path)
    return 0


@app.command()
@enters_files
def verify(
    name: Annotated[
        str | None, argument(metavar="[NAME]", help="One model; else everything.", role=roles.model)
    ] = None,
) -> int:
    """Look at every byte that is kept of models, and name what is damaged."""
    from llmpar.models.registry import verify as find_damage

    faults = find_damage(name)
    for fault in faults:
        typer.echo(one_line(fault))
    if faults:
        raise ModelUnavailable(f"{len(faults)} damaged; each is listed above, with what to do")
    typer.echo("everything is as it was kept")
    return 0


@app.command()
@enters_files
def remove(name: _NAME) -> int:
    """Delete a model from the cache."""
    from llmpar.models.registry import remove as remove_model

    freed = remove_model(name)
    typer.echo(f"removed {one_line(name)} ({size(freed)})")
    return 0


def _show(path: Path) -> None:
    typer.echo(os.fsencode(path))  # for programs: its bytes, whatever they are
