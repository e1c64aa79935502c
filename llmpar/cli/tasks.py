"""`llmpar tasks`: what there is to ask, and how it is asked."""

from __future__ import annotations

from typing import Annotated

import typer

from llmpar.cli import roles
from llmpar.cli.arguments import argument
from llmpar.cli.roles import enters_files

app = typer.Typer(
    help="What can be asked by name, and the files that say how.",
    no_args_is_help=True,
    context_settings={"help_option_names": ["-h", "--help"]},
)


@app.command("list")
def list_() -> None:
    """List the tasks, with what each is for. One's own are files in the directory that is named last."""
    from llmpar.errors import LlmparError
    from llmpar.tasks.files import list_tasks, own_directory, parse_task

    files = list_tasks()
    width = max(len(file.name) for file in files)
    for file in files:
        try:
            description = parse_task(file.name, file.source, file.name).description
        except LlmparError as error:  # the others are worth showing all the same
            description = f"damaged: {error}"
        typer.echo(f"{file.name:<{width}}  {'' if file.is_builtin else '(yours) '}{description}")
    if place := own_directory():
        typer.echo(f"\nyour own: {place}/NAME.toml")


@app.command()
@enters_files
def show(name: Annotated[str, argument(help="A task's name or file.", role=roles.task)]) -> None:
    """Print a task's file, to be read, or to begin one's own with."""
    from llmpar.tasks.files import find_file

    typer.echo(find_file(name).source, nl=False)
