"""Files that are nested deeply, hold absurd numbers or say something twice: a line and an exit code, no traceback."""

from __future__ import annotations

import csv
import io
import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from support.program import Outcome

from llmpar.errors import UsageError
from llmpar.models.endless import is_endless
from llmpar.models.grammar import schema_rule

Call = Callable[..., Outcome]
DEEP = 5_000
ECHO = ("--engine", "echo", "-q")
DIGITS = "9" * 100_000


def one_line(outcome: Outcome) -> str:
    assert "Traceback" not in outcome.err
    assert len(outcome.err.splitlines()) == 1, outcome.err
    return outcome.err


@pytest.mark.parametrize("content", [
    "x = " + "[" * DEEP + "]" * DEEP,
    "schema = " + "{a = " * DEEP + "1" + "}" * DEEP,
    "schema.a" + ".a" * 1_000 + " = 1",
    "context = " + DIGITS,
    "context = " + "9" * 30,
    "growth = 1e400",
    "growth = nan",
    "schema = { minimum = nan }",
    "schema = { const = 1979-05-27 }",
    "prompt = 'b'",
    'system = "\\ud800"',
])  # fmt: skip
def test_a_task(llmpar: Call, tmp_path: Path, content: str) -> None:
    path = tmp_path / "t.toml"
    path.write_text(f'prompt = "a"\n{content}\n')
    outcome = llmpar("run", "--task", str(path), *ECHO, stdin=b"x")
    assert (outcome.code, str(path) in one_line(outcome)) == (2, True), outcome.err


@pytest.mark.parametrize("content", [
    '{"anyOf": ' + "[" * 100_000 + "]" * 100_000 + "}",
    '{"not": ' * 500 + "{}" + "}" * 500,
    '{"items": ' * 500 + '{"type": "null"}' + "}" * 500,
    '{"type": "integer", "maximum": ' + DIGITS + "}",
    '{"type": "number", "maximum": 1e400}',
    '{"type": "number", "maximum": NaN}',
    '{"const": "\\ud800"}',
    '{"type": "object", "properties": {"\\udfff": {"type": "null"}}}',
    '{"$ref": "#"}',
    '{"$ref": "#/$defs/a", "$defs": {"a": {"$ref": "#/$defs/b"}, "b": {"$ref": "#/$defs/a"}}}',
    '{"type": "object", "properties": {"a": {"$ref": "#"}}, "required": ["a"]}',
    '{"type": "array", "items": {"$ref": "#"}, "minItems": 1}',
    '{"$ref": "#/x"}',
    '{"$ref": "https://example.com/schema"}',
    '{"type": "string", "pattern": "(?=a)b"}',
    '{"enum": []}',
])  # fmt: skip
def test_a_schema(llmpar: Call, tmp_path: Path, content: str) -> None:
    path = tmp_path / "s.json"
    path.write_text(content)
    outcome = llmpar("run", "{text}", "--schema", str(path), "-m", "there-is-no-such-model", stdin=b"x")
    assert (outcome.code, str(path) in one_line(outcome)) == (2, True), (
        outcome.err
    )  # and not 69: no model is looked for
    assert "NoExtension" not in outcome.err


@pytest.mark.parametrize("schema", [
    {"type": "object", "properties": {"a": {"$ref": "#"}}},
    {"type": "array", "items": {"$ref": "#"}},
    {"anyOf": [{"type": "null"}, {"type": "array", "items": {"$ref": "#"}, "minItems": 2}]},
    {"$ref": "#/$defs/a~1b", "$defs": {"a/b": {"type": "null"}}},
    {"$ref": "#/$defs/list", "$defs": {"list": {"anyOf": [{"type": "null"}, {"$ref": "#/$defs/pair"}]}, "pair": {
        "type": "object", "properties": {"rest": {"$ref": "#/$defs/list"}}, "required": ["rest"]}}},
])  # fmt: skip
def test_a_schema_that_refers_to_itself_and_ends_is_used(schema: dict[str, Any]) -> None:
    assert not is_endless(schema)
    assert schema_rule(schema)


