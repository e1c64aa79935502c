"""What all formats promise: an echo is the input, only prose changes, and no answer breaks a document's structure.

`support/kinds.py` has for each format a document with all that it knows, what the prose in it is, and what reads its
structure by other means than the format itself.
"""

from __future__ import annotations

import csv
import io
import re
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from support.kinds import KINDS, Kind, options_of, words_of
from support.places import ROOT
from support.program import Outcome

from llmpar.documents.document import Block, Document, Encoding, Result, Segment
from llmpar.documents.formats import srt
from llmpar.documents.formats.options import FormatOptions
from llmpar.documents.formats.protocol import Reading
from llmpar.documents.merger import merge
from llmpar.documents.segments import read_segments, split_text
from llmpar.documents.sentences.clauses import WIDEST
from llmpar.errors import InputError, UsageError

Call = Callable[..., Outcome]
CASES = Path(__file__).parent / "cases"
GOLDEN = Path(__file__).parent / "golden" / "kinds"


def split(text: str, name: str, **options: Any) -> tuple[Block, list[Segment]]:
    document = Document(0, name, Path(name), Encoding())
    return split_text(text, Reading(options=FormatOptions(**options)), document)


def merged(block: Block, segments: list[Segment], answer: Callable[[str], str], on_error: Any = "keep") -> str:
    results = [Result(segment, answer(segment.text), segment.fault) for segment in segments]
    return "".join(merge(block, segments, iter(results), on_error))


def read_merged(path: Path, answer: Callable[[str], str], **options: Any) -> str:
    parts = []
    for block, segments in read_segments(0, str(path), Reading(options=FormatOptions(**options))):
        parts.append(merged(block, segments, answer))
    return "".join(parts)


def opened(kind: Kind, text: str | None = None) -> tuple[Block, list[Segment]]:
    return split(kind.document if text is None else text, kind.name, **options_of(kind))


IDS = [kind.name for kind in KINDS]
ANSWERS = st.text(max_size=40) | st.lists(
    st.sampled_from(
        ["word ", "\n", "\n\n", "\r\n", '"', '""', "'", "\\", "-->", "<b>", "</p>", "<!--", "&amp;", "&", ",", ";",
         "\t", "1", "=", ":", "00:00:01,000 --> 00:00:02,000", 'msgid "x"', "=1+1", "{", "}", "NOTE", "#", "]]>",
         "\x00", "\u2028", "\ud800"]
    ),
    max_size=8,
).map("".join)  # fmt: skip


@pytest.mark.parametrize("kind", KINDS, ids=IDS)
class TestEach:
    def test_its_prose(self, kind: Kind) -> None:
        assert tuple(segment.text for segment in opened(kind)[1]) == kind.prose

    def test_an_echo_is_the_input(self, kind: Kind) -> None:
        block, segments = opened(kind)
        if not kind.has_places_of_its_own:
            assert merged(block, segments, str) == kind.document
        failed = [Result(segment, "", "why") for segment in segments]
        assert "".join(merge(block, segments, iter(failed), "keep")) == kind.document

    @pytest.mark.parametrize("newline", ["\n", "\r\n", "\r"])
    def test_newlines_are_its_own(self, kind: Kind, newline: str) -> None:
        source = kind.document.replace("\r\n", "\n").replace("\n", newline)
        block, segments = opened(kind, source)
        assert [" ".join(s.text.split()) for s in segments] == [" ".join(text.split()) for text in kind.prose]
        if not kind.has_places_of_its_own:
            assert merged(block, segments, str) == source
        answered = merged(block, segments, lambda text: text.upper() + "\nsecond line")
        others = {"\n", "\r\n", "\r"} - {newline}
        found = set(re.findall(r"\r\n|\n|\r", answered))
        assert not found & others

    def test_upper_case_changes_the_prose_alone(self, kind: Kind) -> None:
        expected = (GOLDEN / kind.name).read_bytes().decode()
        assert merged(*opened(kind), str.upper) == expected

    @settings(deadline=None)
    @given(data=st.data())
    def test_any_answers_keep_the_structure(self, kind: Kind, data: st.DataObject) -> None:
        block, segments = opened(kind)
        results = [
            Result(segment, data.draw(ANSWERS), data.draw(st.none() | st.sampled_from(["why", 'a --> <b> " \n'])))
            for segment in segments
        ]
        fate = data.draw(st.sampled_from(["keep", "mark", "skip"]))
        text = "".join(merge(block, segments, iter(results), fate))
        assert kind.structure(text) == kind.structure(kind.document), text
        again = opened(kind, text)  # and it can be read again
        if kind.name.endswith(("html", "vtt", "srt")):
            return  # where an answer of signs is no prose, or is several lines
        assert len(again[1]) <= len(segments)

    def test_a_run_of_the_program(self, kind: Kind, llmpar: Call, tmp_path: Path) -> None:
        path = tmp_path / kind.name
        path.write_bytes(kind.document.encode())
        given = words_of(kind)
        outcome = llmpar("run", "{text}", "--engine", "echo", "-q", *given, str(path))
        assert outcome.code == 0, outcome.err
        if not kind.has_places_of_its_own:
            assert outcome.out == kind.document.encode()
        assert llmpar("run", "{text}", "--engine", "echo", "--interleave", *given, str(path)).code == 2


