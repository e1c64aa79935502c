"""Tables of text (CSV, TSV): the cells of the columns that the user names are asked about; all else is copied.

An answer stands in its cell, or in the same row's cell of another column, which may be new. The table is read in
blocks of whole rows, so that it need not fit in memory.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Generator, Iterator
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import ClassVar, Literal

from llmpar.documents.document import Block, Layout, Record, Segment, count_lines
from llmpar.documents.formats.inline import marked_fields
from llmpar.documents.formats.protocol import About, Piece
from llmpar.documents.formats.rows import DELIMITERS, OpenQuote, Row, RowCutter, event_of, row_at, sniff, unquoted
from llmpar.documents.formats.text import TextFormat
from llmpar.documents.formula import without_formula
from llmpar.documents.layout import NEWLINE
from llmpar.documents.marks import restored
from llmpar.documents.reader import TextReader
from llmpar.documents.source import Source, suffix_of
from llmpar.errors import InputError, UsageError, setting
from llmpar.visible import json_text, one_line

_NEEDS_QUOTES = re.compile(rf'[{DELIMITERS}"\r\n]|\A\s|\s\Z')
_TABS = (".tsv", ".tab")
_SHOWN = 200  # characters of a row that is damaged, by which it is known


class Table(TextFormat):
    """Rows of cells, of which the first row names the columns."""

    about: ClassVar[About] = About(
        "cells of the columns that are named",
        "all else, and the head",
        "a row of another length fails by itself; what looks like a formula gets a ' before it",
    )

    @property
    def not_below(self) -> str:
        """Return why no answer can stand on a line of its own."""
        return f"would make other rows of it; use {setting('into', 'NAME')}"

    def read(self, index: int, source: Source) -> Generator[Block]:
        """Yield blocks of whole rows, each with an empty cell for answers if they go into a new column."""
        tab = _tab(source.path)
        reader = TextReader(index, source, self.reading.errors, self.reading.encodings)
        columns = _Columns(self.reading.options.column, self.reading.options.into, self.reading.options.no_header, tab)
        for block in reader.blocks(RowCutter(self.reading.longest, tab), self.reading.longest):
            yield replace(block, text=columns.widened(block))

    def pieces(self) -> Callable[[Block], Iterator[Piece]]:
        """Return what yields the cells of the columns that the user names.

        Raises:
            UsageError: the user names several columns for which there is one place; (what is returned) the user names
                none, or one that the table has not.
            InputError: (what is returned) a quote is never closed.
        """
        options = self.reading.options
        if options.into is not None and len(options.column or ()) > 1:
            raise UsageError(f"{setting('into')} takes the answers to one column; name one with {setting('column')}")
        columns: _Columns | None = None

        def pieces(block: Block) -> Iterator[Piece]:
            nonlocal columns
            if columns is None:
                columns = _Columns(options.column, options.into, options.no_header, _tab(block.document.path))
            return marked_fields(columns.pieces(block), self.reading)

        return pieces

    def write(self, segment: Segment, answer: str, column: int) -> str:  # noqa: ARG002 (cells are not wrapped)
        """Return the answer as a cell says it, between quotes if its place has some, or it needs them."""
        text = NEWLINE.sub(lambda _: segment.layout.newline, restored(answer.strip(), segment.marks))
        if answer != segment.text:
            text = without_formula(text)
        start, end = segment.target or (segment.start, segment.end)
        if segment.block.text.startswith('"', start, end) or _NEEDS_QUOTES.search(text):
            return '"' + text.replace('"', '""') + '"'
        return text

    def write_failure(self, segment: Segment, reason: str, fate: Literal["mark", "skip"]) -> str:
        """Return a mark and the source as a cell, or an empty cell; a row that is damaged has no place for a mark."""
        if segment.fault:
            return segment.block.text[slice(*segment.target)] if segment.target else ""
        return self.write(segment, f"[llmpar: {reason}] {segment.text}", 0) if fate == "mark" else ""

    def record(self, segment: Segment) -> str:
        """Return what the cells of a segment's row say, by the names of their columns."""
        if segment.record is None:
            return ""
        text, names = segment.block.text, segment.record.names
        row = row_at(text, segment.record.start, event_of(segment.record.delimiter))
        return json_text(dict(zip(names, (unquoted(text[start:end]) for start, end in row.cells), strict=False)))


