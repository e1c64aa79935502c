"""A question → questions about parts of its text, and their answers → one. Knows no backend.

A text that does not fit is asked about in halves, and one whose answers lose its marks in the texts between them.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace

from llmpar.answering.attempts import Overflow
from llmpar.answering.judging import KEPT, fault_of_marks, loses_marks
from llmpar.answering.pending import Split
from llmpar.documents.document import Result
from llmpar.documents.marks import split_at_marks
from llmpar.documents.pieces import halve
from llmpar.store.answer import StoredAnswer
from llmpar.tasks.question import Question


@dataclass(frozen=True, slots=True)
class Parts:
    """Questions about parts of a text, and what stands before, between and behind their answers: one more than they."""

    questions: tuple[Question, ...]
    joints: tuple[str, ...]


def halves_of(question: Question, overflow: Overflow) -> Parts | None:
    """Return a question's halves, None if it has none: what is asked must make sense of a part."""
    if overflow == "error" or question.conversation or question.form:
        return None
    halves = halve(question.text)
    if halves is None:
        return None
    first, joint, second = halves

    def part(text: str) -> Question:
        # Markup that is torn is no markup for the document: what can stand there is told of the whole answer.
        return replace(question, segment=replace(question.segment, text=text, format=None))

    return Parts((part(first), part(second)), ("", joint, ""))


def between_marks(question: Question) -> Parts | None:
    """Return questions about the texts between a text's marks, None if there are no marks, or no words between them."""
    segment = question.segment
    if not segment.marks:
        return None
    joints, questions = [""], []
    for one in split_at_marks(segment.text, segment.marks):
        if not isinstance(one, str) or not any(char.isalpha() for char in one):
            joints[-1] += one if isinstance(one, str) else one.form
            continue
        said = one.strip()
        start = one.index(said)
        joints[-1] += one[:start]
        questions.append(replace(question, segment=replace(segment, text=said, marks=(), format=None)))
        joints.append(one[start + len(said) :])
    return Parts(tuple(questions), tuple(joints)) if questions else None


def parts_after(question: Question, answer: StoredAnswer) -> Parts | None:
    """Return the questions of `between_marks` if an answer would do but for its marks, else None."""
    return between_marks(question) if loses_marks(question, answer) else None


def join(split: Split, results: Sequence[Result]) -> tuple[StoredAnswer, str | None]:
    """Return the answer that those to all parts make together, and what is wrong with it: the first part's fault."""
    failed = next((result for result in results if result.error is not None), None)
    texts = (result.answer + joint for result, joint in zip(results, split.joints[1:], strict=True))
    mean, least = _joined_scores(results)
    answer = StoredAnswer(
        split.attempt if failed is None else 0,
        split.joints[0] + "".join(texts),
        split.finish_reason if failed is None else failed.finish_reason,
        sum(result.num_prompt_tokens for result in results),
        sum(result.num_output_tokens for result in results),
        sum(result.seconds for result in results),
        "\n\n".join(result.reasoning for result in results if result.reasoning),
        sum(result.num_reasoning_tokens for result in results),
        mean_logprob=mean,
        min_logprob=least,
    )
    return answer, failed.error if failed else fault_of_marks(split.whole.question, answer.text)


def _joined_scores(results: Sequence[Result]) -> tuple[float | None, float | None]:
    """Return the mean log-probability of all parts' tokens, and the least; None unless all are known."""
    total = least = 0.0
    count = 0
    for result in results:
        if result.mean_logprob is None or result.min_logprob is None:
            if result.answer and result.finish_reason != KEPT:
                return None, None
            continue  # it has no token
        num_tokens = result.num_output_tokens - result.num_reasoning_tokens
        total += num_tokens * result.mean_logprob
        count += num_tokens
        least = min(least, result.min_logprob)
    return (round(total / count, 6), least) if count else (None, None)