DAMAGED = [
    ("a.srt", "Text before all.\n", 1),
    ("a.srt", "1\n00:00:01,000 -> 00:00:02,000\nHi.\n", 1),
    ("a.srt", "1\n00:00:01,000 --> 00:00:02,000\nHi.\n\n2\n00:00:03,000 -> 00:00:04,000\nYou.\n", 6),
    ("a.srt", "1\n00:00:01,000 --> 00:00:02,000\nHi --> you.\n", 3),
    ("a.vtt", "WEBVTT\n00:01.000 --> 00:02.000\nHi\n", 2),
    ("a.vtt", "Hi\n", 1),
    ("a.vtt", "WEBVTT\n\n1\n00:01 --> 00:02\nHi\n", 4),
    ("a.vtt", "WEBVTT\n\nText without times.\n", 3),
    ("a.po", 'msgid "a"\nmsgstr "b\n', 2),
    ("a.po", 'msgid "a"\n\nmsgid "b"\nmsgstr ""\n', 3),
    ("a.po", 'msgid "a"\nmsgstr ""\nmsgstr ""\n', 3),
    ("a.po", "prose\n", 1),
    ("a.po", 'msgstr "a"\n', 1),
    ("a.po", 'msgid "a "b" c"\nmsgstr ""\n', 1),
    ("a.po", 'msgid ""\nmsgstr "Content-Type: text/plain; charset=ISO-8859-1\\n"\n', 2),
    ("a.properties", "a = b\nc = d \\u12\n", 2),
    ("a.csv", 'text\na\n"b\n', 3),
    ("a.html", "<p>a\n<!-- b\n", 2),
    ("a.html", "<p>a\n<b class='c>d\n", 2),
    ("a.html", "<p>a\n<b class=c\n", 2),
    ("a.html", "<p>a\n<script>let b = 1\n", 2),
    ("a.html", '<?xml version="1.0"?>\n<html><p>a</html>\n', 2),
    ("a.html", '<?xml version="1.0"?>\n<html><p>a</p>\n', 2),
    ("a.html", "<div>" * 2000, 1),
    ("a.json", '{"a": "b",\n "c": }\n', 2),
    ("a.json", "[" * 100_000, 1),
]


@pytest.mark.parametrize(("name", "text", "line"), DAMAGED)
def test_what_is_damaged_is_told_with_its_line(name: str, text: str, line: int) -> None:
    kind = next(kind for kind in KINDS if kind.name == name)
    with pytest.raises(InputError, match=rf"{name}:{line}: "):
        opened(kind, text)


@pytest.mark.parametrize(("name", "text"), [(name, text) for name, text, _ in DAMAGED])
def test_nothing_is_written_of_it(name: str, text: str, llmpar: Call, tmp_path: Path) -> None:
    kind = next(kind for kind in KINDS if kind.name == name)
    given = words_of(kind)
    (tmp_path / name).write_text(text)
    outcome = llmpar("run", "{text}", "--engine", "echo", *given, "-o", str(tmp_path / "out"), str(tmp_path / name))
    assert outcome.code == 65, outcome.err
    assert not (tmp_path / "out").exists()


