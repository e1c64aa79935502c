"""Whether an answer will do, whether it was cut, and its result: from it, its question and the limit alone."""

from __future__ import annotations

import unicodedata
from dataclasses import replace

from llmpar.documents.confidence import confidence_of
from llmpar.documents.document import PERSON, Result
from llmpar.documents.marks import find_lost_mark, without_marks
from llmpar.errors import setting
from llmpar.store.answer import StoredAnswer
from llmpar.tasks.checks import find_fault, least_confidence
from llmpar.tasks.question import Question, Sampling

KEPT, PARTS = "kept", "parts"
"""Finish reasons: of what no model needs to see, and of what was put together from answers to texts between marks."""


def sampling_for(question: Question, sampling: Sampling) -> Sampling:
    """Return how answers to a question are drawn: a conversation says it itself."""
    return question.conversation.sampling if question.conversation else sampling


def fault_of(question: Question, answer: StoredAnswer, sampling: Sampling) -> str | None:
    """Return what is wrong with an answer, as a clause for people; None if it will do."""
    if answer.finish_reason == KEPT:
        return None
    if answer.finish_reason == PERSON:
        return _fault_of_correction(question, answer.text)
    if answer.finish_reason == PARTS:  # each of which was judged by itself
        return fault_of_marks(question, answer.text)
    if answer.finish_reason == "form":
        has_choices = question.form is not None and bool(question.form.choices)
        return f"the answer is {'none of the choices' if has_choices else 'no JSON of the schema'}"
    if answer.is_unclosed:
        return _unclosed(answer)
    num_tokens = answer.num_output_tokens - answer.num_thinking_tokens
    if answer.finish_reason == "length" and not question.conversation and not is_cut(question, answer, sampling):
        return f"the model kept writing and was stopped: the answer did not end within {num_tokens:,} tokens"
    fault = _fault_of_text(question, answer)
    if fault and answer.finish_reason == "loop":
        return f"{fault} (stopped after {num_tokens:,} tokens)"
    return fault or fault_of_marks(question, answer.text) or _doubt(question, answer)


def _doubt(question: Question, answer: StoredAnswer) -> str | None:
    """Return that the model was less sure of an answer than it has to be; what nobody knows is not enough."""
    least = least_confidence(question.task.checks)
    if least is None:
        return None
    confidence = confidence_of(answer.text, answer.mean_logprob, answer.probabilities)
    if confidence is None:
        return f"the answer's confidence is not known, and has to be {least:g} or more"
    return None if confidence >= least else f"the answer has a confidence of {confidence:.3f}, below {least:g}"


def lacks_confidence(question: Question, answer: StoredAnswer) -> bool:
    """Tell whether a check needs to know how sure the model was of an answer that is kept, and it does not say."""
    if answer.finish_reason in (KEPT, PARTS) or least_confidence(question.task.checks) is None:
        return False
    return confidence_of(answer.text, answer.mean_logprob, answer.probabilities) is None


def _fault_of_correction(question: Question, text: str) -> str | None:
    """Return why a person's answer cannot be used; whether it is a good one is that person's to say."""
    fault = fault_of_marks(question, text)
    if question.form and question.form.choices and text not in question.form.choices:
        fault = "the answer is none of the choices"
    elif question.form and question.form.schema:
        from llmpar.models.grammar import fulfils

        fault = fault if fulfils(question.form.schema, text) else "the answer is no JSON of the schema"
    return f"a person's correction cannot be used: {fault}; correct it again" if fault else None


def _unclosed(answer: StoredAnswer) -> str:
    """Return that an answer did not come to its beginning, as its thoughts had no end."""
    if answer.finish_reason == "loop":
        return f"the thoughts before the answer repeat themselves (stopped after {answer.num_output_tokens:,} tokens)"
    if answer.finish_reason == "length":
        limit = setting("max_thinking_tokens")
        return f"the thoughts before the answer did not end within {answer.num_thinking_tokens:,} tokens ({limit})"
    return "the thoughts before the answer have no end, and so there is no answer"


