"""Results → the document's text. What lies between segments is copied; only answers are set anew."""

from __future__ import annotations

from collections.abc import Iterable, Iterator

from llmpar.documents.document import Block, Result
from llmpar.documents.layout import NEWLINE, cells, fill


def merge(block: Block, results: Iterable[Result]) -> Iterator[str]:
    """Yield the text of a block with each segment replaced by its answer, piece by piece as results come.

    An answer that says what the segment says leaves it as it stands, line breaks included, and so does a segment
    without an answer.

    Args:
        block: the block.
        results: one for each of its segments, in order.
    """
    cursor = 0
    line = ""  # what the last line holds so far, for wrapping
    for result in results:
        segment = result.segment
        gap = block.text[cursor : segment.start]
        line = _last_line(line, gap)
        kept = result.error is not None or result.answer == segment.text
        text = segment.source if kept else fill(result.answer, segment.layout, cells(line))
        line = _last_line(line, text)
        cursor = segment.end
        yield gap + text
    yield block.text[cursor:]


def _last_line(line: str, text: str) -> str:
    tail = NEWLINE.split(text[-4096:])
    return tail[-1] if len(tail) > 1 else (line + tail[0])[-4096:]
