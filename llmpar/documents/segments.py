"""An input → its blocks and their segments, as its format has them."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import closing
from typing import Literal

from llmpar.documents.document import Block, Segment, Unit
from llmpar.documents.formats import find_format
from llmpar.documents.reader import LONGEST_HELD, Reader
from llmpar.documents.splitter import Splitter


def read_segments(
    index: int,
    source: str,
    unit: Unit,
    language: str = "auto",
    format: str = "auto",  # noqa: A002
    field: str | None = None,
    errors: Literal["strict", "surrogateescape"] = "strict",
    longest: int = LONGEST_HELD,
) -> Iterator[tuple[Block, list[Segment]]]:
    """Yield an input's blocks, each with its segments.

    Args:
        index: the input's place in the run.
        source: a path, or "-" for stdin.
        unit: what a segment is; in JSON lines a record's text always is one.
        language: see `Splitter`.
        format: see `Splitter`.
        field: see `Splitter`.
        errors: see `Reader`.
        longest: see `Reader.blocks`.

    Raises:
        InputError: see `Reader.blocks` and `Splitter.split`.
        InputUnreadable: the input cannot be opened or read.
    """
    reader = Reader(index, source, errors)
    with closing(reader):
        splitter = Splitter(reader.document, unit, language, format, field)
        is_records = find_format(format, reader.document.path) == "jsonl"
        for block in reader.blocks("line" if is_records else unit, longest, holds_records=is_records):
            yield block, splitter.split(block)
