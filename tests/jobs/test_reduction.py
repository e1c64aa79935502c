"""Many answers to one: every answer goes in once, in order, in questions that fit; failures leave something."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from support.backends import byte_backend
from support.fakes import FakeRunner
from support.places import ROOT
from support.program import Outcome

from llmpar.answering.answers import Answers
from llmpar.answering.attempts import Policy
from llmpar.answering.flow import Flow
from llmpar.answering.pending import Pending, foreseen_as
from llmpar.documents.document import INLINE, Result, Segment, text_block, text_document
from llmpar.engine.request import Sequence
from llmpar.jobs.reduction import JOINT, Stretch, Tree, labelled
from llmpar.reporting.report import Report
from llmpar.store.job import NoStore
from llmpar.tasks.question import Question, Sampling
from llmpar.tasks.task import Task

Call = Callable[..., Outcome]
DOCUMENT = text_document("test")
TASK = Task("test", "{text}", growth=0, margin=5_000)


class Brackets(FakeRunner):
    """Answers a question over "a\n\nb" with "(ab)", so that the answer shows the tree; none with an x in it."""

    def _step(self, sequences: list[Sequence]) -> None:
        for sequence in sequences:
            text = bytes(sequence.request.prompt_ids).decode()
            answer = b" " if "x" in text else f"({text.replace(JOINT, '')})".encode()
            done = len(sequence.output_ids)
            sequence.append(answer[done] if done < len(answer) else -1, frozenset({-1}))


def tree(budget: int, num_workers: int = 2, retries: int = 0, task: Task = TASK) -> tuple[Tree, Report]:
    report = Report()
    backend = byte_backend([Brackets(3, delay=0.0003, seed=i) for i in range(num_workers)], 100_000)
    answers = Answers(
        Sampling(max_repeats=0), Policy(retries), lambda task: (task, NoStore()), lambda _: backend, report
    )
    return Tree(Flow(answers, report), task, DOCUMENT, budget, len), report


@settings(max_examples=40, deadline=None)
@given(st.integers(0, 60), st.integers(3, 30), st.integers(1, 4))
def test_every_answer_goes_in_once_and_in_order(count: int, budget: int, workers: int) -> None:
    texts = [chr(ord("A") + i % 20) for i in range(count)]
    planted, report = tree(budget, workers)
    for text in texts:
        planted.add(text)
    result = planted.finish()
    assert "".join(char for char in result if char not in "()") == "".join(texts)
    assert sum(planted.shape) == report.num_segments_done == report.num_segments_read
    again, _ = tree(budget, 1)
    for text in texts:
        again.add(text)
    assert again.finish() == result, "the shape follows from the texts alone"


def test_one_answer_is_not_asked_about() -> None:
    planted, report = tree(10)
    planted.add("A")
    assert (planted.finish(), planted.shape, report.num_segments_done) == ("A", [], 0)


def test_a_question_holds_what_fits() -> None:
    planted, _ = tree(4)
    for text in ("A", "B", "C", "D", "E", "F", "G", "H", "I"):
        planted.add(text)
    assert planted.finish() == "(((ABCD)(EFGH))I)"
    assert planted.shape == [2, 1, 1], "two answers are asked about, even where they are too long together"


class _AtOnce:
    """Answers each question in three letters, at once."""

    def submit(self, question: Question) -> Pending:
        return foreseen_as(question, Result(question.segment, "ABC"))

    def result(self, pending: Pending) -> Result:
        assert pending.result
        return pending.result


@pytest.mark.parametrize("count", [2, 5, 30, 49, 400])
@pytest.mark.parametrize("budget", [6, 9, 12])
def test_what_is_coming_is_foreseen_from_the_beginning_on(count: int, budget: int) -> None:
    """The time left of a summary was told as if there were no answers over answers."""
    planted = Tree(_AtOnce(), TASK, DOCUMENT, budget, len)
    foreseen = []
    for _ in range(count):
        planted.add("ABC")
        foreseen.append((*planted.coming(count + sum(planted.shape)), sum(planted.shape)))
    planted.finish()
    total = sum(planted.shape)
    assert planted.coming(count + total) == (0.0, 0)
    for questions, num_levels, asked in foreseen:
        assert questions + asked == pytest.approx(total, rel=0.3, abs=1.5)
        assert abs(num_levels - len(planted.shape)) <= 1 + (total - asked < total / 4) * len(planted.shape)


def test_what_fails_is_left_out_and_at_the_end_its_parts_stand() -> None:
    planted, report = tree(2)
    for text in ("A", "B", "C", "x"):
        planted.add(text)
    assert planted.finish() == "(AB)"
    assert report.num_failed == 1
    planted, _ = tree(100)
    for text in ("A", "x"):
        planted.add(text)
    assert planted.finish() == "A\n\nx"


def test_what_is_missing_is_named_by_its_place() -> None:
    lines = "".join(f"line {number}\n" for number in range(1, 9))
    block = text_block(text_document("a.txt"), lines)
    starts = [lines.index(f"line {number}") for number in range(1, 9)]
    segments = [Segment(block, i, start, start + 6, "text", INLINE) for i, start in enumerate(starts)]
    planted, _ = tree(2)
    for text, segment in zip("ABxCDE", segments, strict=False):
        planted.add(text, Stretch.of(segment))
    planted.lose(Stretch.of(segments[7]))
    assert planted.finish() == "((AB)(DE))"
    assert (planted.gaps.num_partial, planted.gaps.num_missing) == (0, 2)
    assert list(map(str, planted.gaps.missing)) == ["a.txt:8", "a.txt:3-4"]
    planted, _ = tree(2)
    for text, segment in zip("ABCx", segments, strict=False):
        planted.add(text, Stretch.of(segment))
    assert planted.finish() == "(AB)", "it is one answer, and says nothing of the others"
    assert list(map(str, planted.gaps.missing)) == ["a.txt:3-4"]


def test_a_last_step_that_failed_is_told() -> None:
    planted, _ = tree(100)
    for text in ("A", "x", "B"):
        planted.add(text)
    assert labelled(planted.finish(), planted.gaps) == (
        "[llmpar: the last step failed, so these are 3 answers about parts, not one]\n\nA\n\nx\n\nB"
    )


def test_an_answer_without_its_end_is_told() -> None:
    planted, report = tree(100, task=Task("test", "{text}", growth=0, margin=3))
    for text in ("abcdefghi", "jklmnopqr"):
        planted.add(text)
    text = planted.finish()
    assert (report.num_failed, planted.gaps.is_cut) == (1, True)
    assert labelled(text, planted.gaps).startswith("[llmpar: the last step was stopped before its end")
    planted, _ = tree(100)
    planted.add("A")
    planted.add("B")
    assert labelled(planted.finish(), planted.gaps) == "(AB)"


class TestCommand:
    def test_echo_gives_all_chunks(self, llmpar: Call) -> None:
        # Reduced by an echo, a text is itself, its paragraphs as the chunks have them.
        outcome = llmpar("summarize", "--engine", "echo", "-q", stdin=b"One.\n\nTwo.\n\n\nThree.\n")
        assert (outcome.code, outcome.out) == (0, b"One.\n\nTwo.\n\nThree.\n")

    def test_per(self, llmpar: Call, tmp_path: Path) -> None:
        names = []
        for name in ("a", "b"):
            (tmp_path / name).write_text(f"{name} one.\n\n{name} two.\n")
            names.append(str(tmp_path / name))
        run = ("summarize", "--engine", "echo", "-q", *names)
        heads = [f"==> {name} <==\n".encode() for name in names]
        assert llmpar(*run).out == heads[0] + b"a one.\n\na two.\n\n" + heads[1] + b"b one.\n\nb two.\n"
        assert llmpar(*run, "--per", "all").out == b"a one.\n\na two.\n\nb one.\n\nb two.\n"
        assert llmpar(*run, "--per", "paragraph").out == b"a one.\n\na two.\nb one.\n\nb two.\n"

    def test_each_document_has_its_file(self, llmpar: Call, tmp_path: Path) -> None:
        (tmp_path / "out").mkdir()
        (tmp_path / "a").write_text("A.\n\nB.\n")
        (tmp_path / "b").write_text("C.\n")
        names = (str(tmp_path / "a"), str(tmp_path / "b"))
        run = ("summarize", "--engine", "echo", "-q", *names, "--output-dir", str(tmp_path / "out"))
        assert llmpar(*run).code == 0
        assert (tmp_path / "out" / "a").read_text() == "A.\n\nB.\n", "without its name"
        assert llmpar(*run, "--per", "all").code == 2

    def test_an_empty_document_has_no_summary(self, llmpar: Call) -> None:
        assert llmpar("summarize", "--engine", "echo", "-q", stdin=b"\n \n") == Outcome(0, b"", "")

    def test_a_prompt_reduces_any_answers(self, llmpar: Call) -> None:
        run = ("run", "Say {text}", "-u", "line", "--engine", "echo", "-q", "--reduce", "Join: {text}")
        assert llmpar(*run, stdin=b"a\nb\nc\n").out == b"a\n\nb\n\nc\n"

    @pytest.mark.parametrize(
        "options",
        [
            ("--merge", "reduce"),
            ("--reduce", " "),
            ("--reduce", "x", "--merge", "lines"),
            ("--reduce", "x", "--interleave"),
            ("--reduce", "x", "--in-place"),
        ],
    )
    def test_what_cannot_be_meant(self, llmpar: Call, tmp_path: Path, options: tuple[str, ...]) -> None:
        (tmp_path / "a").write_text("A.")
        outcome = llmpar("run", "{text}", "--engine", "echo", *options, "--", str(tmp_path / "a"))
        assert (outcome.code, len(outcome.err.splitlines())) == (2, 1), outcome.err
        assert (tmp_path / "a").read_text() == "A."

    def test_the_tree_is_shown_to_those_who_ask(self, llmpar: Call) -> None:
        story = str(ROOT / "sample_data" / "story.txt")
        outcome = llmpar("summarize", "--engine", "echo", "-v", story)
        assert "answers by level of the tree: " in outcome.err

    def test_a_model_reads_more_than_its_context(self, llmpar: Call, tiny_model: Path) -> None:
        story = str(ROOT / "sample_data" / "story.txt")
        outcome = llmpar(
            "summarize",
            "--length",
            "5",
            "--model",
            str(tiny_model),
            "--check",
            "none",
            "--max-new-tokens",
            "40",
            "-v",
            story,
        )
        assert outcome.code == 0, outcome.err
        levels = next(line for line in outcome.err.splitlines() if "answers by level" in line)
        counts = [int(count.replace(",", "")) for count in levels.rpartition(": ")[2].split(" → ")]
        assert counts[0] > 40, "a context of 1,024 bytes holds no story"
        assert counts == sorted(counts, reverse=True)
        assert counts[-1] == 1

    def test_every_level_is_kept(self, llmpar: Call, tiny_model: Path) -> None:
        story = str(ROOT / "sample_data" / "story.txt")
        run = (
            "summarize",
            "--length",
            "5",
            "--model",
            str(tiny_model),
            "--check",
            "none",
            "--max-new-tokens",
            "40",
            story,
        )
        first, again = llmpar(*run), llmpar(*run)
        assert again.out == first.out
        assert ", 0 tokens in, 0 out, " in again.err
