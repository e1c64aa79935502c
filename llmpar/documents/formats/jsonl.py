"""JSON lines: each line is an object, and the texts in some of its fields are asked about; all else is copied.

A line that is no such object, and a field that is not there, fail by themselves and are named by their line.
"""

from __future__ import annotations

import json
import re
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from json.decoder import scanstring  # type: ignore[attr-defined]
from typing import ClassVar, Literal

from llmpar.documents.document import Block, Layout, Record, Segment
from llmpar.documents.formats.inline import marked_fields
from llmpar.documents.formats.json_place import escaped, parse_place, place_of, written
from llmpar.documents.formats.json_text import (
    Node,
    Step,
    expect,
    is_exact,
    losses,
    names_fields,
    parse,
    parse_path,
    select,
    skip,
)
from llmpar.documents.formats.protocol import About, Piece
from llmpar.documents.formats.text import TextFormat
from llmpar.documents.layout import NEWLINE
from llmpar.documents.marks import restored
from llmpar.documents.reader import Portion
from llmpar.errors import UsageError, setting
from llmpar.visible import json_text, no_json, one_line

FIELDS = ("text", "message", "content", "body", "prompt")
"""The fields that hold a record's text, unless the user names another: the first of them that is there."""

_STRING = Layout(newline="")
_NOTHING = ("", "")
_SHOWN = 200  # characters of a record that is damaged or too long to be held, by which it is known
_PLAIN_NAME = re.compile(r"[^.\[\]$*]+")

_decode = json.JSONDecoder().raw_decode


class JsonLines(TextFormat):
    """Records of JSON, a line each. What a piece is does not depend on the unit."""

    about: ClassVar[About] = About(
        "strings in the fields that are named",
        "all else",
        "a line that is no record, and a field that is null or missing, fail by themselves",
        "read here with the scanner of Python's json",
    )

    @property
    def portion(self) -> Portion:
        """Return "record": no line is cut that can be held."""
        return "record"

    @property
    def not_below(self) -> str:
        """Return why no answer can stand on a line of its own."""
        return f"would make no JSON lines of it; use {setting('merge', 'jsonl')}"

    def pieces(self) -> Callable[[Block], Iterator[Piece]]:
        """Return what yields the texts of each record; of what is none, a piece says why.

        Raises:
            UsageError: a field's path is none, or there are several texts for one place.
        """
        fields = _Fields.named(self.reading.options.field, self.reading.options.into)
        return lambda block: marked_fields(_pieces(block, fields), self.reading)

    def write(self, segment: Segment, answer: str, column: int) -> str:  # noqa: ARG002 (JSON has no layout)
        """Return the answer as a string of JSON, or as what it says if it is JSON for a field of its own."""
        return written(
            restored(answer, segment.marks), is_json=self.reading.is_json and self.reading.options.into is not None
        )

    def write_failure(self, segment: Segment, reason: str, fate: Literal["mark", "skip"]) -> str:
        """Return a mark and the text as a string of JSON, or an empty string.

        A line that is no record has no place for a mark, and what is missing has none either.
        """
        if segment.target is not None and (segment.fault is not None or fate == "skip"):
            if segment.fault is None:  # a field of its own that is not there stays away
                return "null" if segment.target[0] < segment.target[1] else ""
            return segment.block.text[slice(*segment.target)] if fate == "mark" else ""
        said = f"[llmpar: {reason}] {restored(segment.text, segment.marks)}"
        return json_text(said if fate == "mark" else "")

    def spell(self, char: str) -> str:
        """Return a character as JSON escapes it, which may stand in strings alone."""
        return escaped(char)

    def record(self, segment: Segment) -> str:
        """Return the whole object that a segment's text is a field of, as it is written; "" where there is none."""
        return segment.block.text[segment.record.start : segment.record.end] if segment.record else ""


@dataclass(frozen=True, slots=True)
class _Fields:
    """Which fields are asked about: their names and, for those that are paths, the steps; and where answers go."""

    names: tuple[str, ...]
    paths: dict[str, tuple[Step, ...]]
    into: tuple[Step, ...] | None

    @staticmethod
    def named(given: Sequence[str] | None, into: str | None) -> _Fields:
        names = tuple(dict.fromkeys(given or ()))
        if into is not None and len(names) > 1:
            raise UsageError(f"{setting('into')} takes the answers to one field; name one with {setting('field')}")
        paths = {name: parse_path(name) for name in names if not _PLAIN_NAME.fullmatch(name)}
        return _Fields(names, paths, None if into is None else parse_place(into))


