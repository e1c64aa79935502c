"""A document of JSON: the texts that paths name are asked about; all else, and every space, is copied."""

from __future__ import annotations

import json
from bisect import bisect_right
from collections.abc import Callable, Iterator
from typing import ClassVar, Literal

from llmpar.documents.document import Block, Layout, Record, Segment
from llmpar.documents.formats.inline import marked_fields
from llmpar.documents.formats.json_place import escaped, parse_place, place_of, written
from llmpar.documents.formats.json_text import (
    Node,
    Step,
    is_exact,
    losses,
    names_fields,
    parse,
    parse_path,
    select,
)
from llmpar.documents.formats.protocol import About, Piece
from llmpar.documents.formats.text import TextFormat
from llmpar.documents.marks import restored
from llmpar.documents.reader import Portion
from llmpar.errors import InputError, UsageError, setting
from llmpar.visible import json_text, no_json, one_line

_STRING = Layout(newline="")
_SHOWN = 200  # characters of what has no text, by which it is known


class JsonDocument(TextFormat):
    """One value of JSON. What a piece is does not depend on the unit: it is one text."""

    about: ClassVar[About] = About(
        "strings at the paths that are named",
        "all else",
        "what is null or missing fails by itself; a record is an element of an outermost list, else the document",
        "read here with the scanner of Python's json",
    )

    @property
    def portion(self) -> Portion:
        """Return "document": what is damaged at its end must be known before anything is written."""
        return "document"

    @property
    def not_below(self) -> str:
        """Return why no answer can stand on a line of its own."""
        return "would make no JSON of it"

    def pieces(self) -> Callable[[Block], Iterator[Piece]]:
        """Return what yields the texts that the user's paths name.

        Raises:
            UsageError: a path is none; (what is returned) the user names none.
            InputError: (what is returned) it is no JSON.
        """
        given = self.reading.options.field or ()
        paths = {path: parse_path(path) for path in given}
        into = None if self.reading.options.into is None else parse_place(self.reading.options.into)

        def pieces(block: Block) -> Iterator[Piece]:
            text = block.text
            if not text.strip():
                return
            shown = one_line(block.document.name)
            if not given:
                raise UsageError(
                    f"{shown}: is JSON; name the texts that are asked about with {setting('field', 'PATH')}, which may "
                    "be given several times; '$..*' takes all strings"
                )
            try:
                tree = parse(text)
            except json.JSONDecodeError as error:
                raise InputError(f"{shown}:{error.lineno}: {no_json(error)}") from error
            except (ValueError, RecursionError) as error:
                raise InputError(f"{shown}: is no JSON: {error}") from error
            found: dict[int, Node] = {}
            lost: list[Piece] = []
            records = _Records(tree)
            for path, steps in paths.items():
                nodes = list(select(tree, steps))
                found.update((node.start, node) for node in nodes if isinstance(node.value, str))
                if is_exact(steps) and nodes and isinstance(tree.value, dict):
                    records.add(nodes[0], tree)
                if names_fields(steps):
                    lost += _lost(path, steps, tree, text, is_in_place=into is None)
            asked = [found[start] for start in sorted(found) if str(found[start].value).strip()]
            placed = marked_fields(_placed(asked, records, into, text, shown), self.reading)
            yield from sorted([*placed, *lost], key=lambda piece: piece.target or (piece.start, piece.end))

        return pieces

    def write(self, segment: Segment, answer: str, column: int) -> str:  # noqa: ARG002 (JSON has no layout)
        """Return the answer as a string of JSON, with the white space at the source's ends where it takes its place.

        One that is JSON and goes into a field of its own is written as what it says.
        """
        if segment.target is not None:
            return written(restored(answer, segment.marks), is_json=self.reading.is_json)
        value = json.loads(segment.source, strict=False)
        stripped = value.strip()
        before, after = value[: value.index(stripped)], value[value.index(stripped) + len(stripped) :]
        return json_text(before + restored(answer.strip(), segment.marks) + after)

    def write_failure(self, segment: Segment, reason: str, fate: Literal["mark", "skip"]) -> str:
        """Return a mark and the text as a string of JSON, or what says nothing; what is missing has no place for it."""
        if segment.fault is not None and segment.target is not None:
            return ""
        if fate == "skip" and segment.target is not None:  # a field of its own that is not there stays away
            return "null" if segment.target[0] < segment.target[1] else ""
        said = f"[llmpar: {reason}] {restored(segment.text, segment.marks)}"
        return json_text(said if fate == "mark" else "")

    def spell(self, char: str) -> str:
        """Return a character as JSON escapes it, which may stand in strings alone."""
        return escaped(char)

    def record(self, segment: Segment) -> str:
        """Return the record that a segment's text is a field of, on one line; "" where there is none."""
        if segment.record is None:
            return ""
        return json_text(json.loads(segment.block.text[segment.record.start : segment.record.end], strict=False))


class _Records:
    """The records of a document: the objects in its outermost lists.

    Args:
        tree: the document.
    """

    def __init__(self, tree: Node) -> None:
        self._nodes: list[Node] = []
        waiting = [tree]
        while waiting:
            node = waiting.pop()
            if isinstance(node.value, dict):
                waiting += reversed(node.value.values())
            elif isinstance(node.value, list):
                self._nodes += [element for element in node.value if isinstance(element.value, dict)]
        self._starts = [node.start for node in self._nodes]
        self._others: dict[int, Node] = {}

    def add(self, node: Node, record: Node) -> None:
        """Let a value that stands in no list have a record, too."""
        self._others[node.start] = record

    def of(self, node: Node) -> Node | None:
        """Return the record that a value is in, None for none."""
        number = bisect_right(self._starts, node.start) - 1
        if number >= 0 and node.end <= self._nodes[number].end:
            return self._nodes[number]
        return self._others.get(node.start)


def _lost(path: str, steps: tuple[Step, ...], tree: Node, text: str, *, is_in_place: bool) -> Iterator[Piece]:
    """Yield pieces that say what a path misses: a string in the place of a value, or a field in an object."""
    named = f"what is named with {setting('field', one_line(path))}"
    for node, is_there in losses(tree, steps):
        fault = f"{named} is {'no string' if is_there else 'missing'}"
        target = None if is_there and is_in_place else (node.end, node.end)
        yield Piece(node.start, node.end, text[node.start : node.end][:_SHOWN], _STRING, target, fault)


def _placed(
    asked: list[Node], records: _Records, into: tuple[Step, ...] | None, text: str, shown: str
) -> Iterator[Piece]:
    """Yield the pieces of a document, each with its record and the place of its answer."""
    last: Node | None = None
    for node in asked:
        record = records.of(node)
        within = None if record is None else Record(record.start, record.end)
        said = str(node.value).strip()
        if into is None:
            yield Piece(node.start, node.end, said, _STRING, record=within)
            continue
        if record is None or record is last:
            reason = "stands in no record" if record is None else "is the second one in its record"
            raise UsageError(
                f"{shown}: {setting('into')} takes one answer a record, and the text {said[:40]!r} {reason}"
            )
        last = record
        try:
            place = place_of(record, text, into)
        except ValueError as error:
            raise UsageError(f"{shown}: the record of the text {said[:40]!r} {error}") from error
        yield Piece(node.start, node.end, said, _STRING, (place.start, place.end), None, place.around, record=within)
