"""What is asked follows from the document alone: chunks and neighbours are the same however the input came."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

from hypothesis import given, settings
from hypothesis import strategies as st

from llmpar.documents.document import Block, Document, Encoding, Segment
from llmpar.documents.formats import find_format, make_format
from llmpar.documents.formats.protocol import Reading
from llmpar.documents.segments import Splitter
from llmpar.jobs.segmenting import JOINT, pack, with_neighbours

DOCUMENT = Document(0, "test.md", Path("test.md"), Encoding())


def words(text: str) -> int:
    return len(text.split())


def blocks(paragraphs: list[str], sizes: list[int], unit: str = "paragraph") -> Iterator[tuple[Block, list[Segment]]]:
    """Yield a document of these paragraphs in blocks of so many each, over and over."""
    splitter = Splitter(make_format(Reading(unit, "english"), find_format("auto", DOCUMENT.path)))  # type: ignore[arg-type]
    pieces = [f"{paragraph}\n\n" for paragraph in paragraphs]
    start = number = offset = line = 0
    while True:
        end = start + sizes[number % len(sizes)]
        text = "".join(pieces[start:end])
        last = end >= len(pieces)
        block = Block(DOCUMENT, offset, text, len(text), not offset, last, line)
        yield block, splitter.split(block)
        if last:
            return
        start, number, offset, line = end, number + 1, offset + len(text), line + text.count("\n")


PARAGRAPHS = st.lists(
    st.sampled_from(
        ["One two three.", "# A heading", "Four five.\nSix.", "x " * 9 + "y.", "    code", "Seven.", "Title"]
    ),
    min_size=1,
    max_size=25,
)
SIZES = st.lists(st.integers(1, 6), min_size=1, max_size=4)


@given(PARAGRAPHS, SIZES, st.integers(1, 12))
def test_chunks_follow_from_the_text(paragraphs: list[str], sizes: list[int], most: int) -> None:
    source = "".join(f"{paragraph}\n\n" for paragraph in paragraphs)

    def packed(sizes: list[int]) -> tuple[str, list[tuple[tuple[int, int], int, int, str]]]:
        found = list(pack(blocks(paragraphs, sizes), most, words))
        assert [block.first for block, _ in found] == [True] + [False] * (len(found) - 1)
        assert [block.last for block, _ in found] == [False] * (len(found) - 1) + [True]
        segments = [segment for _, segments in found for segment in segments]
        for segment in segments:
            start, end = segment.span
            assert segment.source == source[start:end]
            assert segment.line == 1 + source.count("\n", 0, start)
        text = "".join(block.text for block, _ in found)
        return text, [(s.span, s.index, s.line, s.text) for s in segments]

    text, chunks = packed(sizes)
    assert text == source
    assert packed([len(paragraphs)])[1] == chunks
    whole = [segment for _, segments in blocks(paragraphs, [99]) for segment in segments]
    assert JOINT.join(text for *_, text in chunks) == JOINT.join(segment.text for segment in whole)


def test_a_heading_goes_with_what_it_heads() -> None:
    paragraphs = ["# First", "one two three four five.", "# Second", "six seven eight nine ten."]
    texts = [segment.text for _, segments in pack(blocks(paragraphs, [1]), 7, words) for segment in segments]
    assert texts == ["First\n\none two three four five.", "Second\n\nsix seven eight nine ten."]


def test_a_chunk_is_no_longer_than_allowed_if_it_can_be_helped() -> None:
    paragraphs = ["a b c.", "d e f.", "g h i j k l m n.", "o."]
    texts = [segment.text for _, segments in pack(blocks(paragraphs, [2]), 6, words) for segment in segments]
    assert texts == ["a b c.\n\nd e f.", "g h i j k l m n.", "o."]


@settings(deadline=None)  # the first example loads the tables of sentences
@given(PARAGRAPHS, SIZES, st.integers(1, 5))
def test_neighbours_follow_from_the_text(paragraphs: list[str], sizes: list[int], count: int) -> None:
    found = [
        (segment.text, dict(fields))
        for _, segments, all_fields in with_neighbours(blocks(paragraphs, sizes, "sentence"), count)
        for segment, fields in zip(segments, all_fields, strict=True)
    ]
    texts = [segment.text for _, segments in blocks(paragraphs, [99], "sentence") for segment in segments]
    flat = [" ".join(text.split()) for text in texts]
    assert found == [
        (text, {"before": " ".join(flat[max(0, i - count) : i]), "after": " ".join(flat[i + 1 : i + 1 + count])})
        for i, text in enumerate(texts)
    ]
