"""Blocks and their segments → what is asked about them: pieces packed to chunks, neighbours shown, terms added.

What comes out follows from the document alone, never from how much of it came at a time.
"""

from __future__ import annotations

from collections import deque
from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass, field, replace

from llmpar.documents.document import INLINE, Block, Layout, Segment, count_lines
from llmpar.documents.marks import without_marks

Blocks = Iterator[tuple[Block, list[Segment]]]
"""The blocks of one document, in order, each with its segments."""

Fields = tuple[tuple[str, str], ...]

JOINT = "\n\n"  # between what is packed together
_MOST_HEADING_WORDS = 12
_WIDEST_GAP = 1 << 16  # characters between segments that go together
_CLOSED = (".", "!", "?", ":", ";", "。", "！", "？", "…", '"', "”", "»", ")")


@dataclass(slots=True)
class _Chunk:
    """Segments that go together, in a document's text from the end of the last chunk on."""

    text: str = ""
    offset: int = 0
    line: int = 0
    num_bytes: int = 0
    pieces: list[tuple[int, int, Segment, int]] = field(default_factory=list)  # start, end, segment, tokens

    @property
    def num_tokens(self) -> int:
        return sum(piece[3] for piece in self.pieces)

    def bytes_until(self, end: int) -> int:
        """Return about how many bytes the text has up to there: a block says only how many all of it has."""
        return round(self.num_bytes * end / max(1, len(self.text)))


def pack(blocks: Blocks, most: int, measure: Callable[[str], int], *, parts_at_headings: bool = False) -> Blocks:
    """Yield a document in blocks of one segment each, made of as many of the given ones as have `most` tokens together.

    A heading goes with what it heads. A segment that has more tokens by itself stays by itself.

    Args:
        blocks: of the document.
        most: tokens.
        measure: counts the tokens of a text.
        parts_at_headings: begin anew with every heading.
    """
    chunk, index = _Chunk(), 0
    last: Block | None = None
    for block, segments in blocks:
        last = block
        if block.part:  # nothing goes together with what nobody is asked about
            if chunk.text:
                yield _packed(chunk, chunk.pieces, block, index)
                index += bool(chunk.pieces)
            chunk = _Chunk(offset=block.offset + len(block.text), line=block.line + count_lines(block.text))
            yield replace(block, last=False), [replace(segment, index=index) for segment in segments]
            index += len(segments)
            continue
        base = len(chunk.text)
        if not base:
            chunk.offset, chunk.line = block.offset, block.line
        chunk.text += block.text
        chunk.num_bytes += block.num_bytes
        for segment in segments:
            num_tokens = measure(segment.text)
            is_alone = segment.fault is not None or bool(chunk.pieces and chunk.pieces[-1][2].fault is not None)
            is_far = bool(chunk.pieces) and base + segment.start - chunk.pieces[-1][1] > _WIDEST_GAP
            is_far |= parts_at_headings and is_heading(segment.text, segment.layout)
            if is_alone and chunk.pieces:
                cut = len(chunk.pieces)
                yield _packed(chunk, chunk.pieces, block, index)
                index += 1
                base -= _shorten(chunk, cut)
            elif (is_far or chunk.num_tokens + num_tokens > most) and (cut := _before_headings(chunk)):
                yield _packed(chunk, chunk.pieces[:cut], block, index)
                index += 1
                base -= _shorten(chunk, cut)
            chunk.pieces.append((base + segment.start, base + segment.end, segment, num_tokens))
        if not chunk.pieces and not block.last:  # nothing that anybody is asked about
            yield _packed(chunk, [], block, index)
            chunk = _Chunk()
    if last is not None:
        yield _packed(chunk, chunk.pieces, last, index, last=True)


def _before_headings(chunk: _Chunk) -> int:
    """Return how many pieces stay when the headings at the end go to what comes next; all, if there is nothing else."""
    count = len(chunk.pieces)
    while count and is_heading(chunk.pieces[count - 1][2].text, chunk.pieces[count - 1][2].layout):
        count -= 1
    return count


def is_heading(text: str, layout: Layout) -> bool:
    """Tell whether a segment's text looks like a heading: short, on a line of its own, and no sentence."""
    is_short = "\n" not in text and len(text.split()) <= _MOST_HEADING_WORDS
    return is_short and (layout is INLINE or not text.endswith(_CLOSED))


def _packed(
    chunk: _Chunk, pieces: list[tuple[int, int, Segment, int]], block: Block, index: int, *, last: bool = False
) -> tuple[Block, list[Segment]]:
    text = chunk.text[: pieces[-1][1]] if pieces and not last else chunk.text
    num_bytes = chunk.bytes_until(len(text))
    whole = Block(block.document, chunk.offset, text, num_bytes, not chunk.offset, last, chunk.line)
    if not pieces:
        return whole, []
    start, end, first = pieces[0][0], pieces[-1][1], pieces[0][2]
    text = JOINT.join(piece[2].text for piece in pieces)
    return whole, [Segment(whole, index, start, end, text, first.layout, first.fault)]  # what has a fault is alone


def _shorten(chunk: _Chunk, count: int) -> int:
    """Drop the first pieces of a chunk, and return by how many characters its text became shorter."""
    shift = chunk.pieces[count - 1][1]
    chunk.line += count_lines(chunk.text, shift)
    chunk.num_bytes -= chunk.bytes_until(shift)
    chunk.text, chunk.offset = chunk.text[shift:], chunk.offset + shift
    chunk.pieces = [(start - shift, end - shift, segment, size) for start, end, segment, size in chunk.pieces[count:]]
    return shift


def with_neighbours(blocks: Blocks, count: int) -> Iterator[tuple[Block, list[Segment], list[Fields]]]:
    """Yield a document's blocks with what stands before and after each segment, as far as `count` segments.

    A block is held back until what comes after its last segment is known.
    """
    held: deque[tuple[Block, list[Segment]]] = deque()
    before: deque[str] = deque(maxlen=count)

    def shown(block: Block, segments: list[Segment]) -> tuple[Block, list[Segment], list[Fields]]:
        ahead = [_told(segment) for _, others in held for segment in others[:count]][:count]
        texts = [_told(segment) for segment in segments] + ahead
        found: list[Fields] = []
        for index, segment in enumerate(segments):
            found.append((("before", _joined(before)), ("after", _joined(texts[index + 1 : index + 1 + count]))))
            before.append(_told(segment))
        return block, segments, found

    for block, segments in blocks:
        held.append((block, segments))
        while held and (block.last or sum(len(others) for _, others in list(held)[1:]) >= count):
            yield shown(*held.popleft())


def _told(segment: Segment) -> str:
    """Return what a neighbour may know of a segment: nothing, if it is damaged."""
    return "" if segment.fault else without_marks(segment.text, segment.marks)


def _joined(texts: Iterable[str]) -> str:
    return " ".join(" ".join(text.split()) for text in texts)
