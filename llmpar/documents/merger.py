"""Results → the document's text. What lies between segments is copied; only answers are set anew."""

from __future__ import annotations

from collections.abc import Iterable, Iterator

from llmpar.documents.document import Block, OnError, Result, Segment
from llmpar.documents.layout import NEWLINE, cells, fill
from llmpar.visible import one_line

_NEWLINES = ("\n", "\r")


def merge(
    block: Block, segments: Iterable[Segment], results: Iterator[Result], on_error: OnError = "keep"
) -> Iterator[str]:
    """Yield the text of a block with each segment replaced by its answer, piece by piece as results come.

    An answer that says what the segment says leaves it as it stands, line breaks included. What stands before a segment
    is given out before its result is asked for.

    Args:
        block: the block.
        segments: those of the block, in order.
        results: one for each of them, in the same order.
        on_error: a segment that failed stays as it stands ("keep"), with the reason before it ("mark"), or goes
            ("skip").
    """
    cursor = 0
    line = ""  # what the last line holds so far, for wrapping
    for segment in segments:
        gap = block.text[cursor : segment.start]
        line = _last_line(line, gap)
        cursor = segment.end
        wrapped = segment.layout.width > 0
        space = gap if wrapped and not gap.strip(" ") else ""  # a new line break may stand for it
        yield gap[len(space) :]
        result = next(results)
        if result.error is not None:
            text = _failed(result, on_error)
        elif result.answer == segment.text:
            text = segment.source
        else:
            text = fill(result.answer, segment.layout, cells(line) if wrapped else 0)
        line = _last_line(line, text)
        yield text if text.startswith(_NEWLINES) else space + text
    yield block.text[cursor:]


def _last_line(line: str, text: str) -> str:
    tail = NEWLINE.split(text[-4096:])
    return tail[-1] if len(tail) > 1 else (line + tail[0])[-4096:]


def _failed(result: Result, on_error: OnError) -> str:
    if on_error == "skip":
        return ""
    source = result.segment.source
    return f"[llmpar: {one_line(result.error)}] {source}" if on_error == "mark" else source
