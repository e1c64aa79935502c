"""JSON lines in: the text of a field is asked about, and everything else comes back byte for byte."""

from __future__ import annotations

import json
import re
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st
from support.backends import byte_backend
from support.fakes import FakeRunner
from support.places import ROOT
from support.program import Outcome

from llmpar.answering.local import LocalBackend
from llmpar.documents.document import Block, Document, Encoding, Result, Segment
from llmpar.documents.formats.options import FormatOptions
from llmpar.documents.formats.protocol import Reading
from llmpar.documents.merger import DocumentMerger, merge
from llmpar.documents.segments import split_text
from llmpar.jobs.record_fields import RecordFields
from llmpar.tasks.question import Question
from llmpar.tasks.task import task_of_prompt

Call = Callable[..., Outcome]
MAILS = ROOT / "sample_data" / "mails.jsonl"


def split(text: str, field: str | None = None) -> tuple[Block, list[Segment]]:
    document = Document(0, "x.jsonl", Path("x.jsonl"), Encoding())
    return split_text(text, Reading(options=FormatOptions(field and [field])), document)


def record(segment: Segment) -> str:
    assert segment.format
    return segment.format.record(segment)


VALUES = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats(allow_nan=False, allow_infinity=False) | st.text(),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text(), inner, max_size=3),
    max_leaves=6,
)
RECORDS = st.lists(
    st.tuples(
        st.dictionaries(st.text(), VALUES, max_size=4), st.text(), st.booleans(), st.sampled_from(["", " ", "\t"])
    ),
    max_size=6,
)


@given(RECORDS, st.sampled_from(["\n", "\r\n"]))
def test_any_records(records: list[tuple[dict[str, Any], str, bool, str]], newline: str) -> None:
    lines, objects = [], []
    for others, text, is_ascii, space in records:
        whole = {**others, "text": text}
        objects.append(whole)
        lines.append(space + json.dumps(whole, ensure_ascii=is_ascii, separators=(f"{space},", f":{space}")) + space)
    source = newline.join([*lines, ""])
    block, segments = split(source)
    assert [segment.text for segment in segments] == [record["text"].strip() for record in objects]
    assert [json.loads(record(segment)) for segment in segments] == objects
    same = "".join(merge(block, segments, iter([Result(segment, segment.text) for segment in segments])))
    assert same == source
    other = "".join(merge(block, segments, iter([Result(segment, f"<{segment.text}>\n") for segment in segments])))
    found = [json.loads(line) for line in other.split("\n") if line.strip()]
    assert found == [{**record, "text": f"<{record['text'].strip()}>\n"} for record in objects]


@pytest.mark.parametrize(
    ("line", "reason"),
    [
        ("[1]", "is no JSON object"),
        ("text", "is no JSON object"),
        ('{"text": "a"', "is no JSON: ',' is missing at column 13"),
        ('{"text": "a",}', "is no JSON: '\"' is missing at column 14"),
        ('{"text" "a"}', "is no JSON: ':' is missing at column 9"),
        ('{"text": "a"} {}', "goes on after its object"),
        ('{"text": "a", "text": "b"}', "has 'text' twice"),
        ('{"body": 1, "note": "x"}', "field 'body' is no string; name another with field (note)"),
        ('{"a": {"text": "b"}}', "field 'text' is missing; name another with field (there is none)"),
        ('{"text": "a\tb"}', "is no JSON: a control character or the end of the line stands in a string at column 12"),
        ('{"text": "a', "is no JSON: a string is not closed that begins at column 10"),
        ('{"text": ' + "[" * 100_000, "is nested too deeply"),
    ],
)
def test_what_is_no_record_is_told_with_its_line(line: str, reason: str) -> None:
    block, segments = split('{"text": "fine"}\n\n' + line + "\n" + '{"text": "fine, too"}\n')
    assert [segment.text for segment in segments[::2]] == ["fine", "fine, too"]
    fault = segments[1].fault
    assert fault is not None
    assert segments[1].line == 3
    assert not re.search(r"line \d", fault), "the place stands before it"
    assert reason in fault
    results = [Result(segment, segment.text, segment.fault) for segment in segments]
    assert "".join(merge(block, segments, iter(results))) == block.text


def test_the_field_that_is_named() -> None:
    line = '{"text": "no", "mail": "yes"}\n'
    assert [segment.text for segment in split(line, "mail")[1]] == ["yes"]
    assert [segment.text for segment in split('{"body": "b", "message": "m"}')[1]] == ["m"]


