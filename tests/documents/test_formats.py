"""What a newcomer adds: a format is one file and one line in the table, whatever becomes of its answers."""

from __future__ import annotations

import inspect
import pickle
import re
import zipfile
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import get_args

import pytest
from support.column_format import Columns
from support.places import ROOT
from support.program import Outcome

from llmpar.documents.document import (
    INLINE,
    Block,
    Document,
    Encoding,
    Result,
    Segment,
    Unit,
    text_block,
    text_document,
)
from llmpar.documents.formats import FORMATS, Entry, find_format, make_format
from llmpar.documents.formats.options import FormatOptions
from llmpar.documents.formats.protocol import Piece, Reading
from llmpar.documents.formats.text import TextFormat
from llmpar.documents.merger import merge
from llmpar.documents.segments import Splitter, split_text

Call = Callable[..., Outcome]
ECHO = ("run", "{text}", "--engine", "echo", "-q")
ADDED = {
    "columns": Entry("support.column_format", "Columns", (".semi",)),
    "quotes": Entry("support.quoted_format", "Quotes", (".quoted",)),
    "zipped": Entry("support.zipped_format", "Zipped", (".zip",)),
}
OPTIONS = FormatOptions(field=["$..*"], column=["1"])
ONE_PIECE = {
    "jsonl": '{"text": "One. Two."}\n',
    "json": '{"text": "One. Two."}\n',
    "csv": "text\nOne. Two.\n",
    "srt": "1\n00:00:01,000 --> 00:00:02,000\nOne. Two.\n",
    "vtt": "WEBVTT\n\n00:01.000 --> 00:02.000\nOne. Two.\n",
    "po": 'msgid "One. Two."\nmsgstr ""\n',
    "properties": "key = One. Two.\n",
}
UNITS: tuple[Unit, ...] = get_args(Unit)


@pytest.fixture
def table(monkeypatch: pytest.MonkeyPatch) -> None:
    for name, entry in ADDED.items():
        monkeypatch.setitem(FORMATS, name, entry)


@pytest.mark.parametrize("name", FORMATS)
@pytest.mark.parametrize("unit", UNITS)
def test_each_line_of_the_table_names_a_format(name: str, unit: Unit) -> None:
    made = make_format(Reading(unit, format=name, options=OPTIONS), name)
    assert callable(made.pieces())
    assert made.reading.format == name


def test_names_tell_formats() -> None:
    suffixes = [suffix for entry in FORMATS.values() for suffix in entry.suffixes]
    assert len(set(suffixes)) == len(suffixes)
    assert [find_format("auto", Path(f"x{suffix.upper()}")) for suffix in (".md", ".ndjson", ".c", "")] == [
        "markdown",
        "jsonl",
        "plain",
        "plain",
    ]
    assert find_format("plain", Path("x.md")) == "plain"
    assert find_format("auto", None) == "plain"


def test_the_command_line_takes_its_choices_and_options_from_the_tables(llmpar: Call) -> None:
    told = llmpar("run", "--help-all").out.decode()
    assert "--field" in told
    wrong = llmpar(*ECHO, "--input-format", "docx", stdin=b"A.")
    assert wrong.code == 2
    assert all(re.search(rf"\b{name}\b", wrong.err) for name in ("auto", *FORMATS)), wrong.err


def test_nobody_else_names_a_format() -> None:
    named = re.compile(r"""["'](?:markdown|jsonl|plain)["']""")
    for path in (ROOT / "llmpar" / "documents").rglob("*.py"):
        if path.parent.name != "formats" and path.name not in ("document.py", "merger.py"):  # --merge jsonl is another
            assert not named.search(path.read_text("utf-8")), path


