"""A format as a newcomer would add it: lines of `SOURCE;ANSWER`, in which an answer goes into the other cell."""

from __future__ import annotations

import re
from collections.abc import Callable, Iterator
from typing import Literal

from llmpar.documents.document import INLINE, Block, Segment
from llmpar.documents.formats.protocol import Piece
from llmpar.documents.formats.text import TextFormat
from llmpar.documents.reader import Portion

_ROW = re.compile(r"([^;\r\n]+);([^;\r\n]*)")


class Columns(TextFormat):
    """Lines of two cells."""

    @property
    def portion(self) -> Portion:
        return "record"  # a row is one piece, however long; of what is longer than memory allows, `pieces` says so

    @property
    def not_below(self) -> str:
        return "would make other rows of it"

    def pieces(self) -> Callable[[Block], Iterator[Piece]]:
        return self._cells

    def write(self, segment: Segment, answer: str, column: int) -> str:
        return super().write(segment, answer, column).replace(";", "\\;")

    def write_failure(self, segment: Segment, reason: str, fate: Literal["mark", "skip"]) -> str:
        return super().write_failure(segment, reason, fate).replace(";", "\\;")

    def _cells(self, block: Block) -> Iterator[Piece]:
        if block.part == "beginning":  # of a row that is too long to be held; its rest is copied
            yield Piece(0, 0, "", INLINE, fault="the row is too long to be held")
        for row in () if block.part else _ROW.finditer(block.text):
            yield Piece(*row.span(1), row[1], INLINE, target=row.span(2))