class TestTables:
    SOURCE = "id,text\n1,One.\n\n2,Two.\n3\n4,,x\n"

    def test_answers_in_a_new_column(self, tmp_path: Path) -> None:
        path = tmp_path / "a.csv"
        path.write_text("id,text\n1,One.\n2,\n\n3,Three.\n")
        options = {"column": ["text"], "into": "an, answer"}
        assert read_merged(path, str.upper, **options) == (
            'id,text,"an, answer"\n1,One.,ONE.\n2,,\n\n3,Three.,THREE.\n'
        )
        assert read_merged(path, str.upper, column=["2"], into="x", no_header=True) == (
            "id,text,TEXT\n1,One.,ONE.\n2,,\n\n3,Three.,THREE.\n"
        )

    def test_answers_in_a_column_that_is_there(self, tmp_path: Path) -> None:
        path = tmp_path / "a.tsv"
        path.write_text("out\ttext\n\tOne, two.\nold\tThree.\n")
        assert read_merged(path, str.upper, column=["text"], into="out") == (
            'out\ttext\n"ONE, TWO."\tOne, two.\nTHREE.\tThree.\n'
        )

    def test_a_row_of_another_length_fails_alone(self) -> None:
        _, segments = split(self.SOURCE, "a.csv", column=["text"])
        assert [(segment.line, segment.fault) for segment in segments if segment.fault] == [
            (5, "the row has 1 cell fewer than the first one")
        ]
        assert [segment.text for segment in segments if not segment.fault] == ["One.", "Two."]

    @pytest.mark.parametrize(
        ("options", "reason"),
        [
            ({}, "a.csv: is a table; name the column that is asked about with column=NAME; there are: "),
            ({"column": ["body"]}, "has no column 'body'; there are: id, text"),
            ({"column": ["3"]}, "has no column '3'"),
            ({"column": ["id", "text"], "into": "x"}, "name one"),
        ],
    )
    def test_what_cannot_be_meant(self, options: dict[str, Any], reason: str) -> None:
        with pytest.raises(UsageError, match=reason):
            split(self.SOURCE, "a.csv", **options)

    def test_no_answer_becomes_a_formula(self) -> None:
        block, segments = split("text\none\n-5\n", "a.csv", column=["text"])
        assert merged(block, segments, lambda text: "=1+1" if text == "one" else text) == "text\n'=1+1\n-5\n"

    def test_stdin_is_a_table_if_columns_are_spoken_of(self, llmpar: Call) -> None:
        source = b"id;text\n1;One.\n"
        assert llmpar("split", "--column", "text", stdin=source).out == b"One.\n"
        assert llmpar("split", stdin=source).out == source

    @settings(deadline=None)
    @given(
        st.lists(st.lists(st.text('ab,;"\n\t ', max_size=5), min_size=2, max_size=2), min_size=1, max_size=8),
        st.sampled_from([",", ";", "\t"]),
        st.integers(1, 9),
    )
    def test_any_table_at_any_pace(self, rows: list[list[str]], delimiter: str, size: int) -> None:
        from llmpar.documents.formats.rows import RowCutter

        written = io.StringIO(newline="")
        writer = csv.writer(written, delimiter=delimiter, lineterminator="\n")
        writer.writerow(["id", "text"])
        writer.writerows(rows)
        text = written.getvalue()
        expected = [row[1].strip() for row in csv.reader(io.StringIO(text, newline=""), delimiter=delimiter) if row]
        cutter, buffer, parts = RowCutter(1 << 20), "", []
        for start in range(0, len(text), size):
            buffer += text[start : start + size]
            while end := cutter.cut(buffer):
                parts.append(buffer[:end])
                buffer = buffer[end:]
        parts.append(buffer)
        assert "".join(parts) == text
        whole = [
            row for part in parts if part for row in csv.reader(io.StringIO(part, newline=""), delimiter=delimiter)
        ]
        assert whole == list(csv.reader(io.StringIO(text, newline=""), delimiter=delimiter))
        _, segments = split(text, "a.csv", column=["text"])
        found = [segment.text for segment in segments]
        assert found == [re.sub(r"\r\n|\r", "\n", value) for value in expected[1:] if value]

    def test_a_row_too_long_to_be_held_comes_in_parts(self) -> None:
        from llmpar.documents.formats.rows import RowCutter

        text = 'id,text\n1,short\n2,"' + "x\n" * 50 + '"\n3,last\n'
        seen = set()
        for size in (1, 7, 30, 1000):
            cutter, buffer, parts = RowCutter(20), "", []
            for start in range(0, len(text), size):
                buffer += text[start : start + size]
                while end := cutter.cut(buffer):
                    parts.append((cutter.part, buffer[:end]))
                    buffer = buffer[end:]
            parts.append((cutter.part_at_end, buffer))
            assert "".join(part for _, part in parts) == text
            seen.add(tuple(part for kind, part in parts if kind == "beginning"))
            assert "".join(part for kind, part in parts if not kind) == "id,text\n1,short\n3,last\n"
        assert len(seen) == 1, seen