@pytest.mark.usefixtures("table")
class TestAnotherColumn:
    SOURCE = "One;\nTwo;old\nno row\nThree;\r\n"

    def test_an_answer_goes_into_it(self, llmpar: Call, tmp_path: Path) -> None:
        path = tmp_path / "a.semi"
        path.write_bytes(self.SOURCE.encode())
        outcome = llmpar(*ECHO, str(path))
        assert outcome.out == b"One;One\nTwo;Two\nno row\nThree;Three\r\n", outcome.err
        assert llmpar("split", str(path)).out == b"One\nTwo\nThree\n"

    def test_it_is_written_as_the_format_has_it(self) -> None:
        assert self.merged("a;\nb") == "One;a\\; b\nTwo;a\\; b\nno row\nThree;a\\; b\r\n"

    @pytest.mark.parametrize(
        ("on_error", "cells"),
        [("keep", ("", "old")), ("mark", ("[llmpar: why] One", "[llmpar: why] Two")), ("skip", ("", ""))],
    )
    def test_what_fails(self, on_error: str, cells: tuple[str, str]) -> None:
        block, segments = self.split()
        results = [Result(segment, error="why") for segment in segments[:2]] + [Result(segments[2], "x")]
        text = "".join(merge(block, segments, iter(results), on_error))  # type: ignore[arg-type]
        assert text == f"One;{cells[0]}\nTwo;{cells[1]}\nno row\nThree;x\r\n"

    def test_no_answer_stands_below(self, llmpar: Call, tmp_path: Path) -> None:
        path = tmp_path / "a.semi"
        path.write_text(self.SOURCE)
        outcome = llmpar(*ECHO, "--interleave", str(path))
        assert (outcome.code, "--interleave would make other rows of it" in outcome.err) == (2, True)

    def test_it_is_one_short_file(self) -> None:
        assert len(inspect.getsource(inspect.getmodule(Columns)).splitlines()) < 60  # type: ignore[arg-type]

    def split(self) -> tuple[Block, list[Segment]]:
        return split_text(self.SOURCE, Reading(), Document(0, "a.semi", Path("a.semi"), Encoding()))

    def merged(self, answer: str) -> str:
        block, segments = self.split()
        return "".join(merge(block, segments, iter([Result(segment, answer) for segment in segments])))


@pytest.mark.usefixtures("table")
def test_answers_are_inserted_below(llmpar: Call, tmp_path: Path) -> None:
    path = tmp_path / "a.quoted"
    path.write_text("Hello,\n> What?\n> Why?\nBye\n> When?\n")
    assert llmpar(*ECHO, str(path)).out.decode() == (
        "Hello,\n> What?\n< What?\n> Why?\n< Why?\nBye\n> When?\n< When?\n"
    )


@pytest.mark.usefixtures("table")
def test_a_format_reads_bytes_itself(llmpar: Call, tmp_path: Path) -> None:
    path, out = tmp_path / "a.zip", tmp_path / "out"
    with zipfile.ZipFile(path, "w") as archive:
        archive.writestr("text.txt", "One sentence. And\nanother one.\n")
    out.mkdir()
    assert llmpar("split", str(path)).out == b"One sentence.\nAnd another one.\n"
    assert llmpar(*ECHO, "--output-dir", str(out), str(path)).code == 0
    with zipfile.ZipFile(out / "a.zip") as archive:
        assert archive.read("text.txt") == b"One sentence. And\nanother one.\n"
    assert llmpar(*ECHO, "--merge", "lines", str(path)).out == b"One sentence.\nAnd another one.\n"


def test_targets_that_overlap_are_our_own_fault() -> None:
    class Crossed(TextFormat):
        def pieces(self) -> Callable[[Block], Iterator[Piece]]:
            return lambda _: iter([Piece(0, 1, "a", INLINE, (2, 3)), Piece(1, 2, "b", INLINE, (0, 1))])

    block = text_block(text_document("x"), "abc")
    segments = Splitter(Crossed()).split(block)
    with pytest.raises(AssertionError, match="order"):
        list(merge(block, segments, iter([Result(segment, "x") for segment in segments])))


@pytest.mark.parametrize("name", FORMATS)
def test_segments_can_travel(name: str) -> None:
    _, segments = split_text(ONE_PIECE.get(name, "One. Two.\n"), Reading(format=name, options=OPTIONS))
    assert segments
    for segment in segments:
        other = pickle.loads(pickle.dumps(segment))
        assert (other.text, other.span, other.target) == (segment.text, segment.span, segment.target)
        assert other.format.write(other, "X.", 0) == segment.format.write(segment, "X.", 0)  # type: ignore[union-attr]
