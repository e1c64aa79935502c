"""What formats have in common whose documents are small: they are read whole, so that damage is known beforehand."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import dataclass
from typing import ClassVar

from llmpar.documents.document import Block, count_lines
from llmpar.documents.formats.protocol import Piece
from llmpar.documents.formats.text import TextFormat
from llmpar.documents.reader import Portion
from llmpar.errors import InputError
from llmpar.visible import one_line


class Damage(ValueError):
    """A text that is not what its format is made of.

    Args:
        at: the place, in characters from the text's start.
        reason: what is wrong there, as the end of a sentence.
    """

    def __init__(self, at: int, reason: str) -> None:
        super().__init__(reason)
        self.at = at


@dataclass(frozen=True, slots=True)
class WholeFormat(TextFormat):
    """A `Format` but for `find`. What a piece is follows from the document, and not from the unit."""

    what: ClassVar[str]
    """What its documents are, for a message."""

    @property
    def portion(self) -> Portion:
        """Return "document": nothing is written of what is damaged further down."""
        return "document"

    @property
    def not_below(self) -> str:
        """Return why no answer can stand on a line of its own."""
        return f"would make no {self.what} of it"

    def pieces(self) -> Callable[[Block], Iterator[Piece]]:
        """Return what yields the pieces of a document, which is one block.

        Raises:
            InputError: (what is returned) the document is damaged.
        """
        return self._named

    def find(self, text: str) -> list[Piece]:
        """Return the pieces of a document's text.

        Raises:
            Damage: it is damaged.
        """
        raise NotImplementedError

    def _named(self, block: Block) -> Iterator[Piece]:
        try:
            yield from self.find(block.text)
        except Damage as damage:
            line = 1 + count_lines(block.text, damage.at)
            raise InputError(f"{one_line(block.document.name)}:{line}: {damage}") from damage
