"""A valid line of any length is read, in linear time; one beyond the memory limit fails alone."""

from __future__ import annotations

import json
import time
from collections.abc import Callable, Iterator
from contextlib import closing
from pathlib import Path
from typing import Any

import pytest
from support.program import Outcome

from llmpar.documents.reader import TextReader
from llmpar.documents.source import Source
from llmpar.models.grammar import schema_rule
from llmpar.tasks.files import parse_task
from llmpar.tasks.glossary import Glossary

Call = Callable[..., Outcome]
LONG = 10_000_000
WORDS, LETTERS = "word " * (LONG // 5), "x" * LONG
ECHO = ("--engine", "echo", "-q")
SMALL = ("--max-memory", "64000")  # 1,000 characters of a record


def request(custom_id: str, text: str, **body: Any) -> str:
    body["messages"] = [{"role": "user", "content": text}]
    asked = {"custom_id": custom_id, "method": "POST", "url": "/v1/chat/completions", "body": body}
    return json.dumps(asked) + "\n"


@pytest.fixture(autouse=True)
def in_time() -> Iterator[None]:
    begun = time.monotonic()
    yield
    assert time.monotonic() - begun < 60  # what takes quadratic time would need hours


@pytest.mark.parametrize("text", [WORDS, LETTERS], ids=["words", "letters"])
class TestReaders:
    @pytest.mark.parametrize("unit", ["line", "paragraph", "sentence", "document"])
    def test_plain_text(self, llmpar: Call, text: str, unit: str) -> None:
        assert llmpar("run", "{text}", "-u", unit, *ECHO, stdin=text.encode()).out == text.encode()

    def test_markdown(self, llmpar: Call, text: str) -> None:
        assert llmpar("run", "{text}", "--input-format", "markdown", *ECHO, stdin=text.encode()).out == text.encode()

    def test_records(self, llmpar: Call, text: str) -> None:
        source = (json.dumps({"text": text}) + "\n").encode()
        assert llmpar("run", "{text}", "--input-format", "jsonl", *ECHO, stdin=source).out == source

    def test_requests(self, llmpar: Call, text: str) -> None:
        outcome = llmpar("batch", *ECHO, stdin=request("a", text).encode())
        (result,) = map(json.loads, outcome.out.splitlines())
        assert (outcome.code, result["response"]["body"]["choices"][0]["message"]["content"] == text) == (0, True)

    def test_a_glossary(self, tmp_path: Path, text: str) -> None:
        path = tmp_path / "g.csv"
        path.write_text(f"good,bon\nlong,{text}\n")
        assert Glossary.read(path).terms_in("a long day") == (("long", text.strip()),)

    def test_a_task(self, text: str) -> None:
        assert parse_task("t", f'prompt = "{text} {{text}}"', "t.toml").prompt == f"{text} {{text}}"

    def test_a_prompt_file(self, llmpar: Call, tmp_path: Path, text: str) -> None:
        path = tmp_path / "prompt.txt"
        path.write_text(text)
        assert llmpar("run", "--prompt-file", str(path), *ECHO, stdin=b"A line.").out == b"A line."

    def test_a_schema(self, text: str) -> None:
        assert schema_rule({"type": "object", "description": text, "properties": {"a": {"type": "integer"}}})


@pytest.mark.parametrize(
    "text", [WORDS, LETTERS, "我" * LONG, " " * LONG], ids=["words", "letters", "chinese", "blank"]
)
def test_a_prompt_beyond_the_context_fails_before_all_of_it_is_tokenized(
    llmpar: Call, tiny_model: Path, monkeypatch: pytest.MonkeyPatch, text: str
) -> None:
    from llmpar.models.tokenizer import ChatTokenizer

    encode, num_encoded = ChatTokenizer.encode_data, 0

    def counting(self: ChatTokenizer, text: str) -> list[int]:
        nonlocal num_encoded
        num_encoded += len(text)
        return encode(self, text)

    monkeypatch.setattr(ChatTokenizer, "encode_data", counting)
    source = request("long", text, max_tokens=2) + request("a", "Hello", max_tokens=2)
    outcome = llmpar("batch", "--model", str(tiny_model), stdin=source.encode())
    failed, answered = map(json.loads, outcome.out.splitlines())
    assert (outcome.code, failed["response"]["status_code"], answered["error"]) == (3, 400, None)
    assert "tokens the model can read" in failed["error"]["error"]["message"]
    assert num_encoded < LONG // 10


class TestTooLong:
    """One of some records is longer than what is held."""

    @pytest.mark.parametrize("newline", ["\n", "\r\n", "\r"])
    @pytest.mark.parametrize("on_error", ["keep", "mark", "skip"])
    def test_a_record_fails_alone(self, llmpar: Call, on_error: str, newline: str) -> None:
        lines = [json.dumps({"text": text}) for text in ("one", "x" * 700_000, "three")]
        source = newline.join(lines).encode()
        options = ("--input-format", "jsonl", "--engine", "echo", *SMALL, "--on-error", on_error)
        outcome = llmpar("run", "{text}", *options, stdin=source)
        assert (
            outcome.code,
            "<stdin>:2" in outcome.err and "the line is longer than the 1,000 characters" in outcome.err,
        ) == (3, True), outcome.err
        assert "3 pieces, 1 failed" in outcome.err
        assert outcome.out == (newline.join([lines[0], lines[2]]).encode() if on_error == "skip" else source)

    def test_it_can_end_the_run(self, llmpar: Call) -> None:
        source = json.dumps({"text": "x" * 2000}).encode()
        options = ("--input-format", "jsonl", *ECHO, *SMALL, "--on-error", "fail")
        outcome = llmpar("run", "{text}", *options, stdin=source)
        assert (outcome.code, "nothing else is computed" in outcome.err) == (3, True)

    @pytest.mark.parametrize("place", [0, 1, 2])
    def test_it_has_a_record_without_an_answer(self, llmpar: Call, place: int) -> None:
        texts = ["one", "two", "three"]
        texts[place] = "y" * 3000
        source = "\n".join(json.dumps({"text": text}) for text in texts).encode()
        options = ("--input-format", "jsonl", "--merge", "jsonl", *ECHO, *SMALL)
        found = [json.loads(line) for line in llmpar("run", "{text}", *options, stdin=source).out.splitlines()]
        assert [record["line"] for record in found] == [1, 2, 3]
        assert [record["answer"] for record in found] == [None if len(text) > 9 else text for text in texts]

    def test_its_beginning_is_not_taken_for_another_text(self, llmpar: Call) -> None:
        long = json.dumps({"text": "x" * 2000})
        source = "\n".join([long, json.dumps({"text": long[:200]})]).encode()
        outcome = llmpar("run", "{text}", "--input-format", "jsonl", "--engine", "echo", *SMALL, stdin=source)
        assert (outcome.code, "2 pieces, 1 failed" in outcome.err) == (3, True), outcome.err

    def test_records_that_go_together_leave_it_out(self, llmpar: Call) -> None:
        source = "\n".join(json.dumps({"text": text}) for text in ("One.", "x" * 3000, "Three.")).encode()
        options = ("--input-format", "jsonl", "--engine", "echo", *SMALL)
        outcome = llmpar("summarize", *options, stdin=source)
        assert (outcome.code, "<stdin>:2" in outcome.err and "the line is longer" in outcome.err) == (3, True), (
            outcome.err
        )
        assert b"One." in outcome.out
        assert b"Three." in outcome.out
        outcome = llmpar("ask", "--quote", "Three?", *options, stdin=source)
        assert (outcome.code, "<stdin>:2" in outcome.err and "the line is longer" in outcome.err) == (3, True), (
            outcome.err
        )
        assert b"Three." in outcome.out

    def test_a_request_has_an_error(self, llmpar: Call) -> None:
        late = json.dumps({"body": {"text": "x" * 3000}, "custom_id": "unseen"}) + "\n"
        source = request("a", "one") + request("b", "x" * 3000) + late + request("c", "three")
        outcome = llmpar("batch", "--engine", "echo", *SMALL, stdin=source.encode())
        found = [json.loads(line) for line in outcome.out.splitlines()]
        assert outcome.code == 3
        assert [one["custom_id"] for one in found] == ["a", "b", "", "c"]
        assert [one["response"]["status_code"] for one in found] == [200, 400, 400, 200]
        assert "<stdin>:3: the line is longer than the 1,000 characters" in found[2]["error"]["error"]["message"]
        assert "llmpar batch: b: <stdin>:2: the line is longer" in outcome.err

    def test_a_document_that_is_one_piece_is_refused(self, llmpar: Call) -> None:
        outcome = llmpar("run", "{text}", "-u", "document", *ECHO, *SMALL, stdin=b"word " * 1000)
        assert (outcome.code, "--unit" in outcome.err) == (65, True)

    def test_parts_do_not_follow_from_the_pace(self, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
        path = tmp_path / "x.jsonl"
        content = "a" * 30 + "\r\n" + "b" * 101 + "\r\n" + "c" * 100 + "\n" + "d" * 250
        path.write_bytes(content.encode())
        for size in (1, 7, 64, 1000):
            monkeypatch.setattr("llmpar.documents.source._CHUNK", size)
            with closing(Source(str(path))) as source:
                blocks = list(TextReader(0, source).blocks("record", 100))
            assert "".join(block.text for block in blocks) == content
            beginnings = [(block.offset, block.text, block.line) for block in blocks if block.part == "beginning"]
            assert beginnings == [(32, "b" * 100, 1), (236, "d" * 100, 3)]
            assert "".join(block.text for block in blocks if not block.part) == "a" * 30 + "\r\n" + "c" * 100 + "\n"
