"""Where an answer goes in a record of JSON: the value of a field that is there, or a new field at its object's end."""

from __future__ import annotations

import json
import re
from collections.abc import Sequence
from dataclasses import dataclass

from llmpar.documents.formats.json_text import Node, Step, is_exact, parse_path
from llmpar.errors import UsageError, setting
from llmpar.visible import json_text, one_line

_BETWEEN = re.compile(r"\s*,(\s*)")
_SPACE = re.compile(r"\s*")


@dataclass(frozen=True, slots=True)
class Place:
    """The characters `start` to `end` of a text that an answer replaces, and what is written on either side of it."""

    start: int
    end: int
    around: tuple[str, str] = ("", "")


def parse_place(path: str) -> tuple[Step, ...]:
    """Return the steps of a path to one field, such as `review.answer`.

    Raises:
        UsageError: it is no path, or names several fields.
    """
    steps = parse_path(path)
    if not is_exact(steps) or steps[-1].kind != "name":
        raise UsageError(f"{setting('into', one_line(path))}: name one field, such as answer or review.answer")
    return steps


def place_of(root: Node, text: str, steps: Sequence[Step]) -> Place:
    """Return where an answer goes in a record. Objects that a path names, and that are not there, are made.

    Args:
        root: the record.
        text: what its places are places of.
        steps: of the path (`parse_place`).

    Raises:
        ValueError: there is no such place, as what it would be in is no object; its words end a sentence.
    """
    node = root
    for number, step in enumerate(steps):
        child: Node | None = None
        if step.kind == "index" and isinstance(node.value, list):
            index = int(step.key)
            child = node.value[index] if -len(node.value) <= index < len(node.value) else None
        elif step.kind == "name" and isinstance(node.value, dict):
            child = node.value.get(str(step.key))
            if child is None and all(further.kind == "name" for further in steps[number:]):
                return _new(node, node.value, text, [str(further.key) for further in steps[number:]])
        if child is None:
            raise ValueError(f"has no place for {setting('into')}: what it names is in no object")
        node = child
    return Place(node.start, node.end)


def value_at(value: object, steps: Sequence[Step]) -> object:
    """Return what a path of names and numbers leads to in a value of JSON; raise LookupError where nothing is."""
    for step in steps:
        if step.kind == "name" and isinstance(value, dict):
            value = value[step.key]
        elif step.kind == "index" and isinstance(value, list):
            value = value[int(step.key)]
        else:
            raise LookupError(step.key)
    return value


def written(answer: str, *, is_json: bool) -> str:
    """Return an answer as a value of JSON on one line: as a string, unless it is JSON itself."""
    if is_json:
        try:
            return json_text(json.loads(answer))
        except ValueError:  # nobody held it to its form, as in an echo
            pass
    return json_text(answer)


def escaped(char: str) -> str:
    """Return a character as a string of JSON can hold it in ASCII."""
    return json.dumps(char)[1:-1]


def _new(node: Node, members: dict[str, Node], text: str, names: Sequence[str]) -> Place:
    """Return the place of a new field at the end of an object, spaced as its other fields are."""
    values = list(members.values())
    colon = ": " if not values or text[values[0].start - 1].isspace() else ":"
    before = "".join(f"{{{json_text(name)}{colon}" for name in names)[1:]
    after = "}" * (len(names) - 1)
    if not values:
        return Place(node.start + 1, node.start + 1, (before, after))
    first = _SPACE.match(text, node.start + 1)
    found = _BETWEEN.match(text, values[0].end) if len(values) > 1 else first
    assert found is not None
    space = found[1] if len(values) > 1 else found[0]
    if len(values) == 1 and "\n" not in space:
        space = colon[1:]
    return Place(values[-1].end, values[-1].end, (f",{space}{before}", after))
