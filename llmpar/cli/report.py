"""`llmpar report`: the page that `--report` writes, made later from a log and the store."""

from __future__ import annotations

from contextlib import closing
from pathlib import Path
from typing import Annotated

import typer

from llmpar.cli import roles
from llmpar.cli.arguments import argument, sources_of
from llmpar.cli.roles import enters_files, with_role


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
            typer.Option("--output", "-o", metavar="FILE.html", help="Write here instead of stdout."), roles.output
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
