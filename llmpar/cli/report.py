"""`llmpar report`: the page that `--report` writes, made later from a log and the store."""

from __future__ import annotations

import sys
from contextlib import closing
from pathlib import Path
from shlex import quote
from typing import Annotated

import typer

from llmpar.cli import roles
from llmpar.cli.arguments import argument, sources_of
from llmpar.cli.roles import enters_files, with_role
from llmpar.errors import UsageError
from llmpar.visible import one_line


def is_terminal() -> bool:
    """Tell whether stdout is one."""
    return sys.stdout is not None and sys.stdout.isatty()


@enters_files
def report(
    logs: Annotated[
        list[str] | None,
        argument(
            metavar="[LOG.jsonl]...",
            help="What --log or --errors wrote; - or none is stdin.",
            show_default=False,
            role=roles.documents,
        ),
    ] = None,
    output: Annotated[
        Path | None,
        with_role(
            typer.Option(
                "--output",
                "-o",
                metavar="FILE.html",
                help="Write here; without it, the page goes to stdout if that is no terminal.",
            ),
            roles.output,
        ),
    ] = None,
    store: Annotated[
        Path | None,
        with_role(
            typer.Option("--store", metavar="FILE", help="Not the usual store.", envvar="LLMPAR_STORE"), roles.store
        ),
    ] = None,
) -> int:
    """Make a page for a browser of a run's log, with the texts and answers that the store has kept.

    It is the page that --report writes, made later. Example:

    [bold]llmpar report log.jsonl -o report.html[/bold]
    """
    from llmpar.cli.later import write_page
    from llmpar.documents.writer import open_output, open_stdout
    from llmpar.reporting.kept import Kept
    from llmpar.store.store import Store, default_path

    sources = sources_of(logs)
    if output is None and is_terminal():
        name = "report.html" if sources == ["-"] else str(Path(sources[0]).with_suffix(".html"))
        raise UsageError(
            f"the page is for a browser, and not for a terminal; name a file for it: -o {quote(one_line(name))}"
        )
    path = store or default_path()
    writer = open_output(output) if output else open_stdout()
    try:
        if not path.exists():
            write_page(sources, Kept(None), writer)
        else:
            with closing(Store(path)) as opened:
                write_page(sources, Kept(opened), writer)
    finally:
        writer.abandon()
    return 0
