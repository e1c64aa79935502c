"""`llmpar ask` with a fake model that finds what it is told to find: passages, ranking, findings, answer, places."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from support.backends import byte_backend
from support.fakes import FakeRunner
from support.places import ROOT
from support.program import Outcome

from llmpar.answering.local import LocalBackend
from llmpar.jobs.asking import is_nothing
from llmpar.jobs.passages import Ranking

DIVIDES = "Break this question into"
Call = Callable[..., Outcome]
DOCUMENT = b"""# Cards

The office is in the tower, up two flights of stairs from the street.

## Lost cards

A lost card costs four pounds. It is made while you wait.

Bring something with your name on it, or a friend who knows you well.

# Boats

Boats may go out while the river stands below two metres.
"""


@pytest.fixture
def asked(monkeypatch: pytest.MonkeyPatch) -> list[str]:
    """What the fake model was asked, in no order.

    It finds what a passage says of pounds and metres, and nothing else; it joins findings with a plus.
    """
    from llmpar.answering.model import LocalModel
    from llmpar.engine.request import Sequence
    from llmpar.tasks.question import Prompt

    prompts: list[str] = []

    def say(prompt: str) -> str:
        text = prompt.rpartition("\x00")[2]
        if prompt.startswith("question"):
            return "1. What does a card cost?\n2. How high may the river be?"
        if prompt.startswith("reduce"):
            return "" if "fails" in prompt.partition("\x00")[2].partition("\x00")[0] else "+".join(text.split("\n\n"))
        return "four pounds" if "pounds" in text else "below two metres" if "metres" in text else "No answer."

    class Saying(FakeRunner):
        def _step(self, sequences: list[Sequence]) -> None:
            for sequence in sequences:
                prompt = bytes(sequence.request.prompt_ids).decode()
                answer, done = say(prompt).encode(), len(sequence.output_ids)
                if not done:
                    prompts.append(prompt)
                sequence.append(answer[done] if done < len(answer) else -1, frozenset({-1}))

    def encode(prompt: Prompt) -> bytes:
        message = prompt.messages[-1][1]
        kind = "reduce" if "findings" in message else "question" if DIVIDES in message else "ask"
        return f"{kind}\x00{message}\x00{prompt.text}".encode()

    def open_backend(*_: object) -> LocalBackend:
        return byte_backend([Saying(3)], encode=encode)

    monkeypatch.setattr(LocalModel, "open", open_backend)
    monkeypatch.setattr(LocalModel, "families", ())
    monkeypatch.setattr(LocalModel, "context_length", 4096)
    monkeypatch.setattr(LocalModel, "measure", lambda model, text: len(text.split()))
    monkeypatch.setattr(LocalModel, "count_tokens", lambda model, prompt: len(encode(prompt)))
    monkeypatch.setenv("LLMPAR_NO_STORE", "1")
    return prompts


@pytest.fixture
def handbook(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.chdir(tmp_path)
    path = Path("handbook.md")
    path.write_bytes(DOCUMENT)
    return path


def test_the_answer_names_its_passage(llmpar: Call, asked: list[str], handbook: Path) -> None:
    outcome = llmpar("ask", "What does a lost card cost?", str(handbook))
    answer, place = outcome.out.decode().splitlines()
    assert (outcome.code, answer) == (0, "four pounds")
    assert place.startswith("  handbook.md:5: Lost cards A lost card costs four pounds. It is made while you wait.")
    assert place.endswith("…")


def test_quotes_are_passages_with_their_lines(llmpar: Call, asked: list[str], handbook: Path) -> None:
    outcome = llmpar("ask", "--quote", "--top", "all", "What of the river?", str(handbook))
    places = dict(quote.split(": ", 1) for quote in outcome.out.decode().split("\n\n") if ": " in quote)
    assert places == {"handbook.md:5": "Lost cards", "handbook.md:11": "Boats"}
    assert not any(prompt.startswith("reduce") for prompt in asked)


def test_what_fits_best_by_its_words_is_quoted_in_any_case(llmpar: Call, asked: list[str], handbook: Path) -> None:
    outcome = llmpar("ask", "--quote", "--format", "jsonl", "Where is the office?", str(handbook))
    (quote,) = (json.loads(line) for line in outcome.out.splitlines())
    assert (quote["finding"], quote["line"]) == (None, 1), "the model said nothing to it"
    assert "no passage" not in outcome.err


def test_records(llmpar: Call, asked: list[str], handbook: Path) -> None:
    outcome = llmpar(
        "ask",
        "What of a card and the river?",
        str(handbook),
        "--format",
        "jsonl",
        "--part",
        "Card?",
        "--part",
        "River?",
    )
    answer, *findings = (json.loads(line) for line in outcome.out.splitlines())
    assert answer == {"question": "What of a card and the river?", "answer": "four pounds+below two metres"}
    assert [(finding["question"], finding["finding"]) for finding in findings] == [
        ("Card?", "four pounds"),
        ("River?", "below two metres"),
    ]
    for finding in findings:
        start, end = finding["span"]
        assert finding["passage"].split()[0] in DOCUMENT.decode()[start:end]
        assert finding["document"] == "handbook.md"


def test_a_compound_question_is_divided_by_the_model(llmpar: Call, asked: list[str], handbook: Path) -> None:
    outcome = llmpar("ask", "What does a card cost, and how high may the river be?", str(handbook), "-v")
    assert "asked: What does a card cost? | How high may the river be?" in outcome.err
    assert outcome.out.startswith(b"four pounds+below two metres\n")


def test_a_simple_one_is_not(llmpar: Call, asked: list[str], handbook: Path) -> None:
    llmpar("ask", "What does a card cost?", str(handbook))
    assert not any(prompt.startswith("question") for prompt in asked)


def test_what_the_model_makes_up_is_not_asked(llmpar: Call, asked: list[str], handbook: Path) -> None:
    # Neither of its two questions is about this one.
    outcome = llmpar("ask", "Who paints and who sings?", str(handbook), "--top", "all", "-v")
    assert "asked: " not in outcome.err


def test_the_likeliest_are_read(llmpar: Call, asked: list[str], handbook: Path) -> None:
    llmpar("ask", "Which boats go out on the river?", str(handbook), "--top", "1")
    assert ["metres" in prompt for prompt in asked] == [True]
    asked.clear()
    llmpar("ask", "Which boats go out on the river?", str(handbook), "--top", "all")
    assert len(asked) > 1


def test_nothing_found_is_said(llmpar: Call, asked: list[str], handbook: Path) -> None:
    outcome = llmpar("ask", "Where are the stairs?", str(handbook), "--top", "1")
    assert (outcome.code, outcome.out) == (0, b"")
    assert "nothing was found in 1 passage that the model read; --top all reads all 3\n" in outcome.err
    Path("other.txt").write_text("Bring something with your name on it.\n")
    everything = llmpar("ask", "Where are the stairs?", "other.txt", "--top", "all")
    assert "nothing was found in 1 passage that the model read\n" in everything.err, "more than all cannot be read"
    assert "there is nothing to read" in llmpar("ask", "Where are the stairs?", stdin=b"").err
    lost = llmpar("ask", "Where are the stairs?", str(handbook), "--top", "1", "--check", "confidence:1")
    assert lost.code == 3
    assert "nothing was found in 1 passage that the model read; 1 of them had no good answer; --top" in lost.err


def test_a_last_step_that_fails_is_told_and_its_answer_labelled(llmpar: Call, asked: list[str], handbook: Path) -> None:
    outcome = llmpar("ask", "What fails of a card or the river?", str(handbook), "--top", "all")
    label, _, first, _, second, *places = outcome.out.decode().splitlines()
    assert (outcome.code, first, second) == (3, "four pounds", "below two metres")
    assert label == "[llmpar: the last step failed, so these are 2 answers about parts, not one]"
    assert [place.split(": ")[0].strip() for place in places] == ["handbook.md:5", "handbook.md:11"]
    assert "llmpar ask: handbook.md:5-13, making one of 2 answers: the answer is empty" in outcome.err
    assert "the answer: the last step failed; 2 answers about parts stand there" in outcome.err
    records = llmpar("ask", "What fails of a card or the river?", str(handbook), "--top", "all", "--format", "jsonl")
    assert json.loads(records.out.splitlines()[0])["partial"] is True


def test_a_dry_run_counts_passages(llmpar: Call, asked: list[str], handbook: Path) -> None:
    outcome = llmpar("ask", "What?", str(handbook), "--top", "all", "--dry-run")
    rows = [line.split() for line in outcome.out.decode().splitlines()]
    assert rows[:2] == [["documents", "1"], ["pieces", "(passages)", "3"]]
    assert ["to", "ask", "3"] in rows
    assert ["to", "join", "answers", "unknown"] in rows
    assert any(row[:3] == ["tokens", "to", "read"] and int(row[3]) > 60 for row in rows)
    assert not asked


def test_a_dry_run_goes_through_the_steps_that_are_kept(
    llmpar: Call, asked: list[str], handbook: Path, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    monkeypatch.delenv("LLMPAR_NO_STORE")
    monkeypatch.setenv("LLMPAR_STORE", str(tmp_path / "answers.sqlite"))
    question = "What costs a card and when do boats go?"
    answered = llmpar("ask", question, str(handbook), "--top", "all")
    assert answered.code == 0
    num_asked = len(asked)
    rows = llmpar("ask", question, str(handbook), "--top", "all", "--dry-run").out.decode().splitlines()
    assert len(asked) == num_asked
    named = {row[:20].strip(): row[20:].strip() for row in rows}
    assert (named["to ask"], named["to join answers"], named["time"]) == ("0", "1 question, kept", "none to speak of")


def test_a_sample_shows_passages_with_what_was_found(llmpar: Call, asked: list[str], handbook: Path) -> None:
    outcome = llmpar("ask", "What does a card cost?", str(handbook), "--top", "all", "--sample", "2")
    assert outcome.code == 0
    assert outcome.out.decode().count("→ ") == len(asked) == 2


def test_several_documents(llmpar: Call, asked: list[str], handbook: Path) -> None:
    Path("other.txt").write_text("Another card costs five pounds.\n")
    outcome = llmpar("ask", "What does a card cost?", "other.txt", "none.txt", str(handbook), "--top", "all")
    assert outcome.code == 3
    assert "none.txt" in outcome.err
    assert outcome.out.startswith(b"four pounds+below two metres\n  other.txt:1: ")


@pytest.mark.parametrize(
    "arguments",
    [
        (),
        ("",),
        ("handbook.md",),
        ("handbook.md", "handbook.md"),
        ("Who?", "--part", "handbook.md", "handbook.md"),
        ("Who?", "handbook.md", "--top", "0"),
        ("Who?", "handbook.md", "--in-place"),
    ],
)
def test_what_cannot_be_meant(llmpar: Call, handbook: Path, arguments: tuple[str, ...]) -> None:
    outcome = llmpar("ask", *arguments, "--engine=echo")
    assert (outcome.code, len(outcome.err.splitlines())) == (2, 1), outcome.err


@pytest.mark.parametrize(
    ("answer", "expected"),
    [
        ("NOTHING", True),
        ("Nothing.", True),
        ("**Nothing**", True),
        ("The passage does not mention it.", True),
        ("It is not stated in the passage.", True),
        ("There is no information about that.", True),
        ("", True),
        ("Four pounds.", False),
        ("Not more than four pounds.", False),
        ("No, members may not.", False),
    ],
)
def test_is_nothing(answer: str, expected: bool) -> None:
    assert is_nothing(answer, "NOTHING") == expected


class TestRanking:
    def test_words_count_by_their_stems(self) -> None:
        ranking = Ranking(["The boats were leaving.", "A leaf fell.", "One boat leaves."])
        assert set(ranking.best("Which boat left or leaves?")) == {0, 2}

    def test_common_words_say_nothing(self) -> None:
        assert Ranking(["This is it.", "You are here."]).best("What is it that you are?") == []

    def test_characters_of_chinese_count_in_pairs(self) -> None:
        assert Ranking(["今天天气很好", "我们去图书馆借书", "图画很美"]).best("图书馆在哪里", 1) == [1]

    def test_the_handbook_is_ranked_well(self) -> None:
        passages = [
            line for line in (ROOT / "sample_data" / "handbook.md").read_text().splitlines() if line and line[0] != "#"
        ]
        questions: list[dict[str, Any]] = [
            json.loads(line)
            for line in (ROOT / "tests" / "benchmarks" / "ask_questions.jsonl").read_text().splitlines()
        ]
        ranking = Ranking(passages)
        found = 0
        for question in questions:
            wanted = question["contains"] if isinstance(question["contains"], list) else [question["contains"]]
            best = [passages[index] for index in ranking.best(question["question"], 24)]
            found += all(any(phrase in passage for passage in best) for phrase in wanted)
        assert found >= 8

    @pytest.mark.parametrize("texts", [[], [""], ["...", "  "]])
    def test_texts_without_words(self, texts: list[str]) -> None:
        assert Ranking(texts).best("Who?") == []
