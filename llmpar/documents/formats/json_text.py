"""JSON with positions: where each value stands in its text, and the values that a path names.

The standard library's scanner reads strings and numbers; it tells no positions of what is inside an object, so that
objects and arrays are taken apart here. (Of the kept libraries, ijson and msgspec tell none either.)
"""

from __future__ import annotations

import json
import re
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from json.decoder import scanstring  # type: ignore[attr-defined]
from typing import Literal

from llmpar.errors import UsageError, setting
from llmpar.visible import one_line

_DEEPEST = 200  # objects and arrays in each other; each costs two frames of Python's stack
_SPACE = re.compile(r"[ \t\r\n]*")
_decode = json.JSONDecoder().raw_decode

Scalar = str | int | float | bool | None


@dataclass(frozen=True, slots=True)
class Node:
    """A value: the characters `start` to `end` of its text, quotes and brackets included, and what it says."""

    start: int
    end: int
    value: Scalar | dict[str, Node] | list[Node]


@dataclass(frozen=True, slots=True)
class Step:
    """One step of a path.

    Args:
        kind: "name" for a field of an object; "index" for an element; "all" for all fields or elements; "deep" for the
            fields of this name, at any depth.
        key: the name or the element's number, from the end if negative; "*" with "deep" for all strings.
    """

    kind: Literal["name", "index", "all", "deep"]
    key: str | int = ""


_STEP = re.compile(
    r"""\.\.(?P<deep>\*|[^.\[\]]+)|(?P<all>\.\*|\[\*\])|\.?\[(?P<index>-?\d+)\]"""
    r"""|\[(?:'(?P<single>[^']*)'|"(?P<double>[^"]*)")\]|\.?(?P<name>[^.\[\]]+)"""
)


def parse_path(path: str) -> tuple[Step, ...]:
    """Return the steps of a path such as `review.body`, `messages[-1].content`, `items[*].name`, `$..text`.

    Raises:
        UsageError: it is none.
    """
    steps: list[Step] = []
    at = 1 if path.startswith("$") else 0
    while at < len(path):
        match = _STEP.match(path, at)
        if match is None or (steps and match["name"] and path[at] != "."):
            raise UsageError(
                f"{setting('field', one_line(path))}: is no path; write review.body, messages[-1].content or '$..text'"
            )
        kind = match.lastgroup
        if kind == "deep":
            steps.append(Step("deep", match["deep"]))
        elif kind == "all":
            steps.append(Step("all"))
        elif kind == "index":
            steps.append(Step("index", int(match["index"])))
        else:
            steps.append(Step("name", match[kind or "name"]))
        at = match.end()
    if not steps:
        raise UsageError(f"{setting('field', one_line(path))}: names nothing; '$..*' takes all strings")
    return tuple(steps)


def is_exact(steps: Sequence[Step]) -> bool:
    """Tell whether a path names one value, which is missing where it is not found."""
    return all(step.kind in ("name", "index") for step in steps)


def select(node: Node, steps: Sequence[Step]) -> Iterator[Node]:
    """Yield the values that a path names, in the order of their places."""
    if not steps:
        yield node
        return
    step, rest = steps[0], steps[1:]
    inner = node.value
    if step.kind == "deep":
        for child in _children(node):
            if step.key == "*":
                if isinstance(child.value, str):
                    yield from select(child, rest)
            elif isinstance(inner, dict) and inner.get(str(step.key)) is child:
                yield from select(child, rest)
            yield from select(child, steps)
    elif step.kind == "all":
        for child in _children(node):
            yield from select(child, rest)
    elif step.kind == "name" and isinstance(inner, dict) and step.key in inner:
        yield from select(inner[str(step.key)], rest)
    elif step.kind == "index" and isinstance(inner, list):
        number = int(step.key)
        if -len(inner) <= number < len(inner):
            yield from select(inner[number], rest)


def losses(node: Node, steps: Sequence[Step]) -> Iterator[tuple[Node, bool]]:
    """Yield what a path misses that ends in a name or a number, and looks at no depth: see `names_fields`.

    Yields:
        A value that is no string where one is named, and True; or one that lacks what is named in it, and False.
    """
    if not steps:
        if not isinstance(node.value, str):
            yield node, True
        return
    step, rest = steps[0], steps[1:]
    if step.kind == "all" and isinstance(node.value, (dict, list)):
        for child in _children(node):
            yield from losses(child, rest)
        return
    found = next(select(node, (step,)), None)
    if found is None:
        yield node, False
    else:
        yield from losses(found, rest)


def names_fields(steps: Sequence[Step]) -> bool:
    """Tell whether what a path names is missing where it is not found: one field of a value, or of each of several."""
    return all(step.kind != "deep" for step in steps) and steps[-1].kind != "all"


def _children(node: Node) -> Iterator[Node]:
    if isinstance(node.value, dict):
        yield from node.value.values()
    elif isinstance(node.value, list):
        yield from node.value


def parse(text: str) -> Node:
    """Return what a text of JSON says, with places.

    Raises:
        ValueError: it is no JSON, or has a name twice in one object. A JSONDecodeError has the place.
    """
    node = _value(text, skip(text, 0), 0)
    if at := text[node.end :].strip():
        raise json.JSONDecodeError("Extra data", text, text.index(at, node.end))
    return node


def skip(text: str, at: int) -> int:
    """Return where the white space ends that begins at a place."""
    space = _SPACE.match(text, at)
    assert space is not None
    return space.end()


def expect(text: str, at: int, sign: str) -> int:
    """Return the place behind a sign; raise JSONDecodeError if it is not there."""
    if not text.startswith(sign, at):
        raise json.JSONDecodeError(f"{sign!r} is missing", text, at)
    return at + 1


def _value(text: str, at: int, depth: int) -> Node:
    if depth > _DEEPEST:
        raise json.JSONDecodeError("nested too deeply", text, at)
    if text.startswith("{", at):
        return _object(text, at, depth)
    if text.startswith("[", at):
        return _array(text, at, depth)
    value, end = _decode(text, at)
    return Node(at, end, value)


def _object(text: str, start: int, depth: int) -> Node:
    members: dict[str, Node] = {}
    at = skip(text, start + 1)
    while not text.startswith("}", at):
        if members:
            at = skip(text, expect(text, at, ","))
        begin = at
        name, at = scanstring(text, expect(text, at, '"'))
        member = _value(text, skip(text, expect(text, skip(text, at), ":")), depth + 1)
        if name in members:
            raise json.JSONDecodeError(f"{one_line(name)!r} is there twice", text, begin)
        members[name] = member
        at = skip(text, member.end)
    return Node(start, at + 1, members)


def _array(text: str, start: int, depth: int) -> Node:
    elements: list[Node] = []
    at = skip(text, start + 1)
    while not text.startswith("]", at):
        if elements:
            at = skip(text, expect(text, at, ","))
        elements.append(_value(text, at, depth + 1))
        at = skip(text, elements[-1].end)
    return Node(start, at + 1, elements)
