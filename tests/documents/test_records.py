"""Records (rows of tables, objects of JSON): their other fields in prompts, and answers in fields of their own."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from support.program import Outcome

from llmpar.documents.document import Block, Document, Encoding, Result, Segment
from llmpar.documents.formats.options import FormatOptions
from llmpar.documents.formats.protocol import Reading
from llmpar.documents.merger import merge
from llmpar.documents.segments import split_text
from llmpar.errors import UsageError
from llmpar.jobs.record_fields import RecordFields
from llmpar.tasks.task import task_of_prompt

Call = Callable[..., Outcome]
ECHO = ("run", "{text}", "--engine", "echo", "-q")
TEXTS = st.text('aé"\\\n{}\u2028', max_size=5)
CASES = Path(__file__).parent / "cases"


def split(text: str, name: str, *, is_json: bool = False, **options: Any) -> tuple[Block, list[Segment]]:
    document = Document(0, name, Path(name), Encoding())
    return split_text(text, Reading(options=FormatOptions(**options), is_json=is_json), document)


def answered(text: str, name: str, answer: str = "A", fate: Any = "keep", **options: Any) -> str:
    block, segments = split(text, name, **options)
    return "".join(merge(block, segments, (Result(s, answer, s.fault) for s in segments), fate))


def said(prompt: str, segment: Segment) -> str:
    task = task_of_prompt(prompt)
    segment, fields = RecordFields(task).of(segment)
    ((_, message),) = task.messages(segment.text, fields)
    return message


class TestFieldsInPrompts:
    PROMPT = "{Product name}, {größe}: {text}"

    @pytest.mark.parametrize(
        ("name", "text", "options"),
        [
            ("a.jsonl", '{"Product name": "Lamp {text}", "größe": 5, "text": "One."}\n', {}),
            ("a.json", '{"Product name": "Lamp {text}", "größe": 5, "b": "One."}', {"field": ["b"]}),
            ("a.json", '{"x": [{"Product name": "Lamp {text}", "größe": 5, "b": ["One."]}]}', {"field": ["$..b[*]"]}),
            ("a.csv", 'größe;text;"Product name"\n5;One.;Lamp {text}\n', {"column": ["text"]}),
            ("a.tsv", "größe\ttext\tProduct name\n5\tOne.\tLamp {text}\n", {"column": ["2"]}),
        ],
    )
    def test_each_kind_of_record(self, name: str, text: str, options: dict[str, Any]) -> None:
        (segment,) = split(text, name, **options)[1]
        assert said(self.PROMPT, segment) == "Lamp {text}, 5: One."
        with pytest.raises(UsageError, match=r"there is no field 'title', which the prompt names; there are: .*größe"):
            said("{title}: {text}", segment)

    def test_by_path(self) -> None:
        (segment,) = split('{"text": "One.", "a": {"b": [1, {"c": "x"}]}}\n', "a.jsonl")[1]
        assert said("{a.b[1].c}{a.b[-2]}: {text}", segment) == "x1: One."
        assert said("{a}", segment).startswith('{"b": [1, {"c": "x"}]}')
        for wrong in ("{a.x}", "{a.b[7]}", "{text.a}"):
            with pytest.raises(UsageError, match="is no field"):
                said(wrong, segment)

    def test_of_a_run(self, llmpar: Call) -> None:
        case = CASES / "tmpl.jsonl"
        first = json.loads(case.read_text("utf-8").splitlines()[0])
        outcome = llmpar("run", "{title}: {text}", "--engine", "echo", str(case))
        assert (outcome.code, outcome.out) == (0, case.read_bytes()), outcome.err
        outcome = llmpar("run", "{titel}: {text}", "--engine", "echo", str(case))
        assert (outcome.code, outcome.out) == (2, b"")
        assert f"there are: {', '.join(first)}" in outcome.err

    def test_a_later_record_fails_alone(self, llmpar: Call) -> None:
        source = b"a,text\n1,One.\n2\n3,Three.\n"
        outcome = llmpar("run", "{a}: {text}", "--engine", "echo", "--column", "text", stdin=source)
        assert (outcome.code, outcome.out) == (3, source)

    def test_records_of_answers_hold_the_row(self, llmpar: Call) -> None:
        outcome = llmpar(*ECHO, "--column", "text", "--merge", "jsonl", stdin=b"a,text\n1,One.\n")
        assert json.loads(outcome.out)["record"] == {"a": "1", "text": "One."}


class TestFieldsForAnswers:
    @pytest.mark.parametrize(
        ("text", "into", "expected"),
        [
            ('{"text": "t"}', "b", '{"text": "t", "b": "A"}'),
            ('{"text":"t"}', "b", '{"text":"t","b":"A"}'),
            ('{"text":"t","b" : [1],"c":2}', "b", '{"text":"t","b" : "A","c":2}'),
            ('{"text": "t", "b": {}}', "b.c", '{"text": "t", "b": {"c": "A"}}'),
            ('{"text": "t"}', "b.c.d", '{"text": "t", "b": {"c": {"d": "A"}}}'),
            ('{"b": {"x": 1 }, "text": "t"}', "b.c", '{"b": {"x": 1, "c": "A" }, "text": "t"}'),
            ('{"b": [0, {}], "text": "t"}', "b[-1].c", '{"b": [0, {"c": "A"}], "text": "t"}'),
            ('{"text": "t"}', "$['a.b']", '{"text": "t", "a.b": "A"}'),
        ],
    )
    @pytest.mark.parametrize("name", ["a.jsonl", "a.json"])
    def test_where(self, name: str, text: str, into: str, expected: str) -> None:
        assert answered(text + "\n", name, field=["text"], into=into) == expected + "\n"

    def test_a_document_keeps_its_shape(self) -> None:
        text = '[\n  {\n    "a": "One.",\n    "b": 1\n  },\n  {\n    "a": "Two."\n  }\n]\n'
        assert answered(text, "a.json", field=["[*].a"], into="c") == (
            '[\n  {\n    "a": "One.",\n    "b": 1,\n    "c": "A"\n  },\n  {\n    "a": "Two.",\n    "c": "A"\n  }\n]\n'
        )

    @pytest.mark.parametrize("name", ["a.jsonl", "a.json"])
    def test_json_is_written_as_what_it_says(self, name: str) -> None:
        answer = '{"x":\n [1, "é"]}'
        given = {"field": ["text"], "into": "b"}
        assert answered('{"text": "t"}\n', name, answer, is_json=True, **given) == (
            '{"text": "t", "b": {"x": [1, "é"]}}\n'
        )
        assert json.loads(answered('{"text": "t"}\n', name, answer, **given)) == {"text": "t", "b": answer}

    @pytest.mark.parametrize(
        ("fate", "new", "old"),
        [
            ("keep", '{"text": "t"}', '{"text": "t", "b": 1}'),
            ("mark", '{"text": "t", "b": "[llmpar: why] t"}', '{"text": "t", "b": "[llmpar: why] t"}'),
            ("skip", '{"text": "t"}', '{"text": "t", "b": null}'),
        ],
    )
    @pytest.mark.parametrize("name", ["a.jsonl", "a.json"])
    def test_what_fails(self, name: str, fate: Any, new: str, old: str) -> None:
        for text, expected in (('{"text": "t"}', new), ('{"text": "t", "b": 1}', old)):
            block, segments = split(text, name, field=["text"], into="b")
            failed = [Result(segment, error="why") for segment in segments]
            assert "".join(merge(block, segments, iter(failed), fate)) == expected

    def test_a_line_without_a_place_fails_alone(self) -> None:
        text = '{"text": "t", "b": "x"}\n{"text": null}\n{"text": "t"}\n{"b": {}}\n'
        _, segments = split(text, "a.jsonl", into="b.c")
        assert [segment.fault and (segment.line, segment.fault[:21]) for segment in segments] == [
            (1, "the line has no place"),
            (2, "field 'text' is no st"),
            None,
            (4, "field 'text' is missi"),
        ]
        for fate in ("keep", "mark"):
            assert answered(text, "a.jsonl", fate=fate, into="b.c") == text.replace(
                '{"text": "t"}', '{"text": "t", "b": {"c": "A"}}'
            )

    @pytest.mark.parametrize(
        ("name", "text", "options", "reason"),
        [
            ("a.jsonl", "{}", {"field": ["a", "b"], "into": "c"}, "name one"),
            ("a.jsonl", "{}", {"into": "$..c"}, "name one field"),
            ("a.jsonl", "{}", {"into": "c[0]"}, "name one field"),
            ("a.json", '{"a": "x"}', {"field": ["a"], "into": "a.b"}, "has no place"),
            ("a.json", '[{"a": "x", "b": "y"}]', {"field": ["$..*"], "into": "c"}, "'y' is the second one"),
            ("a.json", '["x"]', {"field": ["[*]"], "into": "c"}, "'x' stands in no record"),
        ],
    )
    def test_what_cannot_be_meant(self, name: str, text: str, options: dict[str, Any], reason: str) -> None:
        with pytest.raises(UsageError, match=reason):
            split(text, name, **options)

    @settings(deadline=None)
    @given(
        st.lists(
            st.dictionaries(st.sampled_from(["b", "c", "d e", ""]), st.integers() | TEXTS, max_size=3), max_size=4
        ),
        st.sampled_from([None, 1, "\t"]),
        st.booleans(),
        TEXTS,
    )
    def test_any_records(self, records: list[dict[str, Any]], indent: Any, is_compact: bool, answer: str) -> None:
        records = [{**record, "text": "t"} for record in records]
        spaces = (",", ":") if is_compact else None
        expected = [{**record, "b": {"c": answer}} if record.get("b") is None else None for record in records]
        lines = "".join(json.dumps(record, separators=spaces) + "\n" for record in records)
        found = answered(lines, "a.jsonl", answer, into="b.c").split("\n")
        for line, record, wanted in zip(found, records, expected, strict=False):
            assert json.loads(line) == (record if wanted is None else wanted)
        for record in records:
            record.pop("b", None)
        document = json.dumps({"all": records}, indent=indent, separators=spaces)
        written = answered(document, "a.json", answer, field=["$..text"], into="b.c")
        assert json.loads(written) == {"all": [{**record, "b": {"c": answer}} for record in records]}

    def test_of_a_run(self, llmpar: Call, tmp_path: Path) -> None:
        source = b'{"text": "One."}\n'
        outcome = llmpar(*ECHO, "--into", "echo.of", stdin=source)
        assert (outcome.code, outcome.out) == (0, b'{"text": "One.", "echo": {"of": "One."}}\n'), outcome.err
        (tmp_path / "schema.json").write_text('{"type": "object"}')
        outcome = llmpar(*ECHO, "--into", "b", "--schema", str(tmp_path / "schema.json"), stdin=b'{"text": "{}"}\n')
        assert (outcome.code, outcome.out) == (0, b'{"text": "{}", "b": {}}\n'), outcome.err


class TestWhatIsMissing:
    SOURCE = '[\n{"a": {"b": "One."}},\n{"a": {"b": null}},\n{"a": {}},\n{"x": 1, "a": {"b": "Two."}},\n7\n]\n'

    def test_in_a_document(self) -> None:
        _, segments = split(self.SOURCE, "a.json", field=["[*].a.b"])
        assert [(segment.line, segment.fault or segment.text) for segment in segments] == [
            (2, "One."),
            (3, "what is named with field=[*].a.b is no string"),
            (4, "what is named with field=[*].a.b is missing"),
            (5, "Two."),
            (6, "what is named with field=[*].a.b is missing"),
        ]
        for fate, null in (("keep", "null"), ("skip", '""'), ("mark", None)):
            text = answered(self.SOURCE, "a.json", fate=fate, field=["[*].a.b"])
            expected = self.SOURCE.replace("One.", "A").replace("Two.", "A")
            if null is not None:
                assert text == expected.replace("null", null)
            assert json.loads(text)[2:] == json.loads(expected)[2:]

    @pytest.mark.parametrize("fate", ["keep", "skip", "mark"])
    def test_with_a_field_for_answers(self, fate: Any) -> None:
        text = answered(self.SOURCE, "a.json", fate=fate, field=["[*].a.b"], into="c")
        expected = self.SOURCE.replace('"One."}}', '"One."}, "c": "A"}').replace('"Two."}}', '"Two."}, "c": "A"}')
        assert text == expected

    def test_of_one_value(self, llmpar: Call, tmp_path: Path) -> None:
        path = tmp_path / "a.json"
        path.write_text('{"a": null,\n"b": "One."}')
        for field, reason in (("a", ":1 'null': what is named with --field a is no string"), ("c.d", "is missing")):
            outcome = llmpar("run", "{text}", "--engine", "echo", "--field", "b", "--field", field, str(path))
            assert (outcome.code, reason in outcome.err, outcome.out) == (3, True, path.read_bytes()), outcome.err

    def test_in_lines(self) -> None:
        source = '{"a": [{"b": "One."}, {"b": null}, {}]}\n{"a": []}\n{}\n{"a": [{"b": "Two."}]}\n'
        _, segments = split(source, "a.jsonl", field=["a[*].b"])
        assert [segment.fault.split(";")[0] if segment.fault else segment.text for segment in segments] == [
            "One.",
            "field 'a[*].b' is no string",
            "field 'a[*].b' is missing",
            "field 'a[*].b' is missing",
            "Two.",
        ]
        assert answered(source, "a.jsonl", field=["a[*].b"]) == source.replace("One.", "A").replace("Two.", "A")
