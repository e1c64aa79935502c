"""JSON lines: each line is an object, and the text in one of its fields is what is asked about; all else is copied."""

from __future__ import annotations

import json
import re
from collections.abc import Callable, Iterator
from json.decoder import scanstring  # type: ignore[attr-defined]
from typing import Any, Literal

from llmpar.documents.document import Block, Layout, Segment
from llmpar.documents.formats.protocol import Piece
from llmpar.documents.formats.text import TextFormat
from llmpar.documents.layout import NEWLINE
from llmpar.documents.reader import Portion
from llmpar.errors import InputError, setting
from llmpar.visible import json_text, one_line

FIELDS = ("text", "message", "content", "body", "prompt")
"""The fields that hold a record's text, unless the user names another: the first of them that is there."""

_STRING = Layout(newline="")
_SHOWN = 200  # characters of a record that is too long to be held, by which it is known

_SPACE = re.compile(r"[ \t\r\n]*")
_decode = json.JSONDecoder().raw_decode


class JsonLines(TextFormat):
    """Records of JSON, a line each. What a piece is does not depend on the unit."""

    @property
    def portion(self) -> Portion:
        """Return "record": no line is cut that can be held."""
        return "record"

    @property
    def not_below(self) -> str:
        """Return why no answer can stand on a line of its own."""
        return f"would make no JSON lines of it; use {setting('merge', 'jsonl')}"

    def pieces(self) -> Callable[[Block], Iterator[Piece]]:
        """Return what yields the text of each record.

        Raises:
            InputError: (what is returned) a line is no JSON object, has one name twice, or no text in the field.
        """
        return self._pieces

    def write(self, segment: Segment, answer: str, column: int) -> str:  # noqa: ARG002 (JSON has no layout)
        """Return the answer as a string of JSON."""
        return json_text(answer)

    def write_failure(self, segment: Segment, reason: str, fate: Literal["mark", "skip"]) -> str:
        """Return a mark and the text as a string of JSON, or an empty string."""
        return json_text(f"[llmpar: {reason}] {segment.text}" if fate == "mark" else "")

    def record(self, segment: Segment) -> str:
        """Return the whole object that a segment's text is a field of, as it is written."""
        if segment.fault:
            return ""
        text = segment.block.text
        start = max(text.rfind("\n", 0, segment.start), text.rfind("\r", 0, segment.start)) + 1
        newline = NEWLINE.search(text, segment.end)
        return text[start : newline.start() if newline else len(text)].strip()

    def _pieces(self, block: Block) -> Iterator[Piece]:
        if not block.part:
            yield from _records(block, self.reading.options.field)
        elif block.part == "beginning":  # nobody can be asked about it, as it is too long to be held
            yield Piece(0, len(block.text), block.text.lstrip()[:_SHOWN], _STRING, fault=too_long(block))


def _records(block: Block, field: str | None) -> Iterator[Piece]:
    """Yield where the text of each line's record stands in its block, with its quotes, and what it says, stripped."""
    start = 0
    number = 1 + block.line
    for newline in [*NEWLINE.finditer(block.text), None]:
        end = newline.start() if newline else len(block.text)
        if block.text[start:end].strip():
            try:
                first, last, value = _find(block.text[start:end], field)
            except (ValueError, RecursionError) as error:
                raise InputError(f"{one_line(block.document.name)}:{number}: {_reason(error)}") from error
            yield Piece(start + first, start + last, value.strip(), _STRING)
        start = newline.end() if newline else end
        number += 1


def too_long(block: Block) -> str:
    """Return why nobody can be asked about the record that a block is the beginning of."""
    return (
        f"line {1 + block.line} is longer than the {len(block.text):,} characters that are held of one; "
        f"a larger {setting('max_memory')} takes it"
    )


def _find(line: str, field: str | None) -> tuple[int, int, str]:
    """Return start and end of the field's string in a line, and its value; ValueError says what is wrong."""
    places: dict[str, tuple[int, int, Any]] = {}
    at = _skip(line, 0)
    if not line.startswith("{", at):
        raise ValueError("is no JSON object; each line must be one")
    at = _skip(line, at + 1)
    while not line.startswith("}", at):
        if places:
            at = _skip(line, _expect(line, at, ","))
        name, at = scanstring(line, _expect(line, at, '"'))
        start = _skip(line, _expect(line, _skip(line, at), ":"))
        value, end = _decode(line, start)
        if name in places:
            raise ValueError(f"has {one_line(name)!r} twice; which one is meant?")
        places[name] = start, end, value
        at = _skip(line, end)
    if line[at + 1 :].strip():
        raise ValueError("goes on after its object; each line must be one")
    name = field if field is not None else next((name for name in FIELDS if name in places), FIELDS[0])
    if name not in places or not isinstance(places[name][2], str):
        there = ", ".join(one_line(name) for name, (*_, value) in places.items() if isinstance(value, str))
        reason = "is no string" if name in places else "is missing"
        remedy = f"name another with {setting('field')} ({there or 'there is none'})"
        raise ValueError(f"field {one_line(name)!r} {reason}; {remedy}")
    return places[name]


def _skip(line: str, at: int) -> int:
    space = _SPACE.match(line, at)
    assert space is not None
    return space.end()


def _expect(line: str, at: int, sign: str) -> int:
    if not line.startswith(sign, at):
        raise ValueError(f"is no JSON: {sign} expected at column {at + 1}")
    return at + 1


def _reason(error: ValueError | RecursionError) -> str:
    if isinstance(error, RecursionError):
        return "is nested too deeply"
    if isinstance(error, json.JSONDecodeError):
        return f"is no JSON: {error.msg} at column {error.pos + 1}"
    return str(error)
