"""An input → its blocks and their segments, as its format has them."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import closing

from llmpar.documents.document import Block, Document, Segment, text_block, text_document
from llmpar.documents.formats import find_format, make_format
from llmpar.documents.formats.protocol import Format, Reading
from llmpar.documents.source import Source

Accept = Callable[[str, Format], None]
"""Is told as what an input is read: the format's name, and the format. It may raise a UsageError."""


class Splitter:
    """Splits the blocks of one document into segments, in order.

    Args:
        format: the document's.

    Raises:
        UsageError: the language is unknown.
    """

    def __init__(self, format: Format) -> None:  # noqa: A002
        self._format = format
        self._pieces = format.pieces()
        self._count = 0

    def split(self, block: Block) -> list[Segment]:
        """Return the segments of the document's next block.

        Raises:
            InputError: the text is not what the format is made of.
        """
        segments = [
            Segment(block, index, piece.start, piece.end, piece.text, piece.layout, piece.fault, piece.target,
                    piece.writing or self._format, piece.around, piece.parts, piece.record, piece.marks)
            for index, piece in enumerate(self._pieces(block), self._count)
        ]  # fmt: skip
        self._count += len(segments)
        return segments


def read_segments(
    index: int, source: str, reading: Reading, accept: Accept = lambda *_: None
) -> Iterator[tuple[Block, list[Segment]]]:
    """Yield an input's blocks, each with its segments.

    Args:
        index: the input's place in the run.
        source: a path, or "-" for stdin.
        reading: how it is read.
        accept: is told the format before anything is read.

    Raises:
        InputError: the input is not what its format is made of, or of a kind that is not read.
        InputUnreadable: it cannot be opened or read.
        UsageError: the language is unknown.
    """
    with closing(Source(source)) as opened:
        name = find_format(reading.format, opened.path, opened, is_table=reading.options.column is not None)
        made = make_format(reading, name)
        accept(name, made)
        with closing(made.read(index, opened)) as blocks:
            splitter = Splitter(made)
            for block in blocks:
                yield block, splitter.split(block)


def split_text(text: str, reading: Reading, document: Document | None = None) -> tuple[Block, list[Segment]]:
    """Return a text that is already there as one block, with its segments.

    Args:
        text: the text.
        reading: how it is split.
        document: what it is said to be, by default one without a name that would tell its format.

    Raises:
        InputError: the text is not what its format is made of.
        UsageError: the language is unknown.
    """
    block = text_block(document or text_document("text"), text)
    name = find_format(reading.format, block.document.path, is_table=reading.options.column is not None)
    return block, Splitter(make_format(reading, name)).split(block)


def name_of_format(source: str, reading: Reading) -> str:
    """Return the name of the format that an input, which can be opened twice, is read as.

    Raises:
        InputError: it is of a kind that is not read.
        InputUnreadable: it cannot be opened or read.
    """
    with closing(Source(source)) as opened:
        return find_format(reading.format, opened.path, opened, is_table=reading.options.column is not None)
