"""The pieces of a run, read again: from its log, or from the records or the table that it wrote."""

from __future__ import annotations

import codecs
import json
from collections.abc import Iterator, Mapping
from contextlib import closing
from pathlib import Path

from llmpar.documents.columns import ALL_COLUMNS
from llmpar.documents.formats.rows import cells_of
from llmpar.documents.formula import with_formula
from llmpar.documents.source import Source
from llmpar.errors import InputError
from llmpar.reporting.kept import Kept
from llmpar.reporting.pieces import Piece
from llmpar.visible import json_text

_OURS = (*ALL_COLUMNS, "probabilities", "reasoning", "cut")  # what a record may have besides what the user wrote
_WANTED = "a log, a file of failures, or records or a table with an answer in each"


def read_pieces(source: str, kept: Kept) -> list[Piece]:
    """Return the pieces of a run, in order. All of them are held.

    Args:
        source: the path of a log, or of a file of records; "-" for stdin.
        kept: finds the texts that belong to a log.

    Raises:
        InputError: it is neither. The message names the line.
        InputUnreadable: it cannot be read.
    """
    with closing(Source(source)) as opened:
        shown = opened.shown
        data = b"".join(iter(opened.read, b"")).removeprefix(codecs.BOM_UTF8)
    try:
        text = data.decode("utf-8", "surrogatepass")
    except UnicodeDecodeError as error:
        raise InputError(f"{shown}: is not valid UTF-8 at byte {error.start}") from error
    is_table = Path(source).suffix.lower() in (".csv", ".tsv") or not text.lstrip().startswith("{")
    try:
        records = list(_rows(text) if is_table else _lines(text))
    except ValueError as error:
        raise InputError(f"{shown}: cannot be compared: {error}; wanted is {_WANTED}") from error
    if records and "key" in records[0]:
        return list(kept.pieces(records))
    return [_piece(record) for record in records]


def field_of(piece: Piece, name: str) -> str | None:
    """Return what a record has under a name, or the record that it was asked about; None for nothing."""
    record = piece.record
    inner = record.get("record")
    value = record[name] if name in record else inner.get(name) if isinstance(inner, Mapping) else None
    return None if value is None else _told(value)


def names_of_fields(piece: Piece) -> Iterator[str]:
    """Yield the names under which `field_of` finds what the user wrote, and not we; a log has none."""
    inner = piece.record.get("record")
    if isinstance(inner, Mapping):
        yield from inner
    elif "key" not in piece.record:
        yield from (name for name in piece.record if name not in _OURS)


def _piece(record: Mapping[str, object]) -> Piece:
    source, answer = record.get("source"), record.get("answer")
    return Piece(record, None if source is None else _told(source), None if answer is None else _told(answer))


def _told(value: object) -> str:
    return value if isinstance(value, str) else json_text(value)


def _lines(text: str) -> Iterator[dict[str, object]]:
    lines = text.split("\n")
    for number, line in enumerate(lines, 1):
        if not line.strip():
            continue
        try:
            record = json.loads(line)
        except (ValueError, RecursionError) as error:
            if number == len(lines):  # a run that was killed left half a line
                return
            raise ValueError(f"line {number} is no JSON") from error
        if not isinstance(record, dict) or not ("answer" in record or "key" in record):
            raise ValueError(f"line {number} is no record of an answer")
        yield record


def _rows(text: str) -> Iterator[dict[str, object]]:
    names: list[str] | None = None
    for line, cells in cells_of(text):
        told = [with_formula(cell) for cell in cells]
        if names is None:
            names = told
            if "answer" not in names:
                raise ValueError("its first row names no column answer")
            continue
        if len(told) != len(names):
            raise ValueError(f"line {line} has {len(told)} cells, and the first row {len(names)}")
        record: dict[str, object] = dict(zip(names, told, strict=True))
        record["error"] = record.get("error") or None  # an empty cell is no error
        yield {name: _number(value) if name in _NUMBERS else value for name, value in record.items()}


_NUMBERS = ("index", "line", "start", "end", "confidence")


def _number(value: object) -> object:
    try:
        return float(str(value)) if "." in str(value) else int(str(value))
    except ValueError:
        return value
