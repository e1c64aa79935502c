"""A question: one segment under one task, or a conversation of the user's own. And how answers are drawn."""

from __future__ import annotations

import json
from dataclasses import asdict, dataclass

from llmpar.documents.document import Segment
from llmpar.documents.marks import show_marks
from llmpar.errors import UsageError
from llmpar.frozen import quickly_made
from llmpar.messages import Message
from llmpar.tasks.task import Form, Task

LEAST_TEMPERATURE = 1e-5
"""Below, a token would have to be within a ten-thousandth of the likeliest's logit to come: that is rounding."""


@dataclass(frozen=True, slots=True)
class Sampling:
    """How answers are drawn. The defaults here are those of the command line, too, which reads them from here.

    Args:
        max_new_tokens: where an answer is cut; None leaves the limit to the task.
        temperature: below LEAST_TEMPERATURE it becomes 0, which takes the likeliest token each time.
        top_p: tokens are drawn from the likeliest that have this share together.
        seed: equal seeds draw equal answers.
        max_repeats: an answer that says the same more often in a row is stopped; 0 stops none.
        stop: an answer ends before the first of these strings in it.
        max_thinking_tokens: how many tokens its thoughts may take, apart from `max_new_tokens`; None for 4096 from a
            model that is known to think.

    Raises:
        UsageError: the temperature is not from 0 to 100, or `top_p` not from 0 to 1; NaN is neither.
    """

    max_new_tokens: int | None = None
    temperature: float = 0.0
    top_p: float = 1.0
    seed: int = 0
    max_repeats: int = 4
    stop: tuple[str, ...] = ()
    max_thinking_tokens: int | None = None

    def __post_init__(self) -> None:
        for name, most in (("temperature", 100), ("top_p", 1)):
            value = getattr(self, name)
            if not 0 <= value <= most:
                raise UsageError(f"{name} {value}: must be 0 or more, up to {most}")
        if self.temperature < LEAST_TEMPERATURE:
            object.__setattr__(self, "temperature", 0.0)


@dataclass(frozen=True, slots=True)
class Conversation:
    """A request that is complete in itself, whatever the task: what was said, and how the answer is drawn.

    One without roles (`is_beginning`) is a text for the model to go on with. Its answer is given as it comes, white
    space at its ends included. `num_others` says of how many of the likeliest tokens the log-probabilities are wanted
    at each place, besides those of its own tokens; None if none are.
    """

    messages: tuple[Message, ...]
    sampling: Sampling
    is_beginning: bool = False
    form: Form | None = None
    num_others: int | None = None


@quickly_made
@dataclass(frozen=True, slots=True)
class Prompt:
    """A question as it is put to a model, in plain data that any process can be sent.

    Args:
        messages: who says what.
        text: what the answer is about. A model made for translation reads nothing else.
        is_beginning: the one message is a text for the model to go on with, and no conversation.
        languages: the tags of the source language, "" if that is not known, and of the target; for a task that names
            none, both are "".
    """

    messages: tuple[Message, ...]
    text: str
    is_beginning: bool = False
    languages: tuple[str, str] = ("", "")


@quickly_made
@dataclass(frozen=True, slots=True)
class Question:
    """What is asked about one segment.

    Args:
        segment: where it stands; its text is what the answer is about.
        task: what is asked.
        fields: names and values for the task's prompt that are another for each segment.
        conversation: is asked instead, where there is one.
    """

    segment: Segment
    task: Task
    fields: tuple[tuple[str, str], ...] = ()
    conversation: Conversation | None = None

    def under(self, task: Task) -> Question:
        """Return the question under another task."""
        return self if task is self.task else Question(self.segment, task, self.fields, self.conversation)

    @property
    def text(self) -> str:
        """What the answer is about."""
        return self.segment.text

    @property
    def messages(self) -> tuple[Message, ...]:
        """What the model is told."""
        if self.conversation:
            return self.conversation.messages
        return self.task.messages(self.text, (*self.fields, ("kept_marks", show_marks(self.text, self.segment.marks))))

    @property
    def prompt(self) -> Prompt:
        """How a model is asked."""
        is_beginning = self.conversation is not None and self.conversation.is_beginning
        languages = (self.task.value("from_tag"), self.task.value("to_tag"))
        return Prompt(self.messages, self.text, is_beginning, languages)

    @property
    def form(self) -> Form | None:
        """What the answer must be."""
        return self.conversation.form if self.conversation else self.task.form

    @property
    def material(self) -> str:
        """What decides the answer besides the task: the text, and what else there is."""
        if self.conversation:
            said = asdict(self.conversation)
            del said["sampling"]["max_thinking_tokens"]  # no request says it, but whoever runs them
            if self.conversation.num_others is None:
                del said["num_others"]  # answers without are kept from before there were any
            return "\0" + json.dumps(said, sort_keys=True)
        # A document has no NUL as a rule, so that no text looks like this.
        return "\0" + json.dumps([self.text, self.fields]) if self.fields else self.text


def texts_in(material: str) -> list[str]:
    """Return the texts in a question's `material`: what its answer is about first, or all messages of a conversation.

    Raises:
        ValueError, TypeError, LookupError: it is no question's.
    """
    if not material.startswith("\0"):
        return [material]
    told = json.loads(material[1:])
    if isinstance(told, list):
        return [told[0], *(value for _, value in told[1] if value)]
    return [text for _, text in told["messages"]]
