"""A question over documents: passages by their words, findings by the model, and one answer that rests on them."""

from __future__ import annotations

import re
from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import dataclass, field, replace

from llmpar.answering.flow import Part
from llmpar.answering.forecast import Foreseen
from llmpar.answering.session import Session
from llmpar.documents.document import Segment, text_document, text_segment
from llmpar.documents.language import detect
from llmpar.jobs.defaults import USUAL_TOP
from llmpar.jobs.passages import Ranking
from llmpar.jobs.reduction import JOINT, Gaps, Stretch, plant
from llmpar.jobs.segmenting import Blocks, is_heading, pack
from llmpar.tasks.question import Question
from llmpar.tasks.task import Task

_NOWHERE = text_document("question")
_SEVERAL = re.compile(r"\?.*\?|\b(?:and|und|et|y|e|och|en|og|i|и)\b|[;；]|和|以及", re.IGNORECASE | re.DOTALL)
_MOST_PARTS = 6
_TELLING = 20  # passages that tell which language it is
_LIST_MARK = re.compile(r"\s*(?:[-*•]|\(?\d{1,2}[.)])\s*")
# How a model says that there is nothing to say, when it does not say it in the one word that it was given.
_NOTHING = re.compile(
    r"(?:the |this )?(?:passage|text|section|information)s? (?:do(?:es)?(?: not|n't)|did not|says nothing|has no)\b"
    r"|(?:it is |it's |is )?not (?:mentioned|stated|specified|provided|given|answered|possible|clear|available)\b"
    r"|(?:there is |there's )?no (?:information|mention|answer)\b"
    r"|i (?:do not|don't|cannot|can't) (?:know|answer|find|tell)",
    re.IGNORECASE,
)


@dataclass(frozen=True, slots=True)
class Passage:
    """A piece of a document, and the heading that it stands under, "" for none."""

    segment: Segment
    heading: str = ""

    @property
    def place(self) -> str:
        """File and line, for people and editors."""
        return self.segment.place


@dataclass(frozen=True, slots=True)
class Finding:
    """What a passage says to a question; "" if its words alone speak for it."""

    question: str
    answer: str
    passage: Passage


@dataclass(frozen=True, slots=True)
class Conclusion:
    """What the findings come to.

    Args:
        text: one answer, "" for none. If the last step failed, the answers that it was to join.
        gaps: whether it is one answer, and what it does not rest on although something was found there.
    """

    text: str
    gaps: Gaps = field(default_factory=Gaps)


def gather(blocks: Blocks, task: Task, session: Session) -> Iterator[Passage]:
    """Yield the passages of a document: paragraphs, short ones together, with the heading that they stand under."""
    heading = ""
    for _, segments in pack(blocks, session.budget(task), session.model.measure, parts_at_headings=True):
        for segment in segments:
            first, joint, _ = segment.text.partition(JOINT)
            if joint and is_heading(first, segment.layout):
                heading = " ".join(first.split())
            yield Passage(segment, heading)


def divide(question: str, session: Session, task: Task) -> list[str]:
    """Return the questions that a question is made of, by the model; itself alone if it seems to be one.

    Args:
        question: the user's.
        session: asks.
        task: what asks for simpler questions.
    """
    asked = divider(question, task)
    result = asked and session.flow.result(session.flow.submit(asked))
    return divided(question, result.answer) if result and result.error is None else [question]


def divider(question: str, task: Task) -> Question | None:
    """Return what asks for the questions that a question is made of; None if it seems to be one."""
    if not _SEVERAL.search(question):
        return None
    return Question(text_segment(_NOWHERE, question, label="breaking the question into simpler ones"), task)


def divided(question: str, answer: str) -> list[str]:
    """Return the questions that a model found in a question, if they are some; else itself alone."""
    lines = [_LIST_MARK.sub("", line, count=1).strip() for line in answer.splitlines()]
    ranking = Ranking([question])
    # Those that are questions and about the same thing. A model that made others up is not to be followed.
    parts = [line for line in dict.fromkeys(lines) if line.endswith(("?", "？")) and ranking.best(line)]
    return parts if 1 < len(parts) <= _MOST_PARTS else [question]


def choose(questions: Sequence[str], passages: Sequence[Passage], top: int | None, language: str) -> list[list[int]]:
    """Return for each question the numbers of the passages to read, the likeliest first; all, if `top` is None."""
    if top is None:
        return [list(range(len(passages)))] * len(questions)
    ranking = Ranking([f"{passage.heading}\n{passage.segment.text}" for passage in passages], language)
    return [ranking.best(question, top) for question in questions]


