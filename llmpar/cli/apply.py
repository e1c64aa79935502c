"""`llmpar apply`: the corrections of a review go into the store."""

from __future__ import annotations

import codecs
import sys
from collections.abc import Iterator
from contextlib import ExitStack, closing
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from llmpar.cli import roles
from llmpar.cli.arguments import argument
from llmpar.cli.option import option
from llmpar.cli.signature import takes_options
from llmpar.documents.document import beginning_of
from llmpar.errors import InputError, InputUnreadable
from llmpar.reporting.progress import say
from llmpar.reporting.report import counted
from llmpar.visible import one_line

if TYPE_CHECKING:
    from llmpar.review.applying import Reading

_SAID = 20  # rows that are named


@takes_options
def apply(
    file: Annotated[
        str, argument(metavar="FILE", help="What --review wrote, corrected; - is stdin.", role=roles.documents)
    ],
    *,
    store: Annotated[
        Path | None,
        option(
            "--store",
            help="Where that run kept its answers. Default: see `llmpar store path`.",
            panel="Store",
            metavar="FILE",
            role=roles.store,
        ),
    ] = None,
    no_store_text: Annotated[
        bool, option("--no-store-text", help="Keep corrections beside hashes, without the texts.", panel="Store")
    ] = False,
    force: Annotated[
        bool,
        option(
            "--force",
            help="Take corrections that lack a number or placeholder of their source, or are empty, and "
            "those of pieces that the store does not know.",
            panel="Answers",
        ),
    ] = False,
    dry_run: Annotated[
        bool, option("--dry-run", help="Tell what would change, and change nothing.", panel="Before the job")
    ] = False,
) -> int:
    """Take the corrections of a review into the store, where later runs find them.

    Only the answers that you changed count, and only if every row can be taken. They hold
    for the same piece under the same task, whichever model answers the others, and
    --refresh does not overwrite them. Example:

    [bold]llmpar translate --to French letter.txt --review letter.csv -o lettre.txt[/bold]

    [bold]llmpar apply letter.csv[/bold]
    """
    from llmpar.review.applying import read_corrections, rows_of
    from llmpar.store.store import Store, default_path

    name = "stdin" if file == "-" else one_line(file)
    text = _text(file, name)
    with ExitStack() as stack:

        def opened() -> Store:
            return stack.enter_context(closing(Store(store, keep_text=not no_store_text)))

        # One that is not there is made only for something to keep: its name may be a mistake.
        kept = opened() if (store or default_path()).exists() else None
        try:
            found = read_corrections(rows_of(text, _suffix(file)), kept, by_force=force)
        except ValueError as error:
            raise InputError(f"{name}: is no review that can be taken in: {error}") from error
        if found.refused:
            for line in found.refused[:_SAID]:
                say(f"llmpar apply: {name}: {one_line(line)}")
            if len(found.refused) > _SAID:
                say(f"llmpar apply: {name}: and {counted(len(found.refused) - _SAID, 'other row')}")
            raise InputError(f"{name}: {counted(len(found.refused), 'row')} refused, so nothing was applied")
        for change in found.changes:
            if change.remark:
                say(f"llmpar apply: {name}: line {change.line}: {change.remark}; it is taken all the same")
        if found.changes and not dry_run:
            (kept or opened()).correct([change.correction for change in found.changes])
    for line in _told(found, is_dry=dry_run):
        typer.echo(line)
    return 0


def _told(found: Reading, *, is_dry: bool) -> Iterator[str]:
    """Yield what happened, or would happen."""
    if is_dry:
        for change in found.changes:
            answer = one_line(beginning_of(change.correction.answer))
            yield f"line {change.line}: {one_line(beginning_of(change.source))} → {answer}"
    parts = [f"{'would apply' if is_dry else 'applied'} {counted(len(found.changes), 'correction')}"]
    if found.num_replaced:
        parts.append(f"{found.num_replaced:,} of them in the place of an earlier one")
    if found.num_known:
        parts.append(f"{found.num_known:,} already applied")
    parts.append(f"{counted(found.num_unchanged, 'row')} unchanged")
    yield ", ".join(parts)


def _suffix(file: str) -> str:
    suffix = Path(file).suffix.lower()
    return suffix if suffix in (".csv", ".tsv", ".po") else ""


def _text(file: str, name: str) -> str:
    """Return what a file says: UTF-8, or UTF-16 behind a byte order mark, as some spreadsheets write."""
    try:
        data = sys.stdin.buffer.read() if file == "-" else Path(file).read_bytes()
    except OSError as error:
        raise InputUnreadable(f"{name}: cannot be read: {error.strerror}") from error
    is_wide = data.startswith((codecs.BOM_UTF16_LE, codecs.BOM_UTF16_BE))
    try:
        return data.decode("utf-16") if is_wide else data.removeprefix(codecs.BOM_UTF8).decode("utf-8", "surrogatepass")
    except UnicodeDecodeError as error:
        raise InputError(
            f"{name}: is not valid UTF-8 at byte {error.start}; save it as UTF-8 (in Excel, as CSV UTF-8)"
        ) from error
