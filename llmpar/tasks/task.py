"""A task: what is asked of each segment, how much room its answer gets, and what becomes of the answers.

Tasks are data; `files` reads them. Knows no token but their number.
"""

from __future__ import annotations

import re
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, replace
from fnmatch import fnmatchcase
from functools import lru_cache
from typing import Literal

from llmpar.documents.document import Merge, Unit
from llmpar.errors import UsageError
from llmpar.messages import Message
from llmpar.tasks.checks import DEFAULT_CHECKS

Skip = Literal["untranslatable", "translated"]
PLACEHOLDER = "{text}"
QUESTION_FIELDS = ("text", "before", "after", "terms", "kept_marks", "examples")
"""What a prompt may name that is another for each segment."""

_KEEP_MARKS = "Keep these marks around the words that they belong to, and in their places: {kept_marks}"

_TEMPLATES_KEPT = 64
_NAMED = re.compile(r"\{([a-z][a-z0-9_]*)\}")
_HALF = re.compile(r"\{\s*text\s*\}|\{\s*text\b(?![^{}]*\})")  # the placeholder, written wrong
_UNOPENED = re.compile(r"\btext\}")
_FIELD = re.compile(r"\{([^\W\d][\w .\-]*(?:\[-?\d+\][\w .\-]*)*)\}")


@dataclass(frozen=True, slots=True)
class Form:
    """What an answer must be: one of `choices`, or else JSON of a `schema`, which is given as JSON."""

    choices: tuple[str, ...] = ()
    schema: str = ""


@dataclass(frozen=True, slots=True)
class Family:
    """What a task says differently to models whose name or type fits one of the patterns (as in a shell, any case).

    `chunk` bounds the text of one question, of answers that are reduced too: a small model loses the thread of a text
    long before its context is full.
    """

    match: tuple[str, ...]
    prompt: str | None = None
    system: str | None = None
    reduce: str | None = None
    chunk: int | None = None