def asked_of(
    questions: Sequence[str], passages: Sequence[Passage], chosen: Sequence[Sequence[int]], task: Task
) -> Iterator[Part]:
    """Yield what `find` asks: each question of each of its passages, in order.

    Args:
        questions: what is asked.
        passages: all there are.
        chosen: for each question, the numbers of those that are read.
        task: what is asked, `{question}` in it.
    """
    for question, numbers in zip(questions, chosen, strict=True):
        for number in numbers:
            asked = ask_of(passages[number], question, task)
            yield Part(asked.segment.block, [asked])


def within(numbers: Sequence[int], passages: Sequence[Passage], most: int, measure: Callable[[str], int]) -> list[int]:
    """Return the first of some passages, as many as have `most` tokens together, and at least as many as are usual."""
    kept: list[int] = []
    total = 0
    for number in numbers:
        if len(kept) >= USUAL_TOP and total >= most:
            break
        kept.append(number)
        total += measure(passages[number].segment.text)
    return kept


def language_of(passages: Sequence[Passage]) -> str:
    """Return the name of the language that passages are in, by the first of them."""
    return detect("\n".join(passage.segment.text for passage in passages[:_TELLING]), "english")


def find(
    questions: Sequence[str],
    passages: Sequence[Passage],
    chosen: Sequence[Sequence[int]],
    session: Session,
    task: Task,
) -> Iterator[Finding]:
    """Ask each question of each of its passages, and yield what was found, in order; passages that say nothing do not.

    Args:
        questions: what is asked.
        passages: all there are.
        chosen: for each question, the numbers of those that are read.
        session: asks.
        task: what is asked, `{question}` in it.
    """
    order = [(question, number) for question, numbers in zip(questions, chosen, strict=True) for number in numbers]
    nothing = task.value("nothing")
    parts = asked_of(questions, passages, chosen, task)
    for (question, number), (_, results) in zip(order, session.flow.answered(parts), strict=True):
        for result in results:
            if result.error is None and not is_nothing(result.answer, nothing):
                yield Finding(question, result.answer, passages[number])


def ask_of(passage: Passage, question: str, task: Task) -> Question:
    """Return what the model is asked about a passage; see `find`."""
    segment = replace(passage.segment, block=replace(passage.segment.block, num_bytes=0))
    return Question(segment, task.with_values(question=question), (("before", passage.heading),))


def quote(
    questions: Sequence[str], passages: Sequence[Passage], findings: Sequence[Finding], count: int, language: str
) -> list[Finding]:
    """Return what is worth showing to a person: the findings, and for each question the passages that fit it best.

    A small model overlooks what it reads, and a person does not mind a passage more.

    Args:
        questions: the user's, and what it was divided into.
        passages: all there are.
        findings: what the model found.
        count: how many passages of each question are shown in any case.
        language: of the passages.
    """
    shown = list(findings)
    known = {finding.passage for finding in findings}
    for question, numbers in zip(questions, choose(questions, passages, count, language), strict=True):
        for passage in (passages[number] for number in numbers):
            if passage not in known:
                known.add(passage)
                shown.append(Finding(question, "", passage))
    return shown


def is_nothing(answer: str, nothing: str) -> bool:
    """Tell whether an answer says that there is none."""
    said = answer.strip().strip("\"'*.“”()[]").casefold()
    return not said or said.startswith(nothing.casefold()) or bool(_NOTHING.match(answer.strip()))


def findings_foreseen(foreseen: Iterable[Foreseen], task: Task) -> Iterator[Foreseen]:
    """Yield what becomes of those passages whose answers go into one, as far as is known; see `conclude`."""
    nothing, known = task.value("nothing"), set[str]()
    for one in foreseen:
        if one.fate == "failed" or (one.answer is not None and is_nothing(one.answer, nothing)):
            continue
        if one.answer is None or one.answer not in known:
            yield one
        known.add(one.answer or "")


def conclude(question: str, findings: Iterable[Finding], session: Session, task: Task) -> Conclusion:
    """Return one answer made of the findings."""
    tree = plant(session, task.with_values(question=question).reduction(), _NOWHERE)
    session.flow.expect(lambda _, __: tree.coming(0))  # most passages say nothing, and all have been asked about
    found: dict[str, Stretch] = {}
    for finding in findings:
        found.setdefault(finding.answer, Stretch.of(finding.passage.segment))
    for answer, stretch in found.items():
        tree.add(answer, stretch)
    text = tree.finish()
    return Conclusion(text, tree.gaps)