def test_half_a_character_survives() -> None:
    source = '{"text": "a \\ud83d b"}\n'
    block, segments = split(source)
    assert "".join(merge(block, segments, iter([Result(segments[0], segments[0].text)]))) == source
    changed = "".join(merge(block, segments, iter([Result(segments[0], segments[0].text + "!")])))
    assert changed == '{"text": "a \\ud83d b!"}\n'


@pytest.mark.parametrize(("on_error", "text"), [("keep", "a\n"), ("mark", "[llmpar: why] a"), ("skip", "")])
def test_what_fails_stays_json(on_error: Any, text: str) -> None:
    block, segments = split('{"text": "a\\n", "id": 1}\n')
    result = Result(segments[0], error="why")
    assert json.loads("".join(DocumentMerger(on_error).merge(block, segments, iter([result])))) == {
        "text": text,
        "id": 1,
    }


class TestCommand:
    @pytest.mark.parametrize("options", [(), ("-j", "4", "--batch-size", "3"), ("-u", "document")])
    def test_an_echo_is_the_input(self, llmpar: Call, options: tuple[str, ...]) -> None:
        outcome = llmpar("reply", "--engine", "echo", "-q", *options, str(MAILS))
        assert outcome.out == MAILS.read_bytes()

    def test_records_keep_what_they_were(self, llmpar: Call) -> None:
        outcome = llmpar("reply", "--engine", "echo", "--merge", "jsonl", str(MAILS))
        records = [json.loads(line) for line in MAILS.read_text().splitlines()]
        found = [json.loads(line) for line in outcome.out.decode().rstrip("\n").split("\n")]
        assert [record["record"] for record in found] == records
        assert [record["answer"] for record in found] == [record["message"] for record in records]
        assert [record["line"] for record in found] == list(range(1, 41))
        assert "40 messages" in outcome.err
        assert "half within" in outcome.err

    def test_a_line_longer_than_any_block(self, llmpar: Call) -> None:
        lines = [json.dumps({"text": "word " * 100_000, "id": i}) for i in range(3)]
        source = "\n".join(lines).encode()
        options = ("--input-format", "jsonl", "--engine", "echo", "-q")
        assert llmpar("run", "{text}", *options, stdin=source).out == source

    BAD = '{"text": "a"}\n{"text": null}\n\n{"body": "b"}\nno JSON\n{"text": "c"}\n'
    FAULTS = (
        "m.jsonl:2 'null': field 'text' is no string; name another with --field (there is none)",
        "m.jsonl:4 '{\"body\": \"b\"}': field 'text' is missing; name another with --field (body)",
        "m.jsonl:5 'no JSON': the line is no JSON object",
    )

    @pytest.mark.parametrize(
        ("on_error", "code", "lines"),
        [
            ("keep", 3, BAD.splitlines()),
            ("skip", 3, ['{"text": "a"}', '{"text": ""}', "", '{"body": "b"}', "", '{"text": "c"}']),
            ("fail", 3, []),
        ],
    )
    def test_what_is_no_record_fails_alone(
        self, llmpar: Call, tmp_path: Path, on_error: str, code: int, lines: list[str]
    ) -> None:
        path, out = tmp_path / "m.jsonl", tmp_path / "out.jsonl"
        path.write_text(self.BAD)
        outcome = llmpar("run", "{text}", "--engine", "echo", "--field", "text", "--on-error", on_error, "-o", str(out),
                         str(path))  # fmt: skip
        assert outcome.code == code, outcome.err
        assert (out.read_text().splitlines() if lines else []) == lines
        for fault in self.FAULTS[: 1 if on_error == "fail" else 3]:
            assert fault in outcome.err
        assert llmpar("split", "--field", "text", str(path)).code == 3

    def test_a_mark_stands_where_there_is_room_for_one(self, llmpar: Call, tmp_path: Path) -> None:
        path = tmp_path / "m.jsonl"
        path.write_text(self.BAD)
        outcome = llmpar("run", "{text}", "--engine", "echo", "--field", "text", "--on-error", "mark", str(path))
        marked = json.loads(outcome.out.decode().splitlines()[1])["text"]
        assert marked.startswith("[llmpar: field 'text' is no string")
        assert outcome.out.decode().splitlines()[2:] == self.BAD.splitlines()[2:]

    def test_records_of_what_failed(self, llmpar: Call, tmp_path: Path) -> None:
        path = tmp_path / "m.jsonl"
        path.write_text(self.BAD)
        outcome = llmpar("run", "{text}", "--engine", "echo", "--field", "text", "--merge", "jsonl", str(path))
        records = [json.loads(line) for line in outcome.out.decode().splitlines()]
        assert [record.get("record") for record in records] == [
            {"text": "a"}, {"text": None}, {"body": "b"}, None, {"text": "c"}
        ]  # fmt: skip
        assert [record["line"] for record in records] == [1, 2, 4, 5, 6]

    def test_chunks_hold_nothing_that_failed(self, llmpar: Call, tmp_path: Path) -> None:
        path = tmp_path / "m.jsonl"
        path.write_text(self.BAD)
        outcome = llmpar("summarize", "--engine", "echo", "--field", "text", str(path))
        assert (outcome.code, b"null" in outcome.out, b"JSON" in outcome.out) == (3, False, False), outcome

    def test_other_fields_stand_in_a_prompt(self, llmpar: Call, tmp_path: Path) -> None:
        path = tmp_path / "m.jsonl"
        path.write_text(
            '{"text": "One.", "title": "Lamp {text}", "n": 5, "none": null}\n{"text": "Two.", "id": 2}\n{"text": 1}\n'
        )
        prompt = "About {title} ({n}{none}): {text}"
        outcome = llmpar("run", prompt, "--engine", "echo", str(path))
        assert outcome.code == 3
        assert (
            "m.jsonl:2 '\"Two.\"': there is no field 'title', which the prompt names; there are: text, id"
            in outcome.err
        )
        assert "m.jsonl:3 '1': field 'text' is no string" in outcome.err
        assert outcome.out == path.read_bytes()
        segment, fields = RecordFields(task_of_prompt(prompt)).of(split(path.read_text())[1][0])
        (message,) = Question(segment, task_of_prompt(prompt), fields).messages
        assert message == ("user", "About Lamp {text} (5): One.")

    def test_prose_has_no_fields(self, llmpar: Call) -> None:
        assert llmpar("run", "{title}: {text}", "--engine", "echo", "-q", stdin=b"One.\n").out == b"One.\n"

    def test_fields_by_path(self, llmpar: Call) -> None:
        source = b'{"a": {"b": ["One.", {"c": "Two."}]}, "c": "Three."}\n'
        for names, found in (
            (("a.b[0]",), "One."),
            (("a.b[-1].c", "c"), "Two.\nThree."),
            (("$..c",), "Two.\nThree."),
            (("$..*",), "One.\nTwo.\nThree."),
            (("a.b[*]", "c"), "One.\nThree."),
        ):
            options = [word for name in names for word in ("--field", name)]
            assert llmpar("split", *options, stdin=source).out.decode() == found + "\n"
            assert llmpar("run", "{text}", "--engine", "echo", "-q", *options, stdin=source).out == source
        for wrong in ("$", "a[", "a]b", "a[x]", "a..", ".."):
            assert llmpar("split", "--field", wrong, stdin=source).code == 2, wrong

    def test_pieces_are_shown(self, llmpar: Call) -> None:
        outcome = llmpar("split", "--format", "jsonl", str(MAILS))
        pieces = [json.loads(line)["text"] for line in outcome.out.decode().rstrip("\n").split("\n")]
        assert pieces == [json.loads(line)["message"] for line in MAILS.read_text().splitlines()]

    def test_an_answer_below_would_be_no_json(self, llmpar: Call) -> None:
        assert llmpar("reply", "--interleave", "--engine", "echo", str(MAILS)).code == 2

    def test_messages_are_answered_while_others_run(self, llmpar: Call, monkeypatch: pytest.MonkeyPatch) -> None:
        from llmpar.answering.echo import Echo

        def open_backend(*_: object) -> LocalBackend:
            return byte_backend([FakeRunner(2, delay=0.002, seed=i) for i in range(2)])

        monkeypatch.setattr(Echo, "open", open_backend)
        outcome = llmpar("reply", "--engine", "echo", "--merge", "jsonl", str(MAILS))
        assert outcome.code == 0
        told = re.search(r"first after ([\d.]+) s, half within ([\d.]+) s, 95 % within ([\d.]+) s", outcome.err)
        assert told
        first, half, most = map(float, told.groups())
        assert first <= half <= most