def _pieces(block: Block, fields: _Fields) -> Iterator[Piece]:
    if block.part == "beginning":  # nobody can be asked about it, as it is too long to be held
        yield Piece(0, len(block.text), block.text.lstrip()[:_SHOWN], _STRING, fault=too_long(block))
    if block.part:
        return
    start = 0
    for newline in [*NEWLINE.finditer(block.text), None]:
        end = newline.start() if newline else len(block.text)
        line = block.text[start:end]
        if line.strip():
            yield from _record(line, start, fields)
        start = newline.end() if newline else end


def _record(line: str, start: int, fields: _Fields) -> Iterator[Piece]:
    """Yield where the texts of a line's record stand in their block, with their quotes, and what they say, stripped."""
    first = start + skip(line, 0)
    last = start + len(line.rstrip())
    try:
        found = _Record.read(line)
        nodes, faults = found.chosen(fields)
        place = None
        if fields.into is not None:
            if len(nodes) > 1:
                raise ValueError(f"has {len(nodes)} texts, and {setting('into')} takes one answer")  # noqa: TRY301
            place = place_of(parse(line), line, fields.into)
    except (ValueError, RecursionError) as error:
        fault = f"the line {_reason(error)}"
        yield Piece(first, last, line.strip()[:_SHOWN], _STRING, (first, last), fault)
        return
    record = Record(first, last)
    target = around = None
    if place is not None:
        target, around = (start + place.start, start + place.end), place.around
    for name, node in nodes:
        begin, end = start + node.start, start + node.end
        if isinstance(node.value, str):
            yield Piece(begin, end, node.value.strip(), _STRING, target, None, around or _NOTHING, record=record)
        else:
            fault = f"field {one_line(name)!r} is no string{found.remedy}"
            elsewhere = None if target is None else (last, last)
            yield Piece(begin, end, line[node.start : node.end], _STRING, elsewhere, fault, record=record)
    for name in faults:
        fault = f"field {one_line(name)!r} is missing{found.remedy}"
        yield Piece(first, last, line.strip()[:_SHOWN], _STRING, (last, last), fault, record=record)


@dataclass(frozen=True, slots=True)
class _Record:
    """An object of JSON and where its members stand in its line. What is inside of members has no places yet."""

    line: str
    members: dict[str, Node]

    @staticmethod
    def read(line: str) -> _Record:
        """Return a line's record; ValueError says what is wrong."""
        at = skip(line, 0)
        if not line.startswith("{", at):
            raise ValueError("is no JSON object; each line must be one")
        members: dict[str, Node] = {}
        at = skip(line, at + 1)
        while not line.startswith("}", at):
            if members:
                at = skip(line, expect(line, at, ","))
            name, at = scanstring(line, expect(line, at, '"'))
            start = skip(line, expect(line, skip(line, at), ":"))
            value, end = _decode(line, start)
            if name in members:
                raise ValueError(f"has {one_line(name)!r} twice; which one is meant?")
            members[name] = Node(start, end, value if not isinstance(value, (dict, list)) else {})
            at = skip(line, end)
        if line[at + 1 :].strip():
            raise ValueError("goes on after its object; each line must be one")
        return _Record(line, members)

    def chosen(self, fields: _Fields) -> tuple[list[tuple[str, Node]], list[str]]:
        """Return the values to be asked about, in the order of their places, and the names of what is missing.

        Each value comes with the name or path by which the user meant it.
        """
        names = fields.names or (next((name for name in FIELDS if name in self.members), FIELDS[0]),)
        found: dict[int, tuple[str, Node]] = {}
        missing: list[str] = []
        tree = None
        for name in names:
            if name in self.members or name not in fields.paths:
                nodes = [self.members[name]] if name in self.members else []
            else:
                tree = tree or parse(self.line)
                nodes = list(select(tree, fields.paths[name]))
                if names_fields(fields.paths[name]) and not is_exact(fields.paths[name]):
                    for node, is_there in losses(tree, fields.paths[name]):
                        if is_there:
                            found[node.start] = name, node
                        else:
                            missing.append(name)
            exact = name not in fields.paths or is_exact(fields.paths[name])
            if exact and not nodes:
                missing.append(name)
            found.update((node.start, (name, node)) for node in nodes if exact or isinstance(node.value, str))
        return [found[start] for start in sorted(found)], missing

    @property
    def remedy(self) -> str:
        """Which fields have a text, as the end of a message."""
        there = ", ".join(one_line(name) for name, node in self.members.items() if isinstance(node.value, str))
        return f"; name another with {setting('field')} ({there or 'there is none'})"


def too_long(block: Block) -> str:
    """Return why nobody can be asked about the record that a block is the beginning of."""
    return (
        f"the line is longer than the {len(block.text):,} characters that are held of one; "
        f"a larger {setting('max_memory')} takes it"
    )


def _reason(error: ValueError | RecursionError) -> str:
    if isinstance(error, RecursionError):
        return "is nested too deeply"
    if isinstance(error, json.JSONDecodeError):
        return no_json(error)
    return str(error)
