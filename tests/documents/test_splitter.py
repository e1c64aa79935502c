"""Text → segments: for any text, any unit and any pace of the input nothing is lost, torn or counted twice."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path
from unittest.mock import patch

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from llmpar.documents import reader as reader_module
from llmpar.documents import source as source_module
from llmpar.documents.document import Block, Document, Encoding, Result, Segment, Unit
from llmpar.documents.formats import find_format, make_format
from llmpar.documents.formats.protocol import Reading
from llmpar.documents.formats.text import TextFormat
from llmpar.documents.merger import merge
from llmpar.documents.reader import TextReader
from llmpar.documents.segments import Splitter, split_text
from llmpar.documents.source import Source
from llmpar.errors import UsageError

ROOT = Path(__file__).parents[2]
UNITS: tuple[Unit, ...] = ("sentence", "paragraph", "line", "document")

# What the splitter gives a meaning to, so that chance puts it where it matters.
PIECES = [
    "a", "B", "word", "Mr.", ". ", "? ", "!", "3. ", "1. ", "(a) ", "- ", "* ", "— ", "# ", "> ", ">> ", "| a | b |",
    "|---|---|", "```", "~~~", "$$", "\\[", "<!--", "-->", "<div>", "[x](y. z)", "`", "---", "===", "中。", "文", "“",
    "”", "«", "»", '"', "'", "\n", "\n", "\n\n", "\r\n", "\r", " ", "    ", "\t", "\x0c", "\x1c", "\x85", "\u2028",
    "\ufeff", "\xa0", "\\", "  \n", "é", "😀", "\udc80", "\udcff",
    "a long line of words that may have been wrapped by somebody at", "Another Long Line, With Capitals. Yes",
]  # fmt: skip
TEXTS = st.lists(st.sampled_from(PIECES), max_size=50).map("".join)
NAMES = st.sampled_from(["x.txt", "x.md"])


class Pipe:
    """Gives bytes a few at a time."""

    def __init__(self, data: bytes, size: int) -> None:
        self._data = data
        self._size = size

    def read(self, size: int) -> bytes:
        data, self._data = self._data[: min(size, self._size)], self._data[min(size, self._size) :]
        return data

    def fileno(self) -> int:
        raise OSError


def segments_of(data: bytes, name: str, unit: Unit, size: int = 1 << 20) -> list[tuple[Block, list[Segment]]]:
    with patch.object(source_module, "_open", lambda _: Pipe(data, size)):
        reader = TextReader(0, Source(name), "surrogateescape")
    made = make_format(Reading(unit), find_format("auto", Path(name)))
    assert isinstance(made, TextFormat)
    splitter = Splitter(made)
    return [(block, splitter.split(block)) for block in reader.blocks(made.portion)]


def encode(text: str) -> bytes:
    # Neighbouring surrogates can spell a character: take the text that comes back.
    return text.encode("utf-8", "surrogateescape").decode("utf-8", "surrogateescape").encode("utf-8", "surrogateescape")


@pytest.mark.parametrize("text", ["a  \n| a | b |", "a\n| a | b |", "> a\n> | b |"])
def test_a_line_that_begins_with_a_pipe_and_is_no_row_is_text(text: str) -> None:
    parts = segments_of(text.encode(), "x.md", "sentence")
    sources = [segment.source for _, segments in parts for segment in segments]
    assert sources == [source.strip() for source in sources]


@settings(max_examples=300, deadline=None)
@given(text=TEXTS, name=NAMES, unit=st.sampled_from(UNITS), size=st.sampled_from([1, 5, 1 << 20]))
def test_any_text_comes_back_from_its_segments(text: str, name: str, unit: Unit, size: int) -> None:
    data = encode(text)
    parts = segments_of(data, name, unit, size)
    encoding = parts[0][0].document.encoding
    body = "".join(block.text for block, _ in parts)
    assert encoding.bom + encoding.encode(body) == data
    index = 0
    echoed = b""
    for block, segments in parts:
        position = 0
        for segment in segments:
            assert position <= segment.start < segment.end <= len(block.text)
            assert segment.index == index
            assert segment.source == segment.source.strip() != ""
            # A model reads the same characters, but for white space and the quote signs that open lines.
            assert "".join(segment.text.split()).replace(">", "") == "".join(segment.source.split()).replace(">", "")
            assert body[slice(*segment.span)] == segment.source
            position = segment.end
            index += 1
        merged = "".join(merge(block, segments, iter([Result(segment, segment.text) for segment in segments])))
        assert merged == block.text
        echoed += encoding.encode(merged)
    assert encoding.bom + echoed == data


@settings(max_examples=200, deadline=None)
@given(
    text=TEXTS, name=NAMES, unit=st.sampled_from(UNITS), size=st.integers(1, 30), longest=st.sampled_from([50, 1 << 20])
)
def test_segments_do_not_depend_on_how_the_bytes_came(
    text: str, name: str, unit: Unit, size: int, longest: int
) -> None:
    def described(size: int) -> list[tuple[tuple[int, int], str]]:
        parts = segments_of(encode(text), name, unit, size)
        return [(segment.span, segment.text) for _, segments in parts for segment in segments]

    # Where only blanks go on for longer than a block, Markdown's indentation is lost from sight.
    with patch.object(reader_module, "_LONGEST", longest if name == "x.txt" else 1 << 20):
        assert described(1) == described(size) == described(1 << 20)


@settings(max_examples=200, deadline=None)
@given(text=TEXTS, name=NAMES, unit=st.sampled_from(UNITS))
def test_what_lies_between_segments_is_copied(text: str, name: str, unit: Unit) -> None:
    for block, segments in segments_of(encode(text), name, unit):
        gaps, position = [], 0
        for segment in segments:
            gaps.append(block.text[position : segment.start])
            position = segment.end
        expected = "".join(gap + "\ue000" for gap in gaps) + block.text[position:]
        assert "".join(merge(block, segments, iter([Result(segment, "\ue000") for segment in segments]))) == expected


def test_segments_say_where_they_are() -> None:
    [(_, segments)] = segments_of(b"One. Two.", "x.txt", "sentence")
    assert str(segments[1]) == "x.txt:1 'Two.'"


def test_an_unknown_language_is_refused_at_once() -> None:
    with pytest.raises(UsageError, match="klingon"):
        split_text("x", Reading(language="klingon"))


def test_a_list_goes_on_from_block_to_block() -> None:
    data = b"1. One.\n\n2. Two.\n\n4. Mai ist es."
    for size in (1, 1 << 20):
        parts = segments_of(data, "x.txt", "paragraph", size)
        assert [s.text for _, segments in parts for s in segments] == ["One.", "Two.", "4. Mai ist es."]


@pytest.mark.parametrize("size", [1, 1 << 20])
def test_each_line_is_taken_apart_from_the_one_above(size: int) -> None:
    parts = segments_of(b"word\n1. one\n\xe2\x80\x94 dash\nnext one\n", "x.txt", "line", size)
    assert [s.text for _, segments in parts for s in segments] == ["word", "one", "dash", "next one"]


@pytest.mark.parametrize("size", [1, 1 << 20])
def test_blanks_do_not_make_a_paragraph_long(size: int) -> None:
    data = b"a\n\n" + b" " * 30 + b"b " * 20 + b"\n\nc"
    with patch.object(reader_module, "_LONGEST", 50):
        parts = segments_of(data, "x.txt", "paragraph", size)
    assert [len(s.text) for _, segments in parts for s in segments] == [1, 39, 1]


def test_newlines_are_the_paragraphs_own_at_any_pace() -> None:
    data = b"One\rline.\n\nTwo.\r\n\r\nThree.\n\nFour."
    for size in (1, 1 << 20):
        segments = [segment for _, found in segments_of(data, "x.txt", "paragraph", size) for segment in found]
        assert [segment.layout.newline for segment in segments] == ["\r", "\r\n", "\n", "\n"]


@pytest.mark.parametrize("unit", UNITS[:3])
@pytest.mark.parametrize("size", [1, 1 << 20])
def test_front_matter_is_no_prose_at_any_pace(unit: Unit, size: int) -> None:
    def texts(data: bytes) -> list[str]:
        return [segment.text for _, found in segments_of(data, "x.md", unit, size) for segment in found]

    assert texts(b"---\ntitle: A. B.\nname: C\n---\nProse.\n") == ["Prose."]
    assert texts(b"+++\r\nn = 1\r\n+++\r\nProse.") == ["Prose."]
    assert texts(b"---\nNo matter.\n---\nProse.\n") == ["No matter.", "Prose."]
    assert texts(b"---\n\nname: x\n") == ["name: x"]


def test_blanks_inside_a_line_are_no_blank_line_at_any_pace() -> None:
    data = b"a" * (1 << 18) + b" " * 300_000 + b"Prose.\n"
    for size in (5000, 1 << 20):
        texts = [segment.text for _, found in segments_of(data, "x.txt", "line", size) for segment in found]
        assert texts[-1] == "Prose."


def test_a_fence_goes_on_from_block_to_block() -> None:
    for size in (1, 1 << 20):
        parts = segments_of(b"A.\n\n```\nB.\n\nC.\n```\n\nD.", "x.md", "sentence", size)
        assert [s.text for _, segments in parts for s in segments] == ["A.", "D."]


SHAPES = {
    "no full stop": "word ",
    "no space": "abcde",
    "dots": ".",
    "spaced dots": ". ",
    "marks": "?!",
    "quoted questions": ' "a ?" ',
    "newlines": "\n",
    "blank lines": " \n",
    "blanks": " ",
    "quotes": "> ",
    "markers": "- ",
    "brackets": "(",
    "square brackets": "[",
    "links": "[a](b",
    "open quotes": '"a? ',
    "hard-wrapped": "lorem ipsum dolor sit amet consectetur elit\n",
    "Chinese": "中文字",
    "Chinese stops": "中。",
    "abbreviations": "Mr. ",
    "comments": "<!---->",
    "tags": "<a ",
    "cells": "| a ",
    "ticks": "a` ",
    "dollars": "$a ",
    "stars": "。***",
    "tabs": "\t",
    "line separators": "\u2028",
}  # fmt: skip


def measure(shape: str, num_chars: int) -> None:
    """Split and echo hostile text; run in a process of its own, which can be stopped."""
    text = (SHAPES[shape] * (num_chars // len(SHAPES[shape]) + 1))[:num_chars] + "x"
    for name in ("x.txt", "x.md"):
        document = Document(0, name, Path(name), Encoding())
        for unit in UNITS:
            block, segments = split_text(text, Reading(unit), document)
            assert (
                "".join(merge(block, segments, iter([Result(segment, segment.text) for segment in segments]))) == text
            )


@pytest.mark.parametrize("group", range(3))
def test_hostile_text_takes_linear_time(group: int) -> None:
    # Squares of this size are minutes, or an exponential's eternity; a line is a second or so.
    shapes = list(SHAPES)[group::3]
    code = f"from tests.documents.test_splitter import measure\nfor shape in {shapes}: measure(shape, 60_000)"
    subprocess.run([sys.executable, "-c", code], cwd=ROOT, timeout=60, check=True)


def test_a_megabyte_without_a_full_stop() -> None:
    subprocess.run(
        [sys.executable, "-c", "from tests.documents.test_splitter import measure; measure('no full stop', 1 << 20)"],
        cwd=ROOT,
        timeout=60,
        check=True,
    )
