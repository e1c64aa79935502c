"""`llmpar store`: looking after the answers that are kept from run to run."""

from __future__ import annotations

from contextlib import closing
from datetime import datetime, timezone
from pathlib import Path
from typing import Annotated

import typer

from llmpar.cli import roles
from llmpar.cli.arguments import argument
from llmpar.cli.fetching import agrees
from llmpar.cli.input_options import FormatName
from llmpar.cli.roles import enters_files, with_role
from llmpar.documents.encodings import Encodings
from llmpar.documents.formats.options import FormatOptions
from llmpar.errors import StoreUnusable, UsageError
from llmpar.reporting.progress import say

app = typer.Typer(
    no_args_is_help=True,
    help="Look after the answers kept from run to run. Example: [bold]llmpar store purge --older-than 30[/bold]",
)
_STORE = Annotated[
    Path | None,
    with_role(
        typer.Option("--store", metavar="FILE", help="Use this store, not the usual one.", envvar="LLMPAR_STORE"),
        roles.store,
    ),
]

_FILES = Annotated[
    list[str], argument(metavar="FILE...", help="Documents that were asked about.", role=roles.documents)
]
_FORMAT = Annotated[FormatName, typer.Option("--input-format", help="Their format; auto goes by the name.")]
_ENCODING = Annotated[str, typer.Option("--encoding", help="Their encoding, without a byte order mark.")]
_FIELD = Annotated[list[str] | None, typer.Option("--field", help="The field of JSON that was asked about.")]
_COLUMN = Annotated[list[str] | None, typer.Option("--column", help="The column of a table that was asked about.")]


@app.command()
@enters_files
def path(store: _STORE = None) -> int:
    """Print where the store is, whether or not there is one yet."""
    typer.echo(_path(store))
    return 0


@app.command()
@enters_files
def info(store: _STORE = None) -> int:
    """Tell what the store holds."""
    from llmpar.store.store import Store

    if not _path(store).exists():
        typer.echo(f"no store yet at {_path(store)}")
        return 0
    found = Store(store).info()
    typer.echo(f"path     {_path(store)}")
    typer.echo(f"answers  {found.num_answers:,}")
    if found.num_corrections:
        typer.echo(f"         {found.num_corrections:,} of them by people (llmpar apply)")
    typer.echo(f"jobs     {found.num_jobs:,}")
    typer.echo(f"size     {found.size / 1e6:,.1f} MB")
    if found.oldest_day is not None and found.newest_day is not None:
        typer.echo(f"used     {_date(found.oldest_day)} to {_date(found.newest_day)}")
    return 0


@app.command()
@enters_files
def verify(store: _STORE = None) -> int:
    """Look at every answer in the store, and name those that are damaged."""
    from llmpar.store.store import Store

    faults = Store(_existing(store)).verify()
    for fault in faults:
        typer.echo(fault)
    if faults:
        raise StoreUnusable(f"store {_path(store)}: is damaged; move it away, and answers are computed again")
    typer.echo("every answer is as it was kept")
    return 0


@app.command()
@enters_files
def purge(
    store: _STORE = None,
    older_than: Annotated[
        float,
        typer.Option("--older-than", metavar="DAYS", min=0, help="Delete only what no run has used for so many days."),
    ] = 0,
    yes: Annotated[bool, typer.Option("--yes", help="Delete without asking.")] = False,
) -> int:
    """Delete answers: all of them, or those that were not used lately; of these, corrections by people stay."""
    from llmpar.store.store import Store

    opened = Store(_existing(store))
    held = opened.info()
    people = f", {held.num_corrections:,} of them corrections by people" if held.num_corrections else ""
    question = f"delete all {held.num_answers:,} answers{people}?"
    if not older_than and not yes and not agrees(question, unattended=False):
        raise UsageError(
            "nothing was deleted; --yes deletes all answers without a question, and --older-than DAYS those that no "
            "run has used for so many days"
        )
    typer.echo(f"deleted {opened.purge(older_than):,} answers")
    return 0


@app.command()
@enters_files
def forget(
    files: _FILES,
    store: _STORE = None,
    input_format: _FORMAT = "auto",
    encoding: _ENCODING = "utf-8",
    field: _FIELD = None,
    column: _COLUMN = None,
) -> int:
    """Delete the answers about these documents, as they are now, whatever was asked; the documents stay."""
    from llmpar.cli.forgetting import Forgotten
    from llmpar.documents.formats.protocol import Reading
    from llmpar.store.store import Store

    options = FormatOptions(field=field, column=column)
    reading = Reading(format=input_format, options=options, encodings=Encodings(encoding, None))
    with closing(Store(_existing(store))) as opened:
        number, num_unknown = Forgotten(files, reading).delete(opened)
    typer.echo(f"deleted {number:,} answers")
    if num_unknown:
        say(
            f"llmpar store: {num_unknown:,} others are kept without their texts (--no-store-text), and what they are "
            "about cannot always be told; `llmpar store purge` deletes all"
        )
    return 0


@app.command()
@enters_files
def merge(
    sources: Annotated[
        list[Path],
        with_role(typer.Argument(metavar="STORES...", help="Stores of other machines or shards."), roles.merged_stores),
    ],
    store: _STORE = None,
) -> int:
    """Put the answers of several stores into one, which is the usual one unless --store names another.

    After it, a run over everything computes nothing that one of them has answered. Example:

    [bold]llmpar store merge shard-*.sqlite --store all.sqlite[/bold]
    """
    from llmpar.store.merging import merge as merge_stores

    merged = merge_stores(store, sources)
    typer.echo(f"{merged.num_new:,} of {merged.num_answers:,} answers are new in {_path(store)}")
    return 0


def _path(store: Path | None) -> Path:
    from llmpar.store.store import default_path

    return store or default_path()


def _existing(store: Path | None) -> Path:
    path = _path(store)
    if not path.exists():
        raise StoreUnusable(f"store {path}: there is none")
    return path


def _date(day: int) -> str:
    return datetime.fromtimestamp(day * 86_400, timezone.utc).strftime("%Y-%m-%d")
