"""The task behind `llmpar translate`: from which language, into which, with what beside the text."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

from llmpar.errors import UsageError
from llmpar.tasks.files import find_task
from llmpar.tasks.glossary import Glossary
from llmpar.tasks.languages import find_language
from llmpar.tasks.task import Task

_MOST_CONTEXT = 100


def make_task(to: str, source: str = "auto", context: int = 0) -> Task:
    """Return the task that translates.

    Args:
        to: a language's name or code.
        source: the same of the text's language, or "auto".
        context: how many neighbours of a segment the model sees on either side.

    Raises:
        UsageError: a language is unknown, or the number out of its range.
    """
    if not 0 <= context <= _MOST_CONTEXT:
        raise UsageError(f"context {context}: must be 0 or more, up to {_MOST_CONTEXT}")
    target = find_language(to, "target language")
    values = {"to": target.name, "to_tag": target.tag}
    if source.strip().casefold() != "auto":
        origin = find_language(source, "source language")
        values |= {"from": origin.name, "from_tag": origin.tag}
    return replace(find_task("translate").with_values(**values), context=context)


def find_terms(glossary: Path) -> Callable[[str], str]:
    """Return what tells which terms of a glossary occur in a text, as its prompt shows them.

    Raises:
        InputError: the glossary is damaged; the message names the line.
        InputUnreadable: it cannot be read.
    """
    terms_in = Glossary.read(glossary).terms_in
    return lambda text: "; ".join(f"{term} = {translation}" for term, translation in terms_in(text))
