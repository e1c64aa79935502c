"""Any document × any answers: what is made of them parses, has the same structure, and says what was answered.

Subtitles, catalogues and records have theirs in `test_cues`, `test_catalogues` and `test_records`.
"""

from __future__ import annotations

import csv
import io
import json
import re
import tracemalloc
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from support.kinds import json_structure

from llmpar.documents.document import Block, Document, Encoding, Result, Segment
from llmpar.documents.formats.options import FormatOptions
from llmpar.documents.formats.protocol import Reading
from llmpar.documents.formula import without_formula
from llmpar.documents.merger import merge
from llmpar.documents.segments import read_segments, split_text

SIGNS = st.lists(
    st.sampled_from(
        ["word", " ", "é", '"', "'", "\\", "\n", "\r\n", ",", ";", "\t", "=", ":", "#", "!", "{", "}", "1", "\\u"]
    ),
    max_size=6,
).map("".join)
FATES = st.sampled_from([None, "keep", "mark", "skip"])
NEWLINES = st.sampled_from(["\n", "\r\n"])


def split(text: str, name: str, **options: Any) -> tuple[Block, list[Segment]]:
    return split_text(text, Reading(options=FormatOptions(**options)), Document(0, name, Path(name), Encoding()))


def answered(block: Block, segments: list[Segment], answers: list[str], fate: Any) -> str:
    results = [
        Result(segment, answer, segment.fault or ("why" if fate else None))
        for segment, answer in zip(segments, answers, strict=True)
    ]
    return "".join(merge(block, segments, iter(results), fate or "keep"))


def lines_of(text: str) -> str:
    return re.sub(r"\r\n|\r", "\n", text)


ROWS = st.lists(st.tuples(SIGNS, SIGNS, SIGNS), max_size=6)


@settings(deadline=None)
@given(ROWS, st.data(), FATES, NEWLINES, st.sampled_from(",;\t|"), st.sampled_from([None, "text", "c"]))
def test_any_table(rows: Any, data: Any, fate: str | None, newline: str, delimiter: str, into: str | None) -> None:
    written = io.StringIO(newline="")
    csv.writer(written, delimiter=delimiter, lineterminator=newline).writerows([("a", "text", "c"), *rows])
    block, segments = split(written.getvalue(), "a.csv", column=["text"], into=into)
    answers = [data.draw(SIGNS) for _ in segments]
    text = answered(block, segments, answers, fate)
    found = list(csv.reader(io.StringIO(text, newline=""), delimiter=delimiter, strict=True))
    assert [len(row) for row in found] == [3] * (1 + len(rows))
    place = 2 if into == "c" else 1
    others = [number for number in range(3) if number != place]
    assert [[lines_of(row[number]) for number in others] for row in found[1:]] == [
        [lines_of(row[number]) for number in others] for row in rows
    ]
    asked = [number for number, row in enumerate(rows, 1) if row[1].strip()]
    assert [segment.text for segment in segments] == [lines_of(rows[number - 1][1]).strip() for number in asked]
    if fate is None:
        for number, segment, answer in zip(asked, segments, answers, strict=True):
            said = lines_of(found[number][place])
            same = answer == segment.text and place == 1
            assert said == (lines_of(rows[number - 1][1]) if same else without_formula(lines_of(answer).strip())) or (
                answer == segment.text and said == answer
            )
    split(text, "a.csv", column=["text"])


VALUES = st.recursive(
    st.none() | st.booleans() | st.integers() | SIGNS,
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(SIGNS, inner, max_size=3),
    max_leaves=8,
)


def strings_in(value: Any) -> list[str]:
    if isinstance(value, str):
        return [value]
    inner = value.values() if isinstance(value, dict) else value if isinstance(value, list) else ()
    return [text for one in inner for text in strings_in(one)]


@settings(deadline=None)
@given(VALUES, st.data(), FATES, st.sampled_from([None, 1, "\t"]), st.booleans())
def test_any_json(value: Any, data: Any, fate: str | None, indent: Any, is_ascii: bool) -> None:
    source = json.dumps([value], indent=indent, ensure_ascii=is_ascii)
    block, segments = split(source, "a.json", field=["$..*"])
    answers = [data.draw(SIGNS) for _ in segments]
    text = answered(block, segments, answers, fate)
    assert json_structure(json.loads(text)) == json_structure([value])
    asked = [string for string in strings_in([value]) if string.strip()]
    assert [segment.text for segment in segments] == [string.strip() for string in asked]
    if fate is None:
        said = [found.strip() for found, was in zip(strings_in(json.loads(text)), strings_in([value]), strict=True)
                if was.strip()]  # fmt: skip
        assert said == [answer.strip() for answer in answers]
    lines = json.dumps({"t": value}) + "\n" + json.dumps({"t": "x"}) + "\n"
    block, segments = split(lines, "a.jsonl", field=["$..*"])
    text = answered(block, segments, [data.draw(SIGNS) for _ in segments], fate)
    found = [json.loads(line) for line in text.split("\n")[:-1]]
    assert json_structure(found) == json_structure([{"t": value}, {"t": "x"}])


