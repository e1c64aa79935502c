"""A run as a page for a browser: pieces are added as they are done, and the page is written when all are known."""

from __future__ import annotations

from dataclasses import dataclass

from llmpar.documents.writer import Writer
from llmpar.interrupts import shielded
from llmpar.pages.page import Page, Table, render
from llmpar.pages.rows import Rows
from llmpar.reporting.pieces import COLUMNS, UNSURE, Piece, Totals


@dataclass(frozen=True, slots=True)
class About:
    """What a page says of a run besides its pieces.

    Args:
        title: of the page.
        lead: a sentence below it.
        notice: why the page is not complete; "" if it is.
        tables: what can be opened.
    """

    title: str
    lead: str
    notice: str = ""
    tables: tuple[Table, ...] = ()


class RunPage:
    """Collects pieces in a temporary file, and writes them as a page.

    Args:
        writer: where the page goes.
        noun: what a piece is called.

    Raises:
        WriteFailed: there is no room for the pieces. Every method raises this, too.
    """

    def __init__(self, writer: Writer, noun: str = "piece") -> None:
        self._writer = writer
        self.totals = Totals(noun)
        """What was added so far."""
        self._rows = Rows()

    def add(self, piece: Piece) -> None:
        """Take the next piece."""
        with shielded():  # what interrupts a run may still want the page, with all of its rows whole
            self.totals.add(piece)
            self._rows.add(piece.row())

    def publish(self, about: About) -> None:
        """Write the page: the file that it replaces is there until all of it is."""
        page = Page(
            about.title,
            about.lead,
            about.notice,
            self.totals.facts(),
            about.tables,
            COLUMNS,
            "report",
            (("limit", UNSURE),),
        )
        for part in render(page, self._rows):
            self._writer.write(part)
        self._writer.close()
        self._rows.close()

    def abandon(self) -> None:
        """Give up what is not published."""
        self._rows.close()
        self._writer.abandon()
