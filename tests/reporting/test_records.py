"""A log's lines say where pieces stand, however the lines of their text end."""

from __future__ import annotations

from pathlib import Path

import pytest

from llmpar.documents.document import INLINE, Block, Result, Segment, count_lines, text_document
from llmpar.documents.formats.protocol import Reading
from llmpar.documents.segments import read_segments
from llmpar.reporting.records import Recorder


@pytest.mark.parametrize("newline", ["\n", "\r\n", "\r"])
def test_lines_are_counted_as_segments_count_them(newline: str, tmp_path: Path) -> None:
    file = tmp_path / "a.txt"
    paragraph = newline.join(["One sentence. And one", "more over a break. Third.", "", "", "A word.", ""])
    file.write_bytes((paragraph * 3000).encode())
    recorder = Recorder("m")
    number = 0
    for _, segments in read_segments(0, str(file), Reading(unit="sentence")):
        for segment in segments:
            assert recorder.record(Result(segment))["line"] == segment.line
            number += 1
    assert number > 9000


def test_pieces_may_come_in_any_order() -> None:
    block = Block(text_document("a"), 0, "a\nb\r\nc\rd", 0, first=True, last=True, line=4)
    recorder = Recorder("m")
    for start in (7, 0, 2, 5, 2):
        segment = Segment(block, 0, start, start + 1, "x", INLINE)
        assert recorder.record(Result(segment))["line"] == segment.line == 5 + count_lines(block.text, start)
