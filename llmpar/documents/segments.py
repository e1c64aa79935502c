"""An input → its blocks and their segments, as its format has them."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import closing
from pathlib import Path

from llmpar.documents.document import Block, Document, Segment, text_block, text_document
from llmpar.documents.formats import make_format
from llmpar.documents.formats.protocol import Format, Reading


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
                    self._format)
            for index, piece in enumerate(self._pieces(block), self._count)
        ]  # fmt: skip
        self._count += len(segments)
        return segments


def read_segments(index: int, source: str, reading: Reading) -> Iterator[tuple[Block, list[Segment]]]:
    """Yield an input's blocks, each with its segments.

    Args:
        index: the input's place in the run.
        source: a path, or "-" for stdin.
        reading: how it is read.

    Raises:
        InputError: the input is not what its format is made of.
        InputUnreadable: it cannot be opened or read.
        UsageError: the language is unknown.
    """
    made = format_of(source, reading)
    with closing(made.read(index, source)) as blocks:
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
    return block, Splitter(make_format(reading, block.document.path)).split(block)


def format_of(source: str, reading: Reading) -> Format:
    """Return the format that an input is read as; `source` is a path, or "-" for stdin."""
    return make_format(reading, None if source == "-" else Path(source))