def loses_marks(question: Question, answer: StoredAnswer) -> bool:
    """Tell whether an answer that came to its end would do, but for its marks."""
    is_whole = answer.finish_reason == "stop" and not answer.is_unclosed and _fault_of_text(question, answer) is None
    return is_whole and fault_of_marks(question, answer.text) is not None


def _fault_of_text(question: Question, answer: StoredAnswer) -> str | None:
    said = without_marks(answer.text, question.segment.marks)
    return find_fault(question.task.checks, said_by(question), said, answer.finish_reason)


def said_by(question: Question) -> str:
    """Return the text of a question without its marks."""
    return without_marks(question.text, question.segment.marks)


def fault_of_marks(question: Question, answer: str) -> str | None:
    """Return why an answer cannot stand in the document for its text, as a clause for people; None if it can."""
    segment = question.segment
    if answer == segment.text:  # what stands there can stand there
        return None
    fault = find_lost_mark(segment.text, answer, segment.marks)
    if fault is None and segment.format is not None:
        fault = segment.format.objection(segment, answer)
    return f"the answer {fault}" if fault else None


def is_cut(question: Question, answer: StoredAnswer, sampling: Sampling) -> bool:
    """Tell whether an answer ends at the user's own limit, which is a wish; but one of a form must be whole."""
    if question.conversation:
        return answer.finish_reason == "length"
    limit, num_tokens = sampling.max_new_tokens, answer.num_output_tokens - answer.num_thinking_tokens
    is_reached = answer.finish_reason == "length" and limit is not None and num_tokens >= limit
    return is_reached and question.form is None


def result_of(
    question: Question,
    answer: StoredAnswer,
    fault: str | None,
    sampling: Sampling,
    *,
    was_cut: bool = False,
    key: bytes = b"",
    cached: bool = False,
    worker: int | None = None,
    finished: float | None = None,
    asked: tuple[bytes, bytes] = (b"", b""),
) -> Result:
    """Return the result that an answer makes.

    Args:
        question: what was asked.
        answer: its answer, good or not.
        fault: what is wrong with the answer; None if it will do.
        sampling: how it was drawn.
        was_cut: whether a part of the answer was cut before it was joined.
        key: under which the answer is kept.
        cached: whether an earlier run gave it.
        worker: who gave it.
        finished: when it came, in seconds as time.time() has them; None if it did not come in this run.
        asked: where a person's answer to the question is kept.
    """
    return Result(
        question.segment,
        question.text if answer.finish_reason == KEPT else answer.text,
        fault,
        cut=fault is None and (was_cut or is_cut(question, answer, sampling)),
        looped=fault is not None and answer.finish_reason == "loop",
        cached=cached,
        key=key,
        worker=worker,
        finished=finished,
        num_prompt_tokens=answer.num_prompt_tokens,
        num_output_tokens=answer.num_output_tokens,
        finish_reason=answer.finish_reason,
        num_attempts=answer.attempt + 1,
        seconds=answer.seconds,
        reasoning=answer.thoughts,
        num_reasoning_tokens=answer.num_thinking_tokens,
        mean_logprob=answer.mean_logprob,
        min_logprob=answer.min_logprob,
        shares=answer.probabilities,
        tokens=answer.tokens,
        asked=asked,
    )


def writable(question: Question, result: Result) -> Result:
    """Return a result, failed if its answer has a character that its document's encoding cannot write.

    Only what goes into the document is written in its encoding. A format may spell a character otherwise.
    """
    segment = result.segment
    encoding = segment.block.document.encoding
    if encoding.name.startswith("utf") or result.error is not None or question.task.merge != "document":
        return result
    if segment.format is None or result.answer == segment.text:
        return result
    text = segment.format.write(segment, result.answer, 0)
    char = encoding.lacking(encoding.spelled(text, segment.format.spell))
    if char is None:
        return result
    named = f"U+{ord(char):04X} ({unicodedata.name(char, 'no name')})"
    fault = (
        f"the answer has {named}, which {encoding.name}, the document's encoding, cannot write; "
        f"{setting('output_encoding', 'utf-8')} can"
    )
    return replace(result, error=fault)
