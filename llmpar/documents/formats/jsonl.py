"""JSONL: one JSON object a line; the string in one of its fields is the text, all else is copied."""

from __future__ import annotations

import json
import re
from collections.abc import Iterator

from llmpar.documents.document import JsonString, Layout, Segment
from llmpar.documents.formats.plain import newline_of
from llmpar.documents.layout import NEWLINE
from llmpar.errors import InputError
from llmpar.visible import one_line

USUAL_FIELDS = ("text", "content", "message", "prompt")
"""Where the text is looked for when no field is named: the first of them that the document's first record has."""

_BLANK = re.compile(r"[ \t\r\n]*")


class Jsonl:
    """Finds the texts of a JSONL document, block after block, each of whole lines.

    Args:
        name: the document's, for messages.
        field: the field that holds the text in each record, None for one of `USUAL_FIELDS`.
    """

    def __init__(self, name: str, field: str | None = None) -> None:
        self._shown = one_line(name)
        self._field = field
        self._num_lines = 0  # before the block

    def strings(self, text: str) -> Iterator[tuple[int, int, str, Layout]]:
        """Yield for each record of a block the span of its field's JSON string, what it says, and its layout.

        A string of white space says nothing, and is copied.

        Raises:
            InputError: a line is no JSON object, or has no string in the field.
        """
        for number, (head, end) in enumerate(_lines(text), self._num_lines + 1):
            line = text[head:end]
            if not line.strip(" \t\r"):
                continue
            try:
                record, spans = _parse(line)
            except (ValueError, RecursionError) as error:
                reason = "nested too deeply" if isinstance(error, RecursionError) else error
                raise InputError(f"{self._shown}:{number}: not a JSON object: {reason}") from error
            if self._field is None:
                self._field = next((name for name in USUAL_FIELDS if name in record), USUAL_FIELDS[0])
            field = self._field
            value = record.get(field)
            if not isinstance(value, str):
                reason = "is no string" if field in record else "is missing"
                raise InputError(
                    f"{self._shown}:{number}: the field {one_line(field)!r} {reason}; every record needs one for its "
                    f"text, and --field NAME names another"
                )
            if content := value.strip():
                start, stop = spans[field]
                yield head + start, head + stop, NEWLINE.sub("\n", content), _layout(value, line[start:stop])
        self._num_lines += text.count("\n")


def record_of(segment: Segment) -> dict[str, object]:
    """Return the whole record of a segment of a JSONL document, as it was read."""
    text = segment.block.text
    head = text.rfind("\n", 0, segment.start) + 1
    end = text.find("\n", segment.end)
    return _parse(text[head : end if end >= 0 else len(text)])[0]


def _lines(text: str) -> Iterator[tuple[int, int]]:
    start = 0
    while start < len(text):
        end = text.find("\n", start)
        end = len(text) if end < 0 else end
        yield start, end
        start = end + 1


def _layout(value: str, token: str) -> Layout:
    margin = len(value) - len(value.lstrip())
    before, after = value[:margin], value[len(value.rstrip()) :]
    # Whoever escaped one letter escaped them all.
    return Layout(newline=newline_of(value), string=JsonString(before, after, token.isascii() and "\\u" in token))


def _parse(line: str) -> tuple[dict[str, object], dict[str, tuple[int, int]]]:
    """Return the object that a line is, and where the value of each of its own fields stands.

    Raises:
        ValueError: it is none, or names a field twice.
        RecursionError: it is nested too deeply.
    """
    record: dict[str, object] = {}
    spans: dict[str, tuple[int, int]] = {}
    at = _expect("{", line, 0)
    closed = line.startswith("}", at)
    while not closed:
        if not line.startswith('"', at):
            raise ValueError(f"a field's name is expected at column {at + 1}")
        name, at = _value(line, at)
        assert isinstance(name, str)
        if name in record:
            raise ValueError(_twice(name))
        start = _expect(":", line, at)
        record[name], at = _value(line, start)
        spans[name] = start, at
        at = _after_blank(line, at)
        closed = line.startswith("}", at)
        if not closed:
            at = _expect(",", line, at)
    if (at := _after_blank(line, at + 1)) < len(line):
        raise ValueError(f"there is more after it, at column {at + 1}")
    return record, spans


def _value(line: str, at: int) -> tuple[object, int]:
    try:
        return _DECODER.raw_decode(line, at)
    except json.JSONDecodeError as error:
        raise ValueError(f"{error.msg} at column {error.pos + 1}") from error


def _expect(sign: str, line: str, at: int) -> int:
    """Return where what follows a sign begins."""
    at = _after_blank(line, at)
    if not line.startswith(sign, at):
        raise ValueError(f"{sign!r} is expected at column {at + 1}")
    return _after_blank(line, at + 1)


def _after_blank(line: str, at: int) -> int:
    match = _BLANK.match(line, at)
    assert match is not None
    return match.end()


def _object(fields: list[tuple[str, object]]) -> dict[str, object]:
    record: dict[str, object] = {}
    for name, value in fields:
        if name in record:
            raise ValueError(_twice(name))
        record[name] = value
    return record


def _twice(name: str) -> str:
    return f"the field {one_line(name)!r} is there twice"


_DECODER = json.JSONDecoder(object_pairs_hook=_object)
