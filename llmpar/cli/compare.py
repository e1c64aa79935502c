"""`llmpar compare`: what two runs answered, side by side, in numbers and by the largest changes."""

from __future__ import annotations

from contextlib import ExitStack, closing
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from llmpar.cli import roles
from llmpar.cli.arguments import argument, names_a_file
from llmpar.cli.roles import enters_files, with_role
from llmpar.errors import UsageError
from llmpar.reporting.progress import say
from llmpar.visible import one_line

if TYPE_CHECKING:
    from llmpar.comparison.references import Scorer
    from llmpar.reporting.pieces import Piece


@enters_files
def compare(
    first: Annotated[
        str,
        argument(
            metavar="A", help="A log (--log), or records (--merge jsonl or csv), of one run.", role=roles.documents
        ),
    ],
    second: Annotated[
        str | None,
        argument(
            metavar="[B]",
            help="The same of another run; none with --reference judges A alone.",
            show_default=False,
            role=roles.documents,
        ),
    ] = None,
    reference: Annotated[
        str | None,
        typer.Option("--reference", metavar="NAME", help="The column or field of records with the right answer."),
    ] = None,
    show: Annotated[
        int, typer.Option("--show", metavar="N", min=0, help="How many of the largest changes are shown.")
    ] = 10,
    json: Annotated[bool, typer.Option("--json", help="One object of JSON for programs.")] = False,
    report: Annotated[
        Path | None,
        with_role(
            typer.Option("--report", metavar="FILE.html", help="Write a page for a browser with all pieces, too."),
            roles.replaced,
        ),
    ] = None,
    store: Annotated[
        Path | None,
        with_role(
            typer.Option("--store", metavar="FILE", help="Has the texts of logs.", envvar="LLMPAR_STORE"),
            roles.store,
        ),
    ] = None,
) -> int:
    """Say how the answers of two runs differ: what changed, what is better and what is worse.

    Better is what no longer fails its checks, what is the reference or nearer to it
    (chrF), or what the model is surer of. Example:

    [bold]llmpar compare small.jsonl large.jsonl --reference german[/bold]
    """
    from llmpar.comparison.changes import changes_of, farthest, largest
    from llmpar.comparison.figures import figures_of
    from llmpar.comparison.page import page_of
    from llmpar.comparison.pairs import match
    from llmpar.comparison.records import read_pieces
    from llmpar.comparison.texts import as_object, in_words
    from llmpar.documents.writer import open_output, open_stdout
    from llmpar.reporting.kept import Kept
    from llmpar.store.store import Store, default_path
    from llmpar.visible import json_text

    if second is None and reference is None:
        raise UsageError("name a second run, or the column with the right answers (--reference NAME)")
    if second is None and report:
        raise UsageError("--report shows two runs; name a second one")
    names = ["stdin" if name == "-" else name for name in (first, second) if name is not None]
    with ExitStack() as stack:
        path = store or default_path()
        kept = Kept(stack.enter_context(closing(Store(path))) if path.exists() else None)
        page = open_output(report) if report else None  # what cannot be written is said before all the work
        if page:
            stack.callback(page.abandon)
        runs = [read_pieces(name, kept) for name in (first, second) if name is not None]
        matched = match(runs[0], runs[-1], reference)
        if not matched.pairs and not matched.num_unknown:
            raise UsageError(f"{' and '.join(names)} have no piece in common")
        if reference is not None and not any(pair.reference is not None for pair in matched.pairs):
            raise UsageError(_no_reference(reference, runs))
        scorer = _scorer() if reference is not None else None
        figures = figures_of(matched, scorer)
        changes = list(changes_of(matched.pairs, scorer))
        if page:
            for part in page_of(names, figures, changes):
                page.write(part)
            page.close()
        listed = largest(changes) if second is not None else farthest(changes)
        writer = open_stdout()
        if json:
            text = json_text(as_object(names, figures, scorer.signature if scorer else "", listed, show)) + "\n"
        else:
            text = "".join(f"{line}\n" for line in in_words(names, figures, listed, show))
        writer.write(text.encode("utf-8", "surrogateescape"))
        writer.close()
    return 0


def _no_reference(name: str, runs: list[list[Piece]]) -> str:
    """Return that no record has a value under a name, and under which names they have some."""
    from llmpar.comparison.records import names_of_fields

    said = f"--reference {one_line(name)}: no record has a column or field of this name"
    if names_a_file(name):
        said += ", and a file is not read; give the job a table that has the right answers in a column of their own"
    there = sorted({field for run in runs for piece in run for field in names_of_fields(piece)})
    return f"{said}; {'there are: ' + ', '.join(map(one_line, there)) if there else 'there are none'}"


def _scorer() -> Scorer | None:
    """Return what computes chrF, or None and a word about what is missing."""
    from llmpar.comparison.references import Scorer

    try:
        return Scorer()
    except UsageError as error:
        say(f"llmpar compare: {error}; exact matches are counted all the same")
        return None
