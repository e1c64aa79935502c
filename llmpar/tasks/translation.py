"""The task behind `llmpar translate`: from which language, into which, with what beside the text."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace

from llmpar.errors import UsageError
from llmpar.tasks.files import find_task
from llmpar.tasks.glossary import Glossary, key_of
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
    return replace(find_task("translate").with_values(**_languages(to, source)), context=context)


def make_term_task(to: str, source: str = "auto") -> Task:
    """Return the task that translates a name or term by itself; the arguments and errors are those of `make_task`."""
    return find_task("term").with_values(**_languages(to, source))


def _languages(to: str, source: str) -> dict[str, str]:
    target = find_language(to, "target language")
    values = {"to": target.name, "to_tag": target.tag}
    if source.strip().casefold() != "auto":
        origin = find_language(source, "source language")
        values |= {"from": origin.name, "from_tag": origin.tag}
    return values


def find_terms(*glossaries: Glossary) -> Callable[[str], str]:
    """Return what tells which terms of glossaries occur in a text, as its prompt shows them; the first one wins."""

    def terms_in(text: str) -> str:
        found: dict[str, tuple[str, str]] = {}
        for glossary in glossaries:
            for term in glossary.terms_in(text):
                found.setdefault(key_of(term[0]), term)
        return "; ".join(f"{term} = {translation}" for term, translation in found.values())

    return terms_in
