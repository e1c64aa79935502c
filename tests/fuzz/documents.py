"""Targets: bytes → segments → bytes, and whatever a model may answer."""

from __future__ import annotations

import io
import re
from random import Random
from typing import Any, get_args
from unittest.mock import patch

from fuzz.corpus import long_bytes, mutated_bytes, mutated_text
from llmpar.documents import source as source_module
from llmpar.documents.document import Block, Result, Segment, Unit
from llmpar.documents.formats import find_format, make_format
from llmpar.documents.formats.protocol import Reading
from llmpar.documents.formats.text import TextFormat
from llmpar.documents.merger import merge
from llmpar.documents.reader import TextReader, portion_of
from llmpar.documents.segments import Splitter
from llmpar.documents.source import Source
from llmpar.errors import InputError

_UNITS: tuple[Unit, ...] = get_args(Unit)
_FAILURES = ("keep", "mark", "skip")
# It is made of the bytes that are there by then.
_GUESS = re.compile(r"it looks like [\w-]+; |, or it is [\w-]+; say so with encoding=[\w-]+")


class Pipe:
    """Gives bytes a random number at a time."""

    def __init__(self, data: bytes, random: Random, longest: int) -> None:
        self._stream = io.BytesIO(data)
        self._random = random
        self._longest = longest

    def read(self, size: int) -> bytes:
        return self._stream.read(min(size, self._random.randint(1, self._longest)))

    def fileno(self) -> int:
        raise OSError

    def close(self) -> None:
        pass


def round_trip(random: Random, record: dict[str, Any]) -> None:
    """What goes through the splitter comes back, or is refused, and the same at any pace."""
    data = long_bytes(random) if not random.randrange(150) else mutated_bytes(random)
    record["data"] = data
    unit = random.choice(_UNITS)
    name = random.choice(("x.txt", "x.md", "-", "x"))
    errors = random.choice(("strict", "surrogateescape"))
    format_, language = random.choice(("auto", "plain", "markdown")), random.choice(("auto", "auto", "german", "en"))
    record["options"] = (unit, name, errors, format_, language)
    # A few bytes at a time are for short inputs: a buffer that grows by them is copied each time.
    slow = random.choice((1, 3, 100)) if len(data) < 20_000 else 10_000

    def read(longest: int) -> list[tuple[Block, list[Segment]]] | str:
        with patch.object(source_module, "_open", lambda _: Pipe(data, random, longest)):
            reader = TextReader(0, Source(name), errors)
        made = make_format(Reading(unit, language, format_), find_format(format_, reader.document.path))
        assert isinstance(made, TextFormat)
        splitter = Splitter(made)
        try:
            return [(block, splitter.split(block)) for block in reader.blocks(made.portion)]
        except InputError as error:
            return _GUESS.sub("", str(error))

    blocks, others = read(1 << 20), read(slow)
    if isinstance(blocks, str) or isinstance(others, str):
        assert blocks == others, "what is wrong with the input depends on its pace"
        assert errors == "strict" or not _is_utf8(data), f"refused: {blocks}"
        return
    assert blocks, "no block"
    assert [block.last for block, _ in blocks] == [False] * (len(blocks) - 1) + [True]
    assert sum(block.num_bytes for block, _ in blocks) == len(data), "bytes are counted otherwise than they are"
    _check_segments(blocks)
    seen, again = ([(s.span, s.text, s.layout) for _, ss in part for s in ss] for part in (blocks, others))
    assert seen == again, "segments depend on the pace of the input"
    encoding = blocks[0][0].document.encoding
    merged = "".join("".join(merge(block, ss, (Result(s, s.text) for s in ss))) for block, ss in blocks)
    assert encoding.bom + encoding.encode(merged) == data, "the bytes did not come back"


def _is_utf8(data: bytes) -> bool:
    return not data.startswith((b"\xff\xfe", b"\xfe\xff", b"\0\0\xfe\xff"))


def _check_segments(blocks: list[tuple[Block, list[Segment]]]) -> None:
    count = offset = 0
    for block, segments in blocks:
        assert block.offset == offset
        offset += len(block.text)
        cursor = 0
        for segment in segments:
            assert segment.block is block
            assert segment.index == count
            assert cursor <= segment.start < segment.end <= len(block.text), f"{segment}: overlaps or leaves its block"
            assert segment.text.strip(), f"{segment}: is blank"
            assert segment.source.strip(), f"{segment}: is blank in the document"
            cursor = segment.end
            count += 1


def merging(random: Random, record: dict[str, Any]) -> None:
    """Whatever the answers are, what lies between segments stays as it is."""
    data = mutated_bytes(random)
    record["data"] = data
    unit, on_error = random.choice(_UNITS), random.choice(_FAILURES)
    with patch.object(source_module, "_open", lambda _: io.BytesIO(data)):
        reader = TextReader(0, Source(random.choice(("x.txt", "x.md"))), "surrogateescape")
    splitter = Splitter(make_format(Reading(unit), find_format("auto", reader.document.path)))
    answers = record["answers"] = []
    record["options"] = (unit, on_error, reader.document.name)
    try:
        blocks = list(reader.blocks(portion_of(unit)))
    except InputError:  # seen to by the other target
        return
    for block in blocks:
        segments = splitter.split(block)
        results = []
        for segment in segments:
            answer = "" if not random.randrange(8) else mutated_text(random, random.choice((3, 30, 300)))
            error = mutated_text(random, 30) if not random.randrange(10) else None
            answers.append((answer, error))
            results.append(Result(segment, answer, error))
        pieces = list(merge(block, segments, iter(results), on_error))
        _check_pieces(block, results, pieces)


def _check_pieces(block: Block, results: list[Result], pieces: list[str]) -> None:
    assert len(pieces) == 2 * len(results) + 1
    cursor = 0
    for result, before, text in zip(results, pieces[::2], pieces[1::2], strict=False):
        segment = result.segment
        gap = block.text[cursor : segment.start]
        cursor = segment.end
        if segment.layout.width and not gap.strip(" "):
            assert before == "", "a space that may become a line break was given out"
            assert text.startswith((gap, "\n", "\r")), "words run together"
        else:
            assert before == gap, "what lies between segments was changed"
        if result.error is not None:
            continue
        if segment.layout.newline == " " and result.answer != segment.text:
            assert "\n" not in text, "a line was broken that must stay one"
            assert "\r" not in text, "a line was broken that must stay one"
        if result.answer != segment.text and not segment.layout.indent.strip():
            assert "".join(text.split()) == "".join(result.answer.split()), "the answer lost or gained something"
    assert pieces[-1] == block.text[cursor:]
