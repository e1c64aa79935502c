"""Whether a question fits the model's context, from its size alone, with a table of cases in the tests.

Knows no backend: whoever asks counts the tokens.
"""

from __future__ import annotations

from dataclasses import dataclass
from enum import Enum

from llmpar.frozen import quickly_made
from llmpar.tasks.task import Task

LEAST_ROOM = 16
"""Tokens for an answer; with less, a prompt does not fit."""


@quickly_made
@dataclass(frozen=True, slots=True)
class Size:
    """How many tokens a question takes.

    Args:
        num_prompt_tokens: what the model reads.
        num_text_tokens: of the text that the question is about; 0 where nothing follows from it.
        wanted: what its answer may take at first.
        context_length: what there is room for, prompt and answer together.
        thinking: what its thoughts may take on top of that.
    """

    num_prompt_tokens: int
    num_text_tokens: int
    wanted: int
    context_length: int
    thinking: int = 0

    @property
    def room(self) -> int:
        """How many tokens are left for an answer; below 0 if the prompt alone has too many."""
        return self.context_length - self.num_prompt_tokens

    @property
    def limit(self) -> int:
        """How many tokens the answer and its thoughts may have at first."""
        return min(self.wanted + self.thinking, self.room)

    @property
    def thinking_room(self) -> int:
        """How many of these are for thoughts, which have less first if the context leaves little, down to half."""
        return min(self.thinking, max(self.limit - self.wanted, self.limit // 2)) if self.thinking else 0


class Fit(Enum):
    """What becomes of a question of some size."""

    SHORT = "the text is left as it is: the task is not for texts so short"
    WHOLE = "it is asked"
    LONG = "each half of the text is asked about by itself, if it has halves; else it is asked"
    OVERFLOW = "each half of the text is asked about by itself, if it has halves; else it fails"


def fit_of(size: Size, task: Task, *, is_conversation: bool) -> Fit:
    """Return what becomes of a question.

    Args:
        size: the question's.
        task: says which texts are short, and which are long.
        is_conversation: whether it is a request that is complete in itself, which no task calls short.
    """
    if size.num_text_tokens < task.min_text_tokens and not is_conversation:
        return Fit.SHORT
    if size.room < min(size.wanted, LEAST_ROOM):
        return Fit.OVERFLOW
    if task.max_text_tokens is not None and size.num_text_tokens > task.max_text_tokens:
        return Fit.LONG
    return Fit.WHOLE


def refusal(context_length: int, num_prompt_tokens: int | None) -> str:
    """Return why a question that does not fit fails, as a clause for people.

    Args:
        context_length: what there is room for.
        num_prompt_tokens: what it takes; None if not all of it was read, as it takes more than there is room for.
    """
    taken = f"more than {context_length:,}" if num_prompt_tokens is None else f"{num_prompt_tokens:,}"
    return (
        f"its prompt takes {taken} of the {context_length:,} tokens the model can read; split it smaller, or take a "
        "model with a longer context"
    )
