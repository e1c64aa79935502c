"""JSONL: a record's text is a segment, an echo is the input, an answer changes nothing but that text."""

from __future__ import annotations

import json
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from llmpar.documents.document import Block, Document, Encoding, Result, Segment, Unit
from llmpar.documents.formats import format_name
from llmpar.documents.formats.jsonl import record_of
from llmpar.documents.merger import merge
from llmpar.documents.splitter import Splitter
from llmpar.errors import InputError

DOCUMENT = Document(0, "mails.jsonl", Path("mails.jsonl"), Encoding())


def split(text: str, field: str | None = None, unit: Unit = "sentence", document: Document = DOCUMENT) -> list[Segment]:
    return Splitter(document, unit, field=field).split(Block(document, 0, text, 0, True, True))


def answered(segments: list[Segment], text: str, *answers: str) -> str:
    results = [Result(segment, answer) for segment, answer in zip(segments, answers, strict=True)]
    block = Block(DOCUMENT, 0, text, 0, True, True)
    return "".join(merge(block, segments, iter(results)))


# Well-formed lines


@pytest.mark.parametrize("unit", ["sentence", "paragraph", "line", "document"])
def test_a_record_is_a_segment_whatever_the_unit(unit: Unit) -> None:
    text = '{"id": 1, "text": "One. Two.\\n\\nThree."}\r\n\n  \n{"text":"Vier","id":2}'
    assert [segment.text for segment in split(text, unit=unit)] == ["One. Two.\n\nThree.", "Vier"]
    assert [segment.source for segment in split(text, unit=unit)] == ['"One. Two.\\n\\nThree."', '"Vier"']


@pytest.mark.parametrize(
    ("line", "field", "text"),
    [
        ('{"text": "a"}', None, "a"),
        ('{"prompt": "c", "message": "b", "content": "a"}', None, "a"),
        ('{"content": "a", "text": "b"}', "content", "a"),
        ('{"q": {"text": "x"}, "text" \t: \t"a" , "z": ["text", {"a": 1}]}', None, "a"),
        ('{"te\\u0078t": "a"}', None, "a"),
        ('{"": "a"}', "", "a"),
        ('{"text": "\\"\\\\ \\u00e4\\ud83d\\ude00 ä"}', None, '"\\ ä😀 ä'),
        ('{"text": " \\n a\\r\\nb \\t"}', None, "a\nb"),
        ('{"text": "a\u2028b\x85c", "x": -1.5e3}', None, "a\u2028b\x85c"),
        ('\t{"text": "{\\"text\\": 1}"}  ', None, '{"text": 1}'),
    ],
)
def test_the_text_of_a_field_is_found(line: str, field: str | None, text: str) -> None:
    (segment,) = split(line, field)
    assert segment.text == text
    assert record_of(segment) == json.loads(line)
    assert answered([segment], line, segment.text) == line


def test_the_first_record_decides_on_the_field() -> None:
    assert [s.text for s in split('{"message": "a"}\n{"message": "b", "text": 5}\n')] == ["a", "b"]
    with pytest.raises(InputError, match=r"mails\.jsonl:2: the field 'message' is missing"):
        split('{"message": "a"}\n{"text": "b"}\n')


def test_a_text_of_white_space_is_no_segment() -> None:
    assert split('{"text": ""}\n{"text": " \\n "}\n') == []


def test_lines_and_the_field_are_kept_from_block_to_block() -> None:
    splitter = Splitter(DOCUMENT, "sentence")
    first, second = '{"content": "a"}\n\n', '{"text": "a"}'
    assert [s.index for s in splitter.split(Block(DOCUMENT, 0, first, 0, True, False))] == [0]
    with pytest.raises(InputError, match=r"mails\.jsonl:3: the field 'content' is missing"):
        splitter.split(Block(DOCUMENT, len(first), second, 0, False, True))


@pytest.mark.parametrize(
    ("line", "answer", "expected"),
    [
        ('{"id": 1.0, "text": "a", "x": "\\u00e4"}', "ö", '{"id": 1.0, "text": "ö", "x": "\\u00e4"}'),
        ('{"text": "\\u00e4"}', "ö😀", '{"text": "\\u00f6\\ud83d\\ude00"}'),
        ('{"text": "ä"}', 'say "hi"\\\n\tnow', '{"text": "say \\"hi\\"\\\\\\n\\tnow"}'),
        ('{"text": "\\n a\\n\\n"}', " b\n", '{"text": "\\n b\\n\\n"}'),
        ('{"text": "a\\r\\nb"}', "c\nd", '{"text": "c\\r\\nd"}'),
        ('{"text": "a"}', "\ud800", '{"text": "\\ud800"}'),
        ('{"text": "a"}', "", '{"text": ""}'),
        ('{"text": "a\\u00e4"}', "aä", '{"text": "a\\u00e4"}'),
    ],
)
def test_an_answer_is_put_back_as_a_string(line: str, answer: str, expected: str) -> None:
    assert answered(split(line), line, answer) == expected


def test_lone_surrogates_survive_an_echo() -> None:
    line = '{"text": "x \\ud800 y\\uDC00", "n": "\\udfff"}\n'
    (segment,) = split(line)
    assert segment.text == "x \ud800 y\udc00"
    assert answered([segment], line, segment.text).encode() == line.encode()


VALUES = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats(allow_nan=False, allow_infinity=False) | st.text(),
    lambda values: st.lists(values, max_size=3) | st.dictionaries(st.text(max_size=3), values, max_size=3),
    max_leaves=5,
)
RECORDS = st.builds(
    lambda rest, text: {**rest, "text": text},
    st.dictionaries(st.text(max_size=4), VALUES, max_size=3),
    st.text(alphabet=st.characters(), max_size=20),
)