def test_the_schema_of_a_task_is_tried_before_the_model_is_looked_for(llmpar: Call, tmp_path: Path) -> None:
    path = tmp_path / "t.toml"
    path.write_text('prompt = "a"\nschema = {"$ref" = "#"}\n')
    outcome = llmpar("run", "--task", str(path), "-m", "there-is-no-such-model", stdin=b"x")
    assert (outcome.code, "without end" in one_line(outcome)) == (2, True)


def test_the_schema_of_a_request_fails_that_request_alone(llmpar: Call, tiny_model: Path) -> None:
    def request(custom_id: str, schema: object) -> str:
        form = {"type": "json_schema", "json_schema": {"name": "n", "schema": schema}}
        body = {"messages": [{"role": "user", "content": "Hi"}], "response_format": form, "max_tokens": 40}
        asked = {"custom_id": custom_id, "method": "POST", "url": "/v1/chat/completions", "body": body}
        return json.dumps(asked) + "\n"

    endless = {"type": "object", "properties": {"a": {"$ref": "#"}}, "required": ["a"]}
    schemas = [{"$ref": "#"}, endless, {"type": "string", "pattern": "(?=a)b"}, {"enum": ["yes", "no"]}]
    source = "".join(request(str(index), schema) for index, schema in enumerate(schemas))
    outcome = llmpar("batch", "--model", str(tiny_model), stdin=source.encode())
    found = [json.loads(line) for line in outcome.out.splitlines()]
    assert [one["response"]["status_code"] for one in found] == [400, 400, 400, 200]
    assert "NoExtension" not in outcome.out.decode()


