"""How sure the model was: in records, columns and logs; a check that fails what it was less sure of; batch files."""

from __future__ import annotations

import csv
import io
import json
import math
from collections.abc import Callable
from contextlib import closing
from pathlib import Path
from typing import Any

import pytest
from support.program import Outcome

import llmpar as package
from llmpar.store.store import Store

Call = Callable[..., Outcome]
TEXT = b"The lamp is broken.\nIt came late.\nMany thanks!\n"
CHOICES = ("--choices", "lamp,late,other")


@pytest.fixture
def run(llmpar: Call, tiny_model: Path) -> Call:
    def call(*arguments: str, stdin: bytes = TEXT) -> Outcome:
        options = ("-u", "line", "--max-new-tokens", "6", "--model", str(tiny_model), "-j", "1")
        return llmpar("run", "Say it: {text}", *options, *arguments, stdin=stdin)

    return call


def records(data: bytes) -> list[dict[str, Any]]:
    return [json.loads(line) for line in data.splitlines()]


def test_records_and_logs_tell_it(run: Call, tmp_path: Path) -> None:
    log = tmp_path / "log.jsonl"
    outcome = run("--merge", "jsonl", "--log", str(log))
    found, logged = records(outcome.out), records(log.read_bytes())
    assert len(found) == len(logged) == 3
    for record, line in zip(found, logged, strict=True):
        assert 0 < record["confidence"] <= 1
        assert record["confidence"] == line["confidence"] == pytest.approx(math.exp(line["mean_logprob"]), abs=1e-6)
        assert line["min_logprob"] <= line["mean_logprob"] <= 0
        assert "probabilities" not in record
        assert "probabilities" not in line


def test_answers_from_the_store_keep_theirs(run: Call) -> None:
    first, again = run("--merge", "jsonl"), run("--merge", "jsonl")
    assert "3 from the store" in again.err
    assert again.out == first.out


def test_any_number_of_workers_tells_the_same(run: Call) -> None:
    alone = run("--merge", "jsonl", "--no-store")
    assert run("--merge", "jsonl", "--no-store", "-j", "3").out == alone.out


def test_choices_have_probabilities(run: Call) -> None:
    for record in records(run("--merge", "jsonl", *CHOICES).out):
        assert list(record["probabilities"]) == ["lamp", "late", "other"]
        assert sum(record["probabilities"].values()) == pytest.approx(1, abs=1e-5)
        assert record["confidence"] == record["probabilities"][record["answer"]]


def test_of_choices_it_is_computed_where_something_tells_it(run: Call, tmp_path: Path) -> None:
    run("--merge", "lines", *CHOICES)
    silent = records(run("--merge", "jsonl", *CHOICES).out)
    assert all("confidence" not in record for record in silent), "answers are not asked again for it alone"
    told = run("--merge", "csv", "--columns", "answer,confidence", *CHOICES).err
    assert "the confidence of 3 kept answers is not known; --check confidence:0 asks again" in told
    known = run("--merge", "csv", "--columns", "answer,confidence", "--check", "confidence:0", *CHOICES)
    assert "is not known" not in known.err
    assert all(float(row.rpartition(",")[2]) > 0 for row in known.out.decode().splitlines()[1:])
    log = tmp_path / "log.jsonl"
    run("--merge", "lines", "--no-store", "--log", str(log), *CHOICES)
    assert all("confidence" in line for line in records(log.read_bytes()))


def test_a_column_of_it(run: Call) -> None:
    outcome = run("--merge", "csv", "--columns", "answer,confidence")
    head, *rows = list(csv.reader(io.StringIO(outcome.out.decode(), newline="")))
    assert head == ["answer", "confidence"]
    assert all(0 < float(row[1]) <= 1 for row in rows)
    chosen = records(run("--merge", "jsonl", "--columns", "confidence,answer").out)
    assert [list(record) for record in chosen] == [["confidence", "answer"]] * 3


def test_the_echo_knows_none(llmpar: Call, tmp_path: Path) -> None:
    log = tmp_path / "log.jsonl"
    arguments = ("run", "{text}", "-u", "line", "--engine", "echo", "--log", str(log), "--merge")
    assert all("confidence" not in record for record in records(llmpar(*arguments, "jsonl", stdin=TEXT).out))
    assert all("mean_logprob" not in line for line in records(log.read_bytes()))
    outcome = llmpar(*arguments, "csv", "--columns", "answer,confidence", stdin=TEXT)
    assert outcome.out.decode().splitlines()[1] == "The lamp is broken.,"


def test_a_poor_one_fails_like_any_other(run: Call, tmp_path: Path) -> None:
    errors = tmp_path / "errors.jsonl"
    outcome = run("--check", "none,confidence:1", "--retries", "2", "--errors", str(errors))
    assert outcome.code == 3
    found = records(errors.read_bytes())
    assert len(found) == 3
    for line in found:
        assert line["error"] == f"the answer has a confidence of {line['confidence']:.3f}, below 1"
        assert line["attempts"] == 3
    assert run("--check", "none,confidence:0.000001").code == 0


