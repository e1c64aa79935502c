"""Several runs share a job without knowing of each other, and a last one makes the document of their answers."""

from __future__ import annotations

import json
import random
from collections.abc import Callable
from pathlib import Path

import pytest
from support.program import Outcome
from support.servers import echo, serving

from llmpar.documents.document import text_document, text_segment
from llmpar.errors import UsageError
from llmpar.jobs.sharding import Shard
from llmpar.tasks.question import Question
from llmpar.tasks.task import task_of_prompt

Llmpar = Callable[..., Outcome]
LINES = [f"line {number % 50}" for number in range(80)]
DOCUMENT = "".join(f"{line}\n" for line in LINES)
ASK = ("run", "Say this:\n{text}", "-u", "line")


def question(text: str) -> Question:
    return Question(text_segment(text_document("x"), text), task_of_prompt("Say this"))


def test_each_question_is_in_one_part() -> None:
    for count in (1, 2, 8, 13):
        shards = [Shard(number, count) for number in range(1, count + 1)]
        for text in ("", "a", "b" * 1000, "é\udcff"):
            assert sum(shard.has(question(text)) for shard in shards) == 1


def test_parts_are_about_equal() -> None:
    sizes = [sum(Shard(number, 8).has(question(str(text))) for text in range(4000)) for number in range(1, 9)]
    assert min(sizes) > 400


def test_parts_may_be_counted_from_nought() -> None:
    for text in map(str, range(50)):
        assert Shard(0, 8).has(question(text)) == Shard(8, 8).has(question(text))


@pytest.mark.parametrize("parts", [(9, 8), (1, 0), (-1, 8)])
def test_a_part_that_there_is_not(parts: tuple[int, int]) -> None:
    with pytest.raises(UsageError):
        Shard(*parts)


@pytest.mark.parametrize(
    ("arguments", "code"),
    [
        (["--shard", "9/8"], 2),
        (["--shard", "x"], 2),
        (["--shard", "1/8", "-o", "out.txt"], 2),
        (["--shard", "1/8", "--output-dir", "out"], 2),
        (["--shard", "1/8", "--no-store"], 2),
        (["--shard", "1/8"], 2),  # an echo is not kept
    ],
)
def test_what_cannot_be_meant(arguments: list[str], code: int, llmpar: Llmpar) -> None:
    outcome = llmpar(*ASK, "--engine", "echo", *arguments, stdin=DOCUMENT.encode())
    assert (outcome.code, outcome.out) == (code, b"")
    assert "--shard" in outcome.err


def merged(llmpar: Llmpar, tmp_path: Path, count: int) -> Path:
    """Return a store with the answers of all shards' stores."""
    whole = tmp_path / "whole"
    stores = [str(tmp_path / f"store-{number}") for number in range(1, count + 1)]
    outcome = llmpar("store", "merge", *stores, "--store", str(whole))
    assert outcome.code == 0, outcome.err
    return whole


def test_eight_shards_that_are_stopped_at_random_make_the_same_document(llmpar: Llmpar, tmp_path: Path) -> None:
    chance = random.Random(5)
    source = tmp_path / "in.txt"
    source.write_text(DOCUMENT)
    num_stopped = 0
    with serving(echo, seconds=0.1) as server:
        given = (*ASK, "--endpoint", server.url, "-j", "1", str(source))
        undivided = llmpar(*given, "--no-store")
        server.asked.clear()
        for number in range(1, 9):
            shard = ("--store", str(tmp_path / f"store-{number}"), "--shard", f"{number}/8")
            while True:
                stop = ("--max-time", f"{chance.uniform(0.2, 0.6):.2f}")
                outcome = llmpar(*given, *shard, *stop)
                assert outcome.out == b"", "a shard makes no document"
                if outcome.code == 0:
                    break
                assert outcome.code == 124
                num_stopped += 1
        whole = merged(llmpar, tmp_path, 8)
        num_asked = len(server.asked)
        last = llmpar(*given, "--store", str(whole))
        assert len(server.asked) == num_asked, "the last run asks nothing"
        # One is on its way when a shard is stopped, and perhaps one more has just come.
        assert num_asked <= 50 + 2 * num_stopped, "nothing else is asked again"
    assert last.code == 0
    assert last.out == undivided.out == DOCUMENT.upper().encode()
    assert num_stopped > 2


@pytest.mark.parametrize(
    "arguments",
    [
        ("summarize", "--length", "short"),
        ("ask", "What is this about?", "--top", "all"),
        ("run", "What is it? {text}", "--reduce", "Of all: {text}", "-u", "paragraph"),
    ],
)
def test_what_rests_on_answers_is_asked_by_the_last_run(
    arguments: tuple[str, ...], llmpar: Llmpar, tmp_path: Path
) -> None:
    source = tmp_path / "in.txt"
    source.write_text("\n\n".join(f"Paragraph {number} " + "is about cats. " * 60 for number in range(12)))
    with serving(lambda body: echo({"prompt": f"about {len(str(body))}"})) as server:
        given = (*arguments, str(source), "--endpoint", server.url)
        undivided = llmpar(*given, "--no-store")
        every = sorted(str(body["messages"]) for body in server.asked)
        server.asked.clear()
        for number in (1, 2, 3):
            store = str(tmp_path / f"store-{number}")
            outcome = llmpar(*given, "--store", store, "--shard", f"{number}/3")
            assert (outcome.code, outcome.out) == (0, b""), outcome.err
        leaves = [str(body["messages"]) for body in server.asked]
        last = llmpar(*given, "--store", str(merged(llmpar, tmp_path, 3)))
        assert sorted(str(body["messages"]) for body in server.asked) == every, "each is asked once"
        assert 0 < len(leaves) < len(every)
    assert (last.code, last.out) == (undivided.code, undivided.out)
    assert last.out


def test_a_batch_is_shared_too(llmpar: Llmpar, tmp_path: Path) -> None:
    requests = [
        {
            "custom_id": str(number),
            "method": "POST",
            "url": "/v1/chat/completions",
            "body": {"messages": [{"role": "user", "content": f"hello {number}"}]},
        }
        for number in range(12)
    ]
    source = tmp_path / "in.jsonl"
    source.write_text("".join(f"{json.dumps(request)}\n" for request in requests))
    with serving() as server:
        given = ("batch", str(source), "--endpoint", server.url)
        for number in (1, 2, 3):
            store = str(tmp_path / f"store-{number}")
            outcome = llmpar(*given, "--store", store, "--shard", f"{number}/3")
            assert (outcome.code, outcome.out) == (0, b""), outcome.err
        assert len(server.asked) == 12
        last = llmpar(*given, "--store", str(merged(llmpar, tmp_path, 3)))
        assert len(server.asked) == 12
    answered = [json.loads(line)["response"]["body"]["choices"][0] for line in last.out.splitlines()]
    assert [choice["message"]["content"] for choice in answered] == [f"HELLO {number}" for number in range(12)]


def test_a_shard_counts_its_own_pieces(llmpar: Llmpar, tmp_path: Path) -> None:
    store = ("--store", str(tmp_path / "store"))
    numbers = []
    for number in (1, 2):
        outcome = llmpar(*ASK, "--engine", "echo", *store, "--shard", f"{number}/2", stdin=DOCUMENT.encode())
        numbers.append(int(outcome.err.split()[2]))
    assert sum(numbers) == len(LINES)
    assert all(numbers)
