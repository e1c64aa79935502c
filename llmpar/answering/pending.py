"""What is on its way to an answer, as plain records; `answers` alone changes them."""

from __future__ import annotations

import time
from dataclasses import dataclass, field, replace

from llmpar.answering.attempts import Attempt, Policy, sampling_of
from llmpar.answering.backend import Query, Reply
from llmpar.answering.corrections import Corrections
from llmpar.answering.memory import Memory
from llmpar.documents.document import PERSON, Result
from llmpar.frozen import quickly_made
from llmpar.store.answer import StoredAnswer
from llmpar.store.job import NoStore
from llmpar.tasks.checks import least_confidence
from llmpar.tasks.question import Prompt, Question, Sampling

HALF = "\ufffd"
"""What a tokenizer makes of a character of which some bytes are missing."""


@dataclass(eq=False, slots=True)
class Pending:
    """A question on its way, and in the end its result.

    `correctable` is where people's answers to it are kept, and under which key; None for a part of a question.
    """

    question: Question
    memory: Memory
    key: bytes
    correctable: tuple[Corrections, bytes] | None = None
    result: Result | None = None
    started: float = field(default_factory=time.monotonic)

    @property
    def place(self) -> tuple[bytes, bytes]:
        """Where people's answers to it are kept; see `Result.asked`."""
        return (self.correctable[0].job, self.correctable[1]) if self.correctable else (b"", b"")


@quickly_made
@dataclass(frozen=True, slots=True)
class Running:
    """An attempt that the backend works at; `seconds` is what the part of it took that was cut."""

    pending: Pending
    prompt: Prompt
    attempt: Attempt
    num_prompt_tokens: int
    seconds: float = 0.0


@dataclass(slots=True)
class InFlight:
    """A question that is being answered, and equal ones that wait for its answer."""

    num_prompt_tokens: int
    twins: list[Pending] = field(default_factory=list)


@dataclass(frozen=True, slots=True)
class Split:
    """A question that waits for the answers to parts of its text, and what stands around these; see `splitting`.

    Args:
        whole: the question.
        joints: what stands before, between and behind the answers.
        parts: the questions about the parts.
        attempt: the number that the joined answer has, of those to the question.
        finish_reason: the joined answer's, if all is well with its parts.
    """

    whole: Pending
    joints: tuple[str, ...]
    parts: tuple[Pending, ...]
    attempt: int = 0
    finish_reason: str = "stop"


def foreseen_as(question: Question, result: Result) -> Pending:
    """Return what stands for a question that nobody asks, with the result that it is taken to have."""
    return Pending(question, NoStore(), b"", result=result)


def query_of(
    number: int, running: Running, drawn: Sampling, policy: Policy, max_new_tokens: int, continues: bytes
) -> Query:
    """Return what the backend is asked for an attempt.

    Args:
        number: comes back with the reply.
        running: the attempt.
        drawn: how answers to the question are drawn at first.
        policy: says how long the answer may take, and whether those of a form are scored.
        max_new_tokens: of the answer and its thoughts, or of what is still to come of them.
        continues: the answer that was cut, with which this one goes on; empty for none.
    """
    attempt, question = running.attempt, running.pending.question
    return Query(
        number,
        running.prompt,
        sampling_of(attempt, drawn),
        max_new_tokens,
        question.form,
        policy.timeout,
        continues,
        attempt.thinking_room * max_new_tokens // attempt.limit,
        # Of others it costs next to nothing. A form mostly spares the engine to look at all tokens, which this needs.
        question.form is None or policy.scores_forms or least_confidence(question.task.checks) is not None,
        question.conversation.num_others if question.conversation else None,
    )


def answer_of(running: Running, reply: Reply) -> StoredAnswer:
    """Return the answer that a reply makes; a conversation's is taken as it comes, white space included."""
    question = running.pending.question
    text = reply.text
    if reply.finish_reason == "length" and HALF not in question.text:
        text = text.rstrip(HALF)  # the limit came between the tokens of a character
    return StoredAnswer(
        running.attempt.number,
        text.strip() if question.conversation is None else text,
        reply.finish_reason,
        running.num_prompt_tokens if reply.num_prompt_tokens is None else reply.num_prompt_tokens,
        reply.num_output_tokens,
        running.seconds + reply.seconds,
        reply.thoughts,
        reply.num_thinking_tokens,
        reply.is_unclosed,
        reply.mean_logprob,
        reply.min_logprob,
        reply.probabilities,
        reply.tokens,
    )


def placed(result: Result, pending: Pending) -> Result:
    """Return a question's result with where people's answers to it are kept: an equal question may have others."""
    if not pending.correctable:
        return result
    if result.asked != pending.place:
        result = replace(result, asked=pending.place)
    return replace(result, key=pending.correctable[1]) if result.finish_reason == PERSON else result


def can_extend(reply: Reply, sampling: Sampling) -> bool:
    """Tell whether an answer that was cut may have more room: thoughts not, where the user limits them."""
    return bool(reply.continuation) and not (reply.is_unclosed and sampling.max_thinking_tokens is not None)


def pend(question: Question, memory: Memory, corrections: Corrections | None = None) -> Pending:
    """Return a question on its way, with the keys under which answers to it are kept, those of people too."""
    material = question.material
    correctable = (corrections, corrections.key(material)) if corrections and not question.conversation else None
    return Pending(question, memory, memory.key(material), correctable)
