"""Answers that lose the marks in their texts: asked again, put together from parts, kept, and named."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import pytest
from support.backends import byte_backend
from support.fakes import FakeRunner
from support.questions import Kept

from llmpar.answering.answers import Answers
from llmpar.answering.attempts import Policy
from llmpar.answering.flow import Flow, Part
from llmpar.documents.document import Document, Encoding, Result
from llmpar.documents.formats.protocol import Reading
from llmpar.documents.merger import merge
from llmpar.documents.segments import split_text
from llmpar.engine.request import Sequence
from llmpar.reporting.report import Report
from llmpar.store.job import NoStore
from llmpar.tasks.question import Question, Sampling
from llmpar.tasks.task import Task


class Told(FakeRunner):
    """Answers what a function says of a text and of how often it was asked."""

    def __init__(self, say: Callable[[str, int], str]) -> None:
        super().__init__(4, delay=0)
        self.asked: list[str] = []
        self._say = say
        self._answers: dict[int, bytes] = {}

    def _step(self, sequences: list[Sequence]) -> None:
        for sequence in sequences:
            if sequence.request.id not in self._answers:
                text = bytes(sequence.request.prompt_ids).decode()
                self.asked.append(text)
                self._answers[sequence.request.id] = self._say(text, self.asked.count(text)).encode()
            answer, done = self._answers[sequence.request.id], len(sequence.output_ids)
            sequence.append(answer[done] if done < len(answer) else -1, frozenset({-1}))


def run(
    source: str, say: Callable[[str, int], str], name: str = "a.md", memory: NoStore | None = None, retries: int = 1
) -> tuple[str, list[Result], list[str], Report]:
    document = Document(0, name, Path(name), Encoding())
    block, segments = split_text(source, Reading(marks="all"), document)
    runner, report, kept = Told(say), Report(), memory or NoStore()
    task = Task("t", "{text}", checks=frozenset({"empty"}))
    answers = Answers(
        Sampling(max_repeats=0),
        Policy(retries=retries),
        lambda one: (one, kept),
        lambda _: byte_backend([runner]),
        report,
    )
    flow = Flow(answers, report)
    parts = iter([Part(block, [Question(segment, task) for segment in segments])])
    ((_, results),) = [(part, list(results)) for part, results in flow.answered(parts)]
    flow.close()
    return "".join(merge(block, segments, iter(results))), results, runner.asked, report


def without(text: str, *marks: str) -> str:
    for mark in marks:
        text = text.replace(mark, "")
    return text


def test_an_answer_that_keeps_its_marks_is_taken() -> None:
    text, (result,), asked, _ = run("A *b* c.", lambda text, _: text.upper())
    assert (text, asked, result.num_attempts) == ("A *B* C.", ["A <1>b</1> c."], 1)


def test_one_that_loses_a_mark_is_asked_again() -> None:
    text, (result,), asked, report = run("A *b* c.", lambda text, n: text.upper() if n > 1 else without(text, "<1>"))
    assert (text, asked, result.num_attempts) == ("A *B* C.", ["A <1>b</1> c."] * 2, 2)
    assert report.exit_code == 0


@pytest.mark.parametrize(
    ("source", "name", "expected", "parts"),
    [
        ("A *b* c `d` e, [f *g*](h).", "a.md", "A *B* C `d` E, [F *G*](h).", ["A", "b", "c", "e,", "f", "g"]),
        ("<p>A <b>b</b> &lt; c <code>d</code>.", "a.html", "<p>A <b>B</b> &lt; C <code>d</code>.", ["A", "b", "< c"]),
        ("a=Hi {name}, you\n", "a.properties", "a=HI {name}, YOU\n", ["Hi", ", you"]),
        ('msgid "Has %d of %s"\nmsgstr ""\n', "a.po", 'msgid "Has %d of %s"\nmsgstr "HAS %d OF %s"\n', ["Has", "of"]),
    ],
)
def test_at_last_an_answer_is_put_together(source: str, name: str, expected: str, parts: list[str]) -> None:
    memory = Kept()
    text, (result,), asked, report = run(source, lambda text, _: text.upper().replace("<1", "< one"), name, memory)
    assert (text, sorted(asked[2:])) == (expected, sorted(parts))
    assert (result.error, result.finish_reason, result.num_attempts) == (None, "parts", 3)
    assert (report.exit_code, report.num_segments_done) == (0, 1)

    again, (result,), asked, _ = run(source, lambda *_: "never", name, memory)
    assert (again, asked, result.finish_reason, result.cached) == (expected, [], "parts", True)


def test_a_part_that_fails_fails_the_whole_and_nothing_else() -> None:
    text, results, _, report = run(
        "A *b* cat. Next.", lambda text, _: "" if text == "b" else without(text.upper(), "<1>")
    )
    assert text == "A *b* cat. NEXT."
    assert [result.error for result in results] == ["the answer is empty", None]
    assert report.exit_code == 3


def test_a_fault_that_is_none_of_the_marks_is_not_met_by_parts() -> None:
    _, (result,), asked, _ = run("A *b* c.", lambda *_: "")
    assert (result.error, len(asked)) == ("the answer is empty", 2)


def test_equal_texts_share_what_is_put_together() -> None:
    text, _, asked, _ = run("A *b* c.\n\nA *b* c.", lambda text, _: without(text.upper(), "</1>"))
    assert (text, len(asked)) == ("A *B* C.\n\nA *B* C.", 5)