def properties_in(text: str) -> list[tuple[str, str]]:
    """Return keys and values, as `java.util.Properties` reads them: by characters, as it does."""
    found = []
    logical = re.sub(r"(?<!\\)((?:\\\\)*)\\\n[ \t\f]*", r"\1", lines_of(text))
    for line in logical.split("\n"):
        line = line.lstrip(" \t\f")
        if not line or line[0] in "#!":
            continue
        at = 0
        while at < len(line) and line[at] not in "=: \t\f":
            at += 2 if line[at] == "\\" else 1
        key, rest = line[:at], line[at:].lstrip(" \t\f")
        if rest[:1] in ("=", ":"):
            rest = rest[1:].lstrip(" \t\f")
        said, at = "", 0
        while at < len(rest):
            if rest[at] != "\\":
                said, at = said + rest[at], at + 1
            elif rest[at + 1 : at + 2] == "u":
                said, at = said + chr(int(rest[at + 2 : at + 6], 16)), at + 6
            else:
                letter = rest[at + 1 : at + 2]
                said, at = said + {"t": "\t", "n": "\n", "r": "\r", "f": "\f"}.get(letter, letter), at + 2
        found.append((key, said))
    return found


@pytest.mark.parametrize("source", ["a \\\n  = one\n", "a\\\n  b = one\n", "a = \\\n  one\n", "a\\\n  : \\\n\tone"])
def test_what_stands_between_a_key_and_its_value_may_go_on_over_lines(source: str) -> None:
    block, segments = split(source, "a.properties")
    ((key, _),) = properties_in(source)
    assert [segment.text for segment in segments] == ["one"]
    assert properties_in(answered(block, segments, ["two"], None)) == [(key, "two")]


VALUE = st.lists(
    st.sampled_from(["word", " ", "é", "\\\\", "\\n", "\\u00e9", "=", ":", "#", "{0}", "\\\n  ", "1"]), max_size=6
)
ENTRIES = st.lists(
    st.tuples(
        st.sampled_from(["a", "b.c", "d\\ e", "f\\="]), st.sampled_from(["=", " = ", ":", " "]), VALUE.map("".join)
    ),
    max_size=5,
)


@settings(deadline=None)
@given(ENTRIES, st.data(), FATES, NEWLINES)
def test_any_properties(entries: Any, data: Any, fate: str | None, newline: str) -> None:
    # A line that goes on where the document ends, or into the next entry, would be one with it.
    source = "".join(f"# {key}\n{key}{sign}{value.rstrip()}x\n\n" for key, sign, value in entries).replace(
        "\n", newline
    )
    block, segments = split(source, "a.properties")
    answers = [data.draw(SIGNS.filter(lambda text: "\\u" not in text)) for _ in segments]
    text = answered(block, segments, answers, fate)
    before, after = properties_in(source), properties_in(text)
    assert [key for key, _ in after] == [key for key, _ in before]
    asked = [number for number, (_, value) in enumerate(before) if any(char.isalpha() for char in value)]
    assert [segment.text for segment in segments] == [before[number][1].strip() for number in asked]
    if fate is None:
        for number, answer in zip(asked, answers, strict=True):
            assert after[number][1].strip() == answer.strip()
    split(text, "a.properties")


@pytest.mark.parametrize("into", [None, "new"])
def test_a_long_table_is_read_in_bounded_memory(into: str | None, tmp_path: Path) -> None:
    def peak(num_rows: int) -> int:
        path = tmp_path / f"{num_rows}.csv"
        rows = (f'{n},"Row {n}\nsays ""{"x" * 480}""."\n' for n in range(num_rows))
        path.write_text("id,text\n" + "".join(rows))
        reading = Reading(options=FormatOptions(column=["text"], into=into))
        tracemalloc.start()
        count = 0
        for block, segments in read_segments(0, str(path), reading):
            text = "".join(merge(block, segments, (Result(s, s.text) for s in segments)))
            count += text.count("Row") if into is None else len(segments)
        highest = tracemalloc.get_traced_memory()[1]
        tracemalloc.stop()
        assert count == num_rows
        return highest

    small, large = peak(1_500), peak(4_500)
    assert large < 1.2 * small, (small, large)