def test_the_files_that_went_wrong() -> None:
    def asked(name: str, **options: Any) -> list[str]:
        return [
            segment.fault or segment.text
            for _, segments in read_segments(0, str(CASES / name), Reading(options=FormatOptions(**options)))
            for segment in segments
        ]

    assert asked("film.srt") == [
        "The old lighthouse keeper waits for the evening ferry.",
        "Who is there?",
        "Nobody. Just the wind.",
        "Are you sure? It sounded close.",
    ]
    assert asked("app.po") == [
        "%d boat is late. Please wait.",
        "%d boats are late. Please wait.",
        "Welcome aboard.\nMind the step, %(name)s.",
    ]
    assert asked("reviews.csv", column=["comment"]) == [
        "The lamp arrived broken.\nI want a refund.",
        'Great "bright" lamp, thanks!',
    ]
    assert asked("care.mdx") == ["Boat care", "Wash it."]
    third, fourth = asked("nested.jsonl", field=["review.body"])[2:]
    assert asked("nested.jsonl", field=["review.body"])[:2] == ["The lamp is broken.", "Good chair.\nFast delivery."]
    assert third.startswith("field 'review.body' is no string")
    assert fourth.startswith("field 'review.body' is missing")


@pytest.mark.parametrize("path", sorted(CASES.glob("*.*")), ids=lambda path: path.name)
def test_the_files_that_went_wrong_on_stdin(path: Path, llmpar: Call) -> None:
    options = {"reviews.csv": ("--column", "comment"), "nested.jsonl": ("--field", "review.body")}.get(path.name, ())
    outcome = llmpar("run", "{text}", "--engine", "echo", "-q", *options, stdin=path.read_bytes())
    assert outcome.code == (3 if path.name == "nested.jsonl" else 0), outcome.err
    if path.suffix != ".po":
        assert outcome.out == path.read_bytes()


@pytest.mark.parametrize(
    ("source", "expected"),
    [
        ('<!DOCTYPE html>\n<html lang="en">A', '<!DOCTYPE html>\n<html lang="de">A'),
        ("<html class=x lang=en xml:lang='en'>A", '<html class=x lang="de" xml:lang="de">A'),
        ("<html>A", '<html lang="de">A'),
        ('<p lang="en">A', '<p lang="en">A'),
        ("A", "A"),
    ],
)
def test_a_page_that_is_translated_says_its_language(source: str, expected: str, tmp_path: Path) -> None:
    (tmp_path / "a.html").write_text(source)
    reading = Reading(into_language="de")
    ((block, segments),) = read_segments(0, str(tmp_path / "a.html"), reading)
    assert merged(block, segments, str) == expected


def test_an_echo_of_a_translation_is_the_page(llmpar: Call) -> None:
    source = b'<html lang="en"><p>One.</p></html>\n'
    assert llmpar("translate", "--to", "de", "--engine", "echo", "-q", stdin=source).out == source


@pytest.mark.parametrize("options", [("-j", "1"), ("-j", "8", "-u", "line"), ("--batch-size", "2")])
def test_a_sample_table_comes_back(options: tuple[str, ...], llmpar: Call) -> None:
    path = ROOT / "sample_data" / "glossary.csv"
    for columns in (("--column", "1"), ("--column", "2", "--no-header"), ("--column", "1", "--column", "2")):
        outcome = llmpar("run", "{text}", "--engine", "echo", "-q", *columns, *options, str(path))
        assert (outcome.code, outcome.out) == (0, path.read_bytes()), outcome.err
    assert llmpar("run", "{text}", "--engine", "echo", *options, str(path)).code == 2


def test_the_cases_are_there() -> None:
    assert len(list(CASES.glob("*.*"))) >= 6


@pytest.mark.parametrize(
    ("answer", "written"),
    [("00\n0:0.0=", "00\n0∶0.0="), ("7\n8:15 x", "7\n8∶15 x"), ("10:30, and\n1\nno time", "10:30, and\n1\nno time")],
)
def test_no_line_of_an_answer_is_taken_for_the_times_of_a_cue(answer: str, written: str) -> None:
    assert srt._harmless(answer) == written


@pytest.mark.parametrize("marks", ["none", "markup"])
@pytest.mark.parametrize("reference", ["&a;", "&NotEqualTilde;"])  # one that is none, and one that is two characters
def test_a_reference_where_a_long_sentence_is_cut_stays_whole(marks: Any, reference: str) -> None:
    text = f"<p>{'x' * (WIDEST - 1)}{reference}y</p>\n"
    _, segments = split_text(text, Reading(marks=marks), Document(0, "a.html", Path("a.html"), Encoding()))
    assert len(segments) == 2
    assert segments[0].end <= segments[1].start
    assert "".join(segment.source for segment in segments) == text[3:-5]