@dataclass(slots=True)
class _Columns:
    """The columns of one table that matter, which are known when its first row has come.

    Args:
        asked: names or numbers (from 1) of those that are asked about.
        into: the name of the one that answers go into; None for their own.
        no_header: whether the first row is one like the others.
        delimiter: the sign between cells; None to take it from the first row.
    """

    asked: list[str] | None
    into: str | None
    no_header: bool
    delimiter: str | None = None
    _event: re.Pattern[str] = re.compile("")
    _names: list[str] | None = None
    _head: tuple[str, ...] = ()  # the names, where the first row has them
    _places: dict[int, int] = field(default_factory=dict)  # column of the answer → column of the text
    _newline: str = "\n"

    def widened(self, block: Block) -> str:
        """Return a block's text with one more cell in each row, if answers go into a column that is not yet there."""
        text = block.text
        if self.into is None or block.part:
            return text
        parts: list[str] = []
        at = 0
        try:
            for row, is_head in self._rows(block):
                if not self.no_header and self.into in (self._names or ()):
                    return text
                cell = _cell(self.into) if is_head else ""
                parts += [text[at : row.end], "" if row.is_blank(text) else f"{self.delimiter}{cell}"]
                at = row.end
        except OpenQuote:  # said when the pieces are looked for
            pass
        return "".join(parts) + text[at:]

    def pieces(self, block: Block) -> Iterator[Piece]:
        """Yield the cells of a block that are asked about, and why others cannot be."""
        shown = one_line(block.document.name)
        if block.part == "beginning":
            fault = f"the row is too long to be held; a larger {setting('max_memory')} takes it"
            yield Piece(0, len(block.text), block.text.lstrip()[:_SHOWN] or "row", Layout(), fault=fault)
        if block.part:
            return
        try:
            for row, is_head in self._rows(block):
                if is_head or row.is_blank(block.text):
                    continue
                yield from self._row(block, row)
        except OpenQuote as error:
            line = 1 + block.line + count_lines(block.text, error.at)
            raise InputError(f"{shown}:{line}: {error}") from error

    def _row(self, block: Block, row: Row) -> Iterator[Piece]:
        text, cells = block.text, row.cells
        assert self._names is not None
        needed = 1 + max(max(self._places), max(self._places.values()))
        if len(cells) < needed or (self.into is not None and len(cells) != len(self._names)):
            # The answers' column may be ours, so the user's cells are not counted; how far they are off is sure.
            less = len(self._names) - len(cells)
            cells_off = f"{abs(less)} cell{'' if abs(less) == 1 else 's'}"
            fault = f"the row has {cells_off} {'fewer' if less > 0 else 'more'} than the first one"
            start, end = cells[0][0], row.end
            yield Piece(start, end, text[start:end].strip()[:_SHOWN], Layout(), (start, end), fault)
            return
        for target, asked in sorted(self._places.items()):
            said = unquoted(text[slice(*cells[asked])]).strip()
            if said:
                said = NEWLINE.sub("\n", said)
                place = None if target == asked else cells[target]
                record = Record(cells[0][0], row.after, self._head, self.delimiter or "") if self._head else None
                yield Piece(*cells[asked], said, Layout(newline=self._newline), place, record=record)

    def _rows(self, block: Block) -> Iterator[tuple[Row, bool]]:
        """Yield the rows of a block, and whether each is the table's head."""
        text, at = block.text, 0
        while at < len(text):
            if self._names is None:
                self.delimiter = self.delimiter or sniff(text)
                self._event = event_of(self.delimiter)
            row = row_at(text, at, self._event)
            is_head = False
            if self._names is None and not row.is_blank(text):
                is_head = not self.no_header
                self._newline = text[row.end : row.after] or "\n"
                self._name(
                    [unquoted(text[start:end]).strip() for start, end in row.cells], one_line(block.document.name)
                )
            yield row, is_head
            at = row.after

    def _name(self, names: list[str], shown: str) -> None:
        self._names = names
        self._head = () if self.no_header else tuple(names)
        if not self.asked:
            named = f"name the column that is asked about with {setting('column', 'NAME')}"
            raise UsageError(f"{shown}: is a table; {named}; {_there(names, no_header=self.no_header)}")
        asked = [_number(name, names, shown, no_header=self.no_header) for name in self.asked]
        if self.into is None:
            self._places = {number: number for number in asked}
        else:
            # What was read has the new column already, the last one.
            into = names.index(self.into) if self.into in names and not self.no_header else len(names) - 1
            self._places = {into: asked[0]}


def _number(name: str, names: list[str], shown: str, *, no_header: bool) -> int:
    """Return which column a name or a number means, from 0."""
    if not no_header and name in names:
        if names.count(name) > 1:
            raise UsageError(f"{shown}: has several columns {one_line(name)!r}; name it by its number, from 1")
        return names.index(name)
    if name.isascii() and name.isdigit() and 1 <= int(name) <= len(names):
        return int(name) - 1
    raise UsageError(f"{shown}: has no column {one_line(name)!r}; {_there(names, no_header=no_header)}")


def _there(names: list[str], *, no_header: bool) -> str:
    return f"they are 1 to {len(names)}" if no_header else f"there are: {', '.join(map(one_line, names))}"


def _tab(path: Path | None) -> str | None:
    """Return the sign between cells that a file's name tells, None for none."""
    return "\t" if path and suffix_of(path) in _TABS else None


def _cell(text: str) -> str:
    return '"' + text.replace('"', '""') + '"' if _NEEDS_QUOTES.search(text) else text
