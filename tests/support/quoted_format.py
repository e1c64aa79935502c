"""A format whose answers are inserted below their sources: `> SOURCE` on a line, `< ANSWER` on the next one."""

from __future__ import annotations

import re
from collections.abc import Callable, Iterator

from llmpar.documents.document import INLINE, Block, Segment
from llmpar.documents.formats.protocol import Piece
from llmpar.documents.formats.text import TextFormat
from llmpar.documents.reader import Portion

_QUOTE = re.compile(r"^> (.+)\n?", re.MULTILINE)


class Quotes(TextFormat):
    """Lines that are quoted, and answers to them."""

    @property
    def portion(self) -> Portion:
        return "line"

    def pieces(self) -> Callable[[Block], Iterator[Piece]]:
        return self._quotes

    def write(self, segment: Segment, answer: str, column: int) -> str:
        return f"< {super().write(segment, answer, column)}\n"

    def _quotes(self, block: Block) -> Iterator[Piece]:
        for quote in _QUOTE.finditer(block.text):
            yield Piece(*quote.span(1), quote[1], INLINE, target=(quote.end(), quote.end()))
