"""`llmpar help`: the pages of the documentation."""

from __future__ import annotations

import sys
from typing import Annotated, Any

import typer

from llmpar.cli.arguments import argument
from llmpar.help.pages import Page, find_page, find_pages


def help_(
    context: typer.Context,
    topic: Annotated[
        list[str] | None, argument(metavar="[TOPIC]", help="What to read about; else the list of topics.", role=None)
    ] = None,
) -> int:
    """Show a page of the documentation, or list the pages.

    A terminal shows it laid out; a pipe gets its Markdown. Example:

    [bold]llmpar help models[/bold]
    """
    pages = find_pages()
    if topic:
        commands: dict[str, Any] = getattr(context.find_root().command, "commands", {})
        if len(topic) == 1 and topic[0] in commands.keys() - {page.topic for page in pages}:
            typer.echo(f"{topic[0]} is a command: `llmpar {topic[0]} --help` tells its options")
        else:
            _show(find_page(" ".join(topic)))
        return 0
    width = max(len(page.topic) for page in pages)
    for page in pages:
        typer.echo(f"{page.topic:<{width}}  {page.summary}")
    typer.echo("\n`llmpar help TOPIC` shows a page, and `llmpar COMMAND --help` the options of a command.")
    return 0


def _show(page: Page) -> None:
    if not sys.stdout.isatty():
        typer.echo(page.text, nl=False)
        return
    from rich.console import Console
    from rich.markdown import Markdown

    console = Console()
    console.print(Markdown(page.text, hyperlinks=False), width=min(console.width, 100))
