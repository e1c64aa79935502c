"""What formats of text have in common: how they are read, and an answer that stands in the place of its source."""

from __future__ import annotations

from collections.abc import Callable, Generator, Iterator
from dataclasses import dataclass
from typing import ClassVar, Literal

from llmpar.documents.document import Block, Segment
from llmpar.documents.formats.protocol import DEFAULT_READING, About, Piece, Reading
from llmpar.documents.layout import fill
from llmpar.documents.reader import Portion, TextReader, portion_of
from llmpar.documents.source import Source


@dataclass(frozen=True, slots=True)
class TextFormat:
    """A `Format` but for `pieces`."""

    about: ClassVar[About] = About("", "")
    reading: Reading = DEFAULT_READING

    @property
    def portion(self) -> Portion:
        """What a block is made of: what is read at least before somebody can be asked about it."""
        return portion_of(self.reading.unit)

    @property
    def not_below(self) -> str:
        """Return "": a line below a source is as good as any."""
        return ""

    def read(self, index: int, source: Source) -> Generator[Block]:
        """Yield an input's blocks; see `TextReader`."""
        reader = TextReader(index, source, self.reading.errors, self.reading.encodings)
        yield from reader.blocks(self.portion, self.reading.longest)

    def pieces(self) -> Callable[[Block], Iterator[Piece]]:
        """Return what yields the pieces of a document's blocks."""
        raise NotImplementedError

    def write(self, segment: Segment, answer: str, column: int) -> str:
        """Return an answer set as its source is set."""
        return fill(answer, segment.layout, column)

    def objection(self, segment: Segment, answer: str) -> str | None:  # noqa: ARG002 (formats with markup use them)
        """Return None: prose may be anything."""
        return None

    def write_failure(self, segment: Segment, reason: str, fate: Literal["mark", "skip"]) -> str:
        """Return a mark and the source, or nothing."""
        return f"[llmpar: {reason}] {segment.source}" if fate == "mark" else ""

    def spell(self, char: str) -> str:
        """Return the character: plain text has no other way to write it."""
        return char

    def record(self, segment: Segment) -> str:  # noqa: ARG002 (formats with records use it)
        """Return "": prose has no records."""
        return ""