def test_a_check_asks_again_what_is_kept_without(run: Call, tmp_path: Path) -> None:
    store = tmp_path / "store.sqlite"
    run("--store", str(store), "--merge", "lines", *CHOICES)
    log = tmp_path / "log.jsonl"
    checked = ("--store", str(store), "--merge", "lines", "--check", "confidence:0.01", "--log", str(log), *CHOICES)
    assert run(*checked).code == 0
    assert [line["cached"] for line in records(log.read_bytes())] == [False] * 3
    assert run(*checked).code == 0
    assert [line["cached"] for line in records(log.read_bytes())] == [True] * 3, "now it is kept"
    with closing(Store(store)) as opened:
        assert opened.info().num_answers == 3


@pytest.mark.parametrize("given", ["confidence", "confidence:2", "confidence:x"])
def test_a_check_that_is_none_is_named(run: Call, given: str) -> None:
    outcome = run("--check", given)
    assert outcome.code == 2
    assert "needs a number above 0, up to 1, such as confidence:0.8" in " ".join(outcome.err.split())


def test_python_has_it(tiny_model: Path) -> None:
    model = package.ModelChoice(name=str(tiny_model))
    (result,) = package.run(
        ["The lamp is broken."], "Say it: {text}", choices=["lamp", "late"], model=model, store=False
    )
    assert result.probabilities.keys() == {"lamp", "late"}
    assert result.confidence == result.probabilities[result.answer]


def request(url: str, **body: Any) -> bytes:
    chat = {"messages": [{"role": "user", "content": "Say it."}]} if "chat" in url else {"prompt": "Once upon"}
    line = {"custom_id": "a", "method": "POST", "url": url, "body": {"model": "m", **chat, **body}}
    return json.dumps(line).encode() + b"\n"


@pytest.fixture
def choice(llmpar: Call, tiny_model: Path) -> Callable[..., dict[str, Any]]:
    def call(url: str, **body: Any) -> dict[str, Any]:
        outcome = llmpar("batch", "--model", str(tiny_model), "-j", "1", stdin=request(url, **body))
        (found,) = records(outcome.out)
        assert found["error"] is None, found
        answer: dict[str, Any] = found["response"]["body"]["choices"][0]
        return answer

    return call


@pytest.mark.parametrize("temperature", [0.0, 1.0])
def test_a_chat_tells_its_tokens(choice: Callable[..., dict[str, Any]], temperature: float) -> None:
    asked = {"max_tokens": 8, "temperature": temperature, "logprobs": True, "top_logprobs": 5}
    found = choice("/v1/chat/completions", **asked)
    assert choice("/v1/chat/completions", **asked) == found, "the store keeps it"
    content = found["logprobs"]["content"]
    assert b"".join(bytes(token["bytes"]) for token in content).decode() == found["message"]["content"]
    assert "".join(token["token"] for token in content) == found["message"]["content"]
    for token in content:
        others = [other["logprob"] for other in token["top_logprobs"]]
        assert len(others) == 5
        assert others == sorted(others, reverse=True)
        assert token["logprob"] <= others[0]
        assert temperature or token["logprob"] == others[0]
    plain = choice("/v1/chat/completions", max_tokens=8, temperature=temperature)
    assert plain["message"]["content"] == found["message"]["content"]
    assert plain["logprobs"] is None


def test_a_chat_may_want_its_own_tokens_alone(choice: Callable[..., dict[str, Any]]) -> None:
    found = choice("/v1/chat/completions", max_tokens=4, temperature=0, logprobs=True)
    assert all(token["top_logprobs"] == [] for token in found["logprobs"]["content"])


def test_a_completion_tells_them_in_columns(choice: Callable[..., dict[str, Any]]) -> None:
    found = choice("/v1/completions", max_tokens=8, temperature=0, logprobs=3)
    told = found["logprobs"]
    assert "".join(told["tokens"]) == found["text"]
    assert told["text_offset"][0] == 0
    for at, token in zip(told["text_offset"], told["tokens"], strict=True):
        assert found["text"][at:].startswith(token)
    assert len(told["token_logprobs"]) == len(told["top_logprobs"]) == len(told["tokens"])
    assert all(1 <= len(others) <= 3 for others in told["top_logprobs"])
    assert choice("/v1/completions", max_tokens=8, temperature=0, logprobs=0)["logprobs"]["top_logprobs"] == (
        [None] * len(told["tokens"])
    )


@pytest.mark.parametrize(
    ("url", "body", "param"),
    [
        ("/v1/chat/completions", {"logprobs": True, "top_logprobs": 21}, "top_logprobs"),
        ("/v1/chat/completions", {"top_logprobs": 2}, "top_logprobs"),
        ("/v1/chat/completions", {"logprobs": 3}, "logprobs"),
        ("/v1/completions", {"logprobs": 21}, "logprobs"),
    ],
)
def test_what_cannot_be_told_is_refused(llmpar: Call, tiny_model: Path, url: str, body: Any, param: str) -> None:
    (found,) = records(llmpar("batch", "--model", str(tiny_model), stdin=request(url, **body)).out)
    assert found["error"]["error"]["param"] == param


def test_the_echo_refuses_by_name(llmpar: Call) -> None:
    asked = request("/v1/chat/completions", logprobs=True)
    (found,) = records(llmpar("batch", "--engine", "echo", stdin=asked).out)
    assert found["error"]["error"]["param"] == "logprobs"
    assert "leave it out" in found["error"]["error"]["message"]
