"""How many tokens a question takes, as its backend counts them; `fitting` says what follows from that."""

from __future__ import annotations

from llmpar.answering.backend import Backend
from llmpar.answering.fitting import Size
from llmpar.answering.judging import sampling_for
from llmpar.tasks.question import Prompt, Question, Sampling


def size_of(question: Question, prompt: Prompt, backend: Backend, sampling: Sampling) -> Size:
    """Return the size of a question.

    Args:
        question: what is asked.
        prompt: how the model is asked.
        backend: counts tokens.
        sampling: what the user said about answers.

    Raises:
        ModelUnavailable: the model refuses such a conversation.
        UsageError: the model cannot be asked so, or answers cannot be held to the question's form.
    """
    if question.form:
        backend.check_form(question.form)  # one that cannot be used is said now
    num_prompt_tokens = backend.count_tokens(prompt)
    num_text_tokens = backend.measure(question.text) if needs_length(question, sampling) else 0
    wanted = _limit(question, backend, sampling, num_text_tokens)
    thinking = backend.thinking_room(prompt, sampling.max_thinking_tokens)
    return Size(num_prompt_tokens, num_text_tokens, wanted, backend.context_length, thinking)


def needs_length(question: Question, sampling: Sampling) -> bool:
    """Tell whether anything follows from the number of tokens that a question's text has: to count them takes time."""
    task, limit = question.task, sampling_for(question, sampling).max_new_tokens
    return not limit or task.min_text_tokens > 0 or task.max_text_tokens is not None


def _limit(question: Question, backend: Backend, sampling: Sampling, num_text_tokens: int) -> int:
    """Return how many tokens an answer may have at first."""
    if question.form and question.form.choices:
        return max(map(backend.measure, question.form.choices)) + 2
    return sampling_for(question, sampling).max_new_tokens or question.task.max_new_tokens(num_text_tokens)