@dataclass(frozen=True, slots=True)
class Task:
    """What is asked of each segment.

    Args:
        name: for people.
        prompt: the user's message; `{text}` in it stands for the segment, which otherwise follows it. Other names in
            braces stand for `values`. A line whose names all stand for nothing is left out.
        system: the system prompt, None for the model's own.
        description: one line for people.
        unit: what a segment is, unless the user says otherwise.
        growth: tokens of room for an answer for each token of the segment.
        margin: tokens of room on top.
        min_text_tokens: shorter segments are left as they are.
        max_text_tokens: longer segments are split, and the answers joined; None for no such limit.
        chunk: segments are packed together up to so many tokens, headings with what they head; None: they are not.
        context: how many neighbours on either side `{before}` and `{after}` show.
        checks: what an answer must not be (see `checks`).
        skip: which segments no model need see.
        merge: what becomes of the answers.
        reduce: with `merge` "reduce": the prompt over answers, until one is left.
        values: what names in prompts stand for.
        required: those of them that must not be empty.
        form: what an answer must be.
        families: what is said otherwise to some models.
    """

    name: str
    prompt: str
    system: str | None = None
    description: str = ""
    unit: Unit = "sentence"
    growth: float = 1.0
    margin: int = 256
    min_text_tokens: int = 0
    max_text_tokens: int | None = None
    chunk: int | None = None
    context: int = 0
    checks: frozenset[str] = DEFAULT_CHECKS
    skip: frozenset[Skip] = frozenset()
    merge: Merge = "document"
    reduce: str | None = None
    values: tuple[tuple[str, str], ...] = ()
    required: tuple[str, ...] = ()
    form: Form | None = None
    families: tuple[Family, ...] = ()

    def messages(self, text: str, fields: Iterable[tuple[str, str]] = ()) -> tuple[Message, ...]:
        """Return what the model is told about `text`; nothing in it or in `fields` is interpreted."""
        values = {**dict(self.values), **dict(fields), "text": text}
        prompt = _filled(self.prompt, values)
        if PLACEHOLDER not in self.prompt:
            prompt = f"{prompt}\n\n{text}"
        if values.get("kept_marks") and "{kept_marks}" not in f"{self.prompt}{self.system}":
            prompt = f"{prompt}\n\n{_filled(_KEEP_MARKS, values)}"
        user: Message = ("user", prompt)
        return (user,) if self.system is None else (("system", _filled(self.system, values)), user)

    def max_new_tokens(self, num_text_tokens: int) -> int:
        """Return the room for the answer to a segment of so many tokens."""
        return int(self.growth * num_text_tokens) + self.margin

    def value(self, name: str) -> str:
        """Return what a name stands for, "" for nothing."""
        return dict(self.values).get(name, "") if self.values else ""

    def with_values(self, **values: str) -> Task:
        """Return the task in which names stand for other values."""
        return replace(self, values=tuple(sorted({**dict(self.values), **values}.items())))

    def for_model(self, names: Iterable[str]) -> Task:
        """Return the task as it is put to a model that is known by these names, its type among them."""
        known = [name.casefold() for name in names]
        for family in self.families:
            if any(fnmatchcase(name, pattern.casefold()) for name in known for pattern in family.match):
                return replace(
                    self,
                    prompt=self.prompt if family.prompt is None else family.prompt,
                    system=self.system if family.system is None else family.system,
                    reduce=self.reduce if family.reduce is None else family.reduce,
                    chunk=self.chunk if family.chunk is None else family.chunk,
                    families=(),
                )
        return replace(self, families=())

    def reduction(self) -> Task:
        """Return the task that makes one answer of several: its texts are answers of this one, or of its own.

        Raises:
            UsageError: there is no prompt for that.
        """
        if not self.reduce:
            raise UsageError(
                f"task {self.name}: does not say how to make one answer of many; give it a prompt for that (reduce)"
            )
        families = tuple(
            replace(family, prompt=family.reduce, reduce=None)
            for family in self.families
            if family.reduce or family.system or family.chunk
        )
        return replace(
            self, prompt=self.reduce, families=families, min_text_tokens=0, chunk=None, context=0, skip=frozenset()
        )

    def decisive(self) -> dict[str, object]:
        """Return what of it decides an answer, besides the text: what a store must tell apart."""
        return {
            "prompt": self.prompt,
            "system": self.system,
            "values": self.values,
            "room": [self.growth, self.margin, self.min_text_tokens, self.max_text_tokens],
            "form": [self.form.choices, self.form.schema] if self.form else None,
        }


def _filled(template: str, values: Mapping[str, str]) -> str:
    """Return a template with values for its names, all in one go: what a value says is never looked at again."""
    lines = []
    for parts, names in _parsed(template):
        known = [values[name] for name in names if name in values]
        if known and not any(known):
            continue
        said = list(parts)
        said[1::2] = known if len(known) == len(names) else [values.get(name, f"{{{name}}}") for name in names]
        lines.append("".join(said))
    return "\n".join(lines).strip("\n")


@lru_cache(_TEMPLATES_KEPT)
def _parsed(template: str) -> tuple[tuple[list[str], list[str]], ...]:
    """Return a template's lines, each as the texts between names in braces and these by turns, and the names alone."""
    return tuple((parts, parts[1::2]) for parts in (_FIELD.split(line) for line in template.split("\n")))


def placeholders(template: str) -> list[str]:
    """Return the names in braces that a template has, of those that a task may give values to."""
    return _NAMED.findall(template)


def field_names(template: str) -> list[str]:
    """Return the names in braces that a template has, of those that fields of records may have."""
    return _FIELD.findall(template)


def task_of_prompt(prompt: str, system: str | None = None) -> Task:
    """Return the task that asks `prompt` of each segment.

    Raises:
        UsageError: the prompt is blank, or a brace of {text} is missing.
    """
    if not prompt.strip():
        raise UsageError("the prompt is empty; say what to do with the text")
    half = _HALF.search(prompt) if "{" in prompt else _UNOPENED.search(prompt)
    if half and PLACEHOLDER not in prompt:
        raise UsageError(f"the prompt says {half[0]!r} where it should say {PLACEHOLDER}")
    return Task("run", prompt, system)
