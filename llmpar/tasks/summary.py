"""The task behind `llmpar summarize`: how long, and of what."""

from __future__ import annotations

from dataclasses import replace
from typing import Literal

from llmpar.errors import UsageError
from llmpar.tasks.files import find_task
from llmpar.tasks.task import Task

# What a prompt calls the length, and the tokens of room.
_LENGTHS = {
    "short": ("one or two sentences", 96),
    "medium": ("four or five sentences", 192),
    "long": ("three paragraphs", 480),
}
_MOST_WORDS = 10_000
_LEAST_TEXT = 40  # tokens of a paragraph that is longer than its summary


def make_task(length: str, per: Literal["file", "paragraph", "all"]) -> Task:
    """Return the task that summarizes.

    Args:
        length: "short", "medium", "long", or a number of words.
        per: what has a summary of its own.

    Raises:
        UsageError: the length is none.
    """
    if length in _LENGTHS:
        words, room = _LENGTHS[length]
    elif length.isascii() and length.isdigit() and 0 < int(length) <= _MOST_WORDS:
        words, room = f"about {int(length)} words", 32 + 2 * int(length)
    else:
        raise UsageError(f"length {length!r}: is none of short, medium, long, nor a number of words")
    task = replace(find_task("summarize").with_values(length=words), margin=room)
    if per == "paragraph":
        return replace(task, merge="document", chunk=None, reduce=None, min_text_tokens=_LEAST_TEXT)
    return task
