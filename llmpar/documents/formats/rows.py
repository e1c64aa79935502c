"""Rows of a table of text (CSV, TSV; RFC 4180): where each cell stands, and where a growing buffer ends a row.

Python's csv module reads what cells say, and neither tells where they stand nor writes the same bytes again.
"""

from __future__ import annotations

import re
from collections.abc import Iterator
from dataclasses import dataclass
from typing import Literal

from llmpar.documents.document import count_lines

DELIMITERS = ",;\t|"
_NEWLINE = r"\r\n|\n|\r"
_FIRST_EVENT = re.compile(rf"[{DELIMITERS}]|{_NEWLINE}")


@dataclass(frozen=True, slots=True)
class Row:
    """A row: the places of its cells, quotes included, and where it ends, without and with its newline."""

    cells: tuple[tuple[int, int], ...]
    end: int
    after: int

    def is_blank(self, text: str) -> bool:
        """Tell whether nothing stands in it, as on an empty line."""
        return len(self.cells) == 1 and not text[slice(*self.cells[0])].strip()


class OpenQuote(ValueError):
    """A quote that is never closed.

    Args:
        at: where it opens.
    """

    def __init__(self, at: int) -> None:
        super().__init__("a cell's quote is never closed")
        self.at = at


def event_of(delimiter: str) -> re.Pattern[str]:
    """Return what finds the end of a cell that has no quotes."""
    return re.compile(rf"{re.escape(delimiter)}|{_NEWLINE}")


def row_at(text: str, start: int, event: re.Pattern[str]) -> Row:
    """Return the row that begins at a place.

    Args:
        text: the table's.
        start: the place, which is not the text's end.
        event: what ends cells (`event_of`).

    Raises:
        OpenQuote: the row does not end.
    """
    cells = []
    at = start
    while True:
        search = at
        if text.startswith('"', at):
            search = _closing(text, at + 1)
            if search < 0:
                raise OpenQuote(at)
        found = event.search(text, search)
        end = found.start() if found else len(text)
        cells.append((at, end))
        if found is None or found[0][0] in "\r\n":
            return Row(tuple(cells), end, found.end() if found else end)
        at = found.end()


def _closing(text: str, at: int) -> int:
    """Return the place behind the quote that closes a cell, -1 for none."""
    while (quote := text.find('"', at)) >= 0:
        if not text.startswith('"', quote + 1):
            return quote + 1
        at = quote + 2
    return -1


def sniff(text: str) -> str:
    """Return the sign between cells, by the first row: the one that stands there most often, outside of quotes."""
    try:
        row = row_at(text, 0, _FIRST_EVENT)
    except OpenQuote:
        return DELIMITERS[0]
    signs = [text[end] for _, end in row.cells[:-1]]
    return max(DELIMITERS, key=lambda sign: (signs.count(sign), -DELIMITERS.index(sign)))


def unquoted(cell: str) -> str:
    """Return what a cell says."""
    if not cell.startswith('"'):
        return cell
    end = _closing(cell, 1)
    return cell[1 : end - 1].replace('""', '"') + cell[end:]


def cells_of(text: str) -> Iterator[tuple[int, list[str]]]:
    """Yield what the cells of each row of a whole table say, with the line that the row begins in, from 1.

    Blank lines are left out. The sign between cells is told by the first row.

    Raises:
        ValueError: a quote is never closed. The message begins with the line.
    """
    event = event_of(sniff(text))
    at, line, looked = 0, 1, 0
    while at < len(text):
        line += count_lines(text[looked:at])
        looked = at
        try:
            row = row_at(text, at, event)
        except OpenQuote as error:
            raise ValueError(f"line {line}: {error}") from error
        at = row.after
        if not row.is_blank(text):
            yield line, [unquoted(text[start:end]) for start, end in row.cells]


class RowCutter:
    """Says where a growing buffer can be cut into blocks of whole rows (a `reader.Cutter`).

    A newline between quotes ends no row. Each character is looked at once, however small the pieces in which it comes.

    Args:
        longest: the most characters of a row that are held; a longer one comes in parts.
        delimiter: the sign between cells; None to take it from the first row.
    """

    def __init__(self, longest: int, delimiter: str | None = None) -> None:
        self.part: Literal["", "beginning", "rest"] = ""
        """What was last cut off: whole rows, or a part of one."""
        self._longest = longest
        self._event = event_of(delimiter) if delimiter else _FIRST_EVENT
        self._needs_sniffing = delimiter is None
        self._ends = True  # what was last cut off ends a row
        self._at = 0  # up to here the buffer was looked at
        self._row = 0  # where the row begins that is being looked at
        self._is_quoted = False
        self._may_open = True  # a cell begins here, so that a quote would be its own

    @property
    def part_at_end(self) -> Literal["", "rest"]:
        """What the document ends with, after all that was cut off."""
        return "" if self._ends else "rest"

    def cut(self, buffer: str) -> int:
        """Return the end of a block at the start of `buffer`, 0 for none yet.

        After a cut, ask about the rest.
        """
        if not self._ends:
            self._look(buffer, only_one=True)
            self.part, self._ends = "rest", self._row > 0
            return self._forget(self._row or self._at)
        self._look(buffer)
        self.part = ""
        if self._row == 0 and self._at > self._longest:
            self.part, self._ends = "beginning", False
            return self._forget(self._at)
        return self._forget(self._row)

    def _forget(self, count: int) -> int:
        self._at, self._row = self._at - count, max(self._row - count, 0)
        return count

    def _look(self, buffer: str, *, only_one: bool = False) -> None:
        """Go on to the end of the buffer, or of the first row if it is longer than what is held, or alone wanted."""
        while self._at < len(buffer) and self._at - self._row <= self._longest:
            if self._is_quoted:
                quote = buffer.find('"', self._at, self._row + self._longest + 2)
                if quote < 0:
                    self._at = min(len(buffer), self._row + self._longest + 1)
                elif quote + 1 == len(buffer):
                    self._at = quote
                    return
                else:
                    doubled = buffer.startswith('"', quote + 1)
                    self._at, self._is_quoted = quote + 1 + doubled, doubled
                continue
            if self._may_open and buffer.startswith('"', self._at):
                self._is_quoted, self._may_open, self._at = True, False, self._at + 1
                continue
            found = self._event.search(buffer, self._at, self._row + self._longest + 1)
            self._may_open = found is not None
            if found is None:
                self._at = min(len(buffer), self._row + self._longest + 1)
                continue
            self._at = found.end()
            if found[0][0] in "\r\n":
                if self._needs_sniffing:
                    self._event, self._needs_sniffing = event_of(sniff(buffer)), False
                self._row = self._at
                if only_one:
                    return
                self._leap(buffer)

    def _leap(self, buffer: str) -> None:
        """Pass over rows that have no quote at all."""
        quote = buffer.find('"', self._at)
        last = buffer.rfind("\n", self._at, quote if quote >= 0 else len(buffer)) + 1
        if last and last - self._at <= self._longest:
            self._at = self._row = last
