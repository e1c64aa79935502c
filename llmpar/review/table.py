"""Reviews as tables (CSV, TSV) for spreadsheets: no cell is one that a spreadsheet would run."""

from __future__ import annotations

import codecs
import csv
import io
from collections.abc import Iterable, Iterator

from llmpar.documents.formats.rows import cells_of
from llmpar.documents.formula import with_formula, without_formula
from llmpar.review.row import COLUMNS, NEEDED, Returned, Row


def written(rows: Iterable[Row], delimiter: str) -> Iterator[bytes]:
    """Yield a table with a row for each piece.

    A byte order mark comes first, without which some spreadsheets take UTF-8 for another encoding.

    Args:
        rows: the rows, in order.
        delimiter: the sign between cells.
    """
    yield codecs.BOM_UTF8 + _line(COLUMNS, delimiter)
    for row in rows:
        confidence = "" if row.confidence is None else f"{row.confidence:.3f}"
        told = (row.place, str(row.part), row.source, row.answer, confidence, row.reason, row.rejected, row.key)
        yield _line(map(without_formula, told), delimiter)


def returned(text: str) -> Iterator[Returned]:
    """Yield the rows of a table that a person gives back, in any order of columns, with any sign between cells.

    Raises:
        ValueError: it is no such table. The message begins with the line, if it is about one.
    """
    places: dict[str, int] | None = None
    for line, cells in cells_of(text):
        if places is None:
            places = _places(cells)
        elif any(cells):
            if len(cells) <= max(places.values()):
                raise ValueError(f"line {line}: the row has {len(cells)} cells, too few to have all that it needs")
            source, answer, key = (with_formula(cells[places[name]]) for name in NEEDED)
            yield Returned(line, source, answer, key)
    if places is None:
        raise ValueError("it is empty")


def _places(head: list[str]) -> dict[str, int]:
    names = [cell.strip().casefold().partition(" ")[0] for cell in head]
    for name in NEEDED:
        if names.count(name) != 1:
            how = "no column" if name not in names else "several columns"
            raise ValueError(f"it has {how} named {name}; a review has {', '.join(COLUMNS)} in its first row")
    return {name: names.index(name) for name in NEEDED}


def _line(cells: Iterable[str], delimiter: str) -> bytes:
    line = io.StringIO()
    # All are quoted: Python leaves a CR without quotes, and other programs take it for the end of a row.
    csv.writer(line, delimiter=delimiter, lineterminator="\n", quoting=csv.QUOTE_ALL).writerow(cells)
    return line.getvalue().encode("utf-8", "surrogatepass")
