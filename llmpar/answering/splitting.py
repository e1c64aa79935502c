"""A question whose text does not fit → two about its halves, and their answers → one. Knows no backend."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace

from llmpar.answering.attempts import Overflow
from llmpar.documents.document import Result
from llmpar.documents.pieces import halve
from llmpar.store.store import StoredAnswer
from llmpar.tasks.question import Question


@dataclass(frozen=True, slots=True)
class Halves:
    """Questions about the two halves of a text, and what stands between their answers."""

    questions: tuple[Question, Question]
    joint: str


def halves_of(question: Question, overflow: Overflow) -> Halves | None:
    """Return a question's halves, None if it has none: what is asked must make sense of a part."""
    if overflow == "error" or question.conversation or question.form:
        return None
    halves = halve(question.text)
    if halves is None:
        return None
    first, joint, second = halves

    def part(text: str) -> Question:
        return replace(question, segment=replace(question.segment, text=text))

    return Halves((part(first), part(second)), joint)


def join(results: Sequence[Result], joint: str) -> tuple[StoredAnswer, str | None]:
    """Return the answer that those to the halves make together, and the first fault among them."""
    fault = next((result.error for result in results if result.error is not None), None)
    answer = StoredAnswer(
        0,
        joint.join(result.answer for result in results),
        next((result.finish_reason for result in results if result.error is not None), "stop"),
        sum(result.num_prompt_tokens for result in results),
        sum(result.num_output_tokens for result in results),
        sum(result.seconds for result in results),
    )
    return answer, fault