def test_a_form_that_only_this_model_cannot_keep_fails_its_request_alone(
    llmpar: Call, tiny_model: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    from llmpar.models.grammar import Grammar

    def refuse(*_: object) -> None:
        raise UsageError("the rule for answers cannot be used")

    monkeypatch.setattr(Grammar, "_matcher", refuse)
    lines = []
    for index, more in enumerate(({"guided_choice": ["a", "b"]}, {})):
        body = {"messages": [{"role": "user", "content": "Hi"}], "max_tokens": 2, **more}
        lines.append(
            json.dumps({"custom_id": str(index), "method": "POST", "url": "/v1/chat/completions", "body": body})
        )
    outcome = llmpar("batch", "--model", str(tiny_model), stdin="\n".join(lines).encode())
    found = [json.loads(line) for line in outcome.out.splitlines()]
    assert [one["response"]["status_code"] for one in found] == [400, 200], outcome.err


@pytest.mark.parametrize("value", ["[" * DEEP + "]" * DEEP, DIGITS, "01", '"\\x"'])
def test_a_record(llmpar: Call, value: str) -> None:
    source = f'{{"text": "a", "b": {value}}}'.encode()
    outcome = llmpar("run", "{text}", "--input-format", "jsonl", *ECHO, stdin=source)
    assert (outcome.code, "<stdin>" in outcome.err, "<stdin>:1 " in one_line(outcome)) == (3, True, True), outcome.err
    assert outcome.out == source


def test_records_are_copied_as_they_are_written(llmpar: Call) -> None:
    source = (
        b'  {"text": "a", "n": 1e400, "m": 1.10, "k": 12345678901234567890.5, "s": "\\ud800", "d": {"x":1,"x":2}}\r\n'
    )
    options = ("--input-format", "jsonl", "--merge", "jsonl", *ECHO)
    outcome = llmpar("run", "{text}", *options, stdin=source)
    assert outcome.out.endswith(b'"record": ' + source.strip() + b"}\n")


@pytest.mark.parametrize("value", ["[" * DEEP + "]" * DEEP, DIGITS, "NaN", "1e400", '"\\ud800"'])
def test_a_request(llmpar: Call, value: str) -> None:
    outcome = llmpar("batch", *ECHO, stdin=f'{{"custom_id": "a", "b": {value}}}'.encode())
    assert (outcome.code, "<stdin>:1:" in one_line(outcome)) == (65, True), outcome.err


@pytest.mark.parametrize("name", ["config.json", "tokenizer.json", "tokenizer_config.json", "generation_config.json"])
@pytest.mark.parametrize("content", [
    '{"a": ' + "[" * 100_000 + "]" * 100_000 + "}",
    '{"a": ' + DIGITS + "}",
    '{"vocab_size": 1e400, "eos_token_id": 1e400, "max_position_embeddings": 1e400}',
    "[]",
    "\ud800",
])  # fmt: skip
def test_a_models_file(llmpar: Call, tiny_model: Path, tmp_path: Path, name: str, content: str) -> None:
    import shutil

    shutil.copytree(tiny_model, tmp_path / "m")
    (tmp_path / "m" / name).write_bytes(content.encode("utf-8", "surrogatepass"))
    outcome = llmpar("run", "{text}", "-m", str(tmp_path / "m"), "-q", stdin=b"x")
    if name == "tokenizer_config.json" and content.startswith('{"vocab_size"'):
        return  # it says nothing that is wrong there
    assert outcome.code == 69, outcome.err
    one_line(outcome)


@pytest.mark.parametrize("key", ["vocab_size", "hidden_size", "num_hidden_layers", "rope_theta", "eos_token_id",
                                 "max_position_embeddings", "head_dim", "rms_norm_eps"])  # fmt: skip
@pytest.mark.parametrize("value", ["1e400", "-1e400", "9" * 4000, "-1", "{}", '"\\ud800"', "[[]]"])
def test_a_models_setting(llmpar: Call, tiny_model: Path, tmp_path: Path, key: str, value: str) -> None:
    import shutil

    shutil.copytree(tiny_model, tmp_path / "m")
    config = json.loads((tmp_path / "m" / "config.json").read_text()) | {key: "VALUE"}
    (tmp_path / "m" / "config.json").write_text(json.dumps(config).replace('"VALUE"', value))
    outcome = llmpar(
        "run", "{text}", "-m", str(tmp_path / "m"), "-q", "--no-store", "--max-new-tokens", "2", stdin=b"x"
    )
    assert "Traceback" not in outcome.err
    assert outcome.code in (0, 3, 69), outcome.err


class TestTables:
    @pytest.mark.parametrize(("text", "cell"), [
        ("=1+1", "'=1+1"), ("+cmd|' /C calc'!A0", "'+cmd|' /C calc'!A0"), ("@SUM(A1)", "'@SUM(A1)"),
        ("-2+3", "'-2+3"), ("- an item", "'- an item"), ("'=1", "''=1"), ("＝1+1", "'＝1+1"),
        ("-5", "-5"), ("+3.2", "+3.2"), ("-1,234.50", "-1,234.50"), ("-1e5", "-1e5"), ("-5 %", "-5 %"),
        ("'-5", "''-5"), ("'tis", "'tis"), ("a=b", "a=b"), ("5-3", "5-3"),
    ])  # fmt: skip
    def test_a_cell_that_begins_like_a_formula_is_none(self, llmpar: Call, text: str, cell: str) -> None:
        source = json.dumps({"text": text}).encode()
        outcome = llmpar("run", "{text}", "--input-format", "jsonl", "--merge", "csv", *ECHO, stdin=source)
        (row,) = csv.DictReader(io.StringIO(outcome.out.decode(), newline=""))
        assert (row["source"], row["answer"]) == (cell, cell)
        # What a program does to have the text again:
        assert (cell[1:] if cell[:1] == "'" and cell.lstrip("'")[:1] in "=+-@＝＋－＠" else cell) == text


def test_a_custom_id_that_comes_twice_is_told(llmpar: Call) -> None:
    def request(custom_id: str) -> str:
        body = {"messages": [{"role": "user", "content": "Hi"}]}
        return json.dumps({"custom_id": custom_id, "method": "POST", "url": "/v1/chat/completions", "body": body})

    outcome = llmpar("batch", "--engine", "echo", stdin="\n".join(map(request, "abaa")).encode())
    assert (outcome.code, len(outcome.out.splitlines())) == (0, 4)
    assert "2 requests with a custom_id that an earlier one has, first a (<stdin>:3)" in outcome.err