@given(
    st.lists(st.tuples(RECORDS, st.booleans(), st.sampled_from([None, 1]), st.sampled_from(["\n", "\r\n", "\n \n"]))),
    st.data(),
)
def test_an_echo_is_the_input_and_answers_are_read_back(
    rows: list[tuple[dict[str, object], bool, int | None, str]], data: st.DataObject
) -> None:
    lines = []
    for record, ascii_only, indent, newline in rows:
        dumped = json.dumps(record, ensure_ascii=ascii_only, indent=indent)
        lines.append(dumped.replace("\n", "\t") + newline)
    text = "".join(lines)
    segments = split(text, "text")
    said = [record for record, *_ in rows if str(record["text"]).strip()]
    assert [record_of(segment) for segment in segments] == said
    assert answered(segments, text, *(segment.text for segment in segments)) == text
    answers = [data.draw(st.text(max_size=5)) for _ in segments]
    merged = [json.loads(line) for line in answered(segments, text, *answers).split("\n") if line.strip(" \r")]
    assert len(merged) == len(rows)
    for before, after in zip([record for record, *_ in rows], merged, strict=True):
        assert list(before) == list(after)
        assert {**before, "text": ""} == {**after, "text": ""}


# Malformed lines


@pytest.mark.parametrize(
    ("line", "reason"),
    [
        ("hello", "not a JSON object: '{' is expected at column 1"),
        ('["text"]', "not a JSON object: '{' is expected at column 1"),
        ('"text"', "not a JSON object"),
        ("null", "not a JSON object"),
        ("{}", "the field 'text' is missing; every record needs one for its text, and --field NAME names another"),
        ('{"text": 5}', "the field 'text' is no string"),
        ('{"text": null}', "the field 'text' is no string"),
        ('{"text": ["a"]}', "the field 'text' is no string"),
        ('{"text": "a"', "not a JSON object: ',' is expected at column 13"),
        ('{"text": "a",}', "not a JSON object: a field's name is expected at column 14"),
        ('{"text" "a"}', "not a JSON object: ':' is expected at column 9"),
        ('{"text": "a"} x', "not a JSON object: there is more after it, at column 15"),
        ('{"text": "a"}{"text": "b"}', "there is more after it, at column 14"),
        ('{"text": "a', "not a JSON object: Unterminated string starting at at column 10"),
        ('{"text": "a\tb"}', "not a JSON object: Invalid control character at at column 12"),
        ('{"text": }', "not a JSON object: Expecting value at column 10"),
        ("{'text': 'a'}", "a field's name is expected at column 2"),
        ('{"text": "a", "text": "a"}', "the field 'text' is there twice"),
        ('{"text": "a", "x": {"y": 1, "y\\u001b": 2, "y": 3}}', "the field 'y' is there twice"),
        ('{"text": "a", "\\u001b": 1, "\\u001b": 1}', "the field '^[' is there twice"),
        ('{"text": "a", "x": ' + "[" * 100_000, "nested too deeply"),
        ('{"text": "a", "x": ' + "9" * 5_000 + "}", "not a JSON object"),
    ],
)
def test_a_line_that_is_no_record_is_refused_by_number(line: str, reason: str) -> None:
    with pytest.raises(InputError) as raised:
        split(f'{{"text": "a"}}\r\n\n{line}\n')
    assert str(raised.value).startswith("mails.jsonl:3: ")
    assert reason in str(raised.value)
    assert "\n" not in str(raised.value)


@given(st.text(alphabet='{}[]":,\\ \n\rtextu0d8', max_size=40))
def test_any_text_is_read_or_refused(text: str) -> None:
    try:
        segments = split(text)
    except InputError:
        segments = None
    expected = []
    for line in filter(lambda line: line.strip(" \t\r"), text.split("\n")):
        try:
            expected.append(json.loads(line))
        except ValueError:
            expected.append(None)
    if all(isinstance(record, dict) and isinstance(record.get("text"), str) for record in expected):
        fields = [json.loads(line, object_pairs_hook=list) for line in text.split("\n") if line.strip(" \t\r")]
        assert (segments is not None) or any(len(dict(pairs)) < len(pairs) for pairs in fields)
    if segments is not None:
        assert answered(segments, text, *(segment.text for segment in segments)) == text


# Choice of the format


@pytest.mark.parametrize(
    ("name", "path", "expected"),
    [
        ("auto", "a.jsonl", "jsonl"),
        ("auto", "a.NDJSON", "jsonl"),
        ("auto", "a.json", "plain"),
        ("auto", "a.md", "markdown"),
        ("auto", None, "plain"),
        ("plain", "a.jsonl", "plain"),
        ("jsonl", "a.txt", "jsonl"),
        ("jsonl", None, "jsonl"),
    ],
)
def test_the_format_is_named_or_told_by_the_suffix(name: str, path: str | None, expected: str) -> None:
    assert format_name(name, Path(path) if path else None) == expected


def test_a_format_that_is_named_goes_before_the_suffix() -> None:
    text = '{"text": "a"}'
    document = Document(0, "a.txt", Path("a.txt"), Encoding())
    assert Splitter(document, "line").split(Block(document, 0, text, 0, True, True))[0].text == text
    jsonl = Splitter(document, "line", format="jsonl")
    assert jsonl.split(Block(document, 0, text, 0, True, True))[0].text == "a"
    plain = Splitter(DOCUMENT, "line", format="plain")
    assert plain.split(Block(DOCUMENT, 0, text, 0, True, True))[0].text == text
