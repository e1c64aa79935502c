"""Front matter, the lines above a document that say what it is (YAML or TOML): where it ends, which values are prose.

Only values that stand on the line of their key are looked at; all else is copied, so that no parser is needed.
"""

from __future__ import annotations

import json
import re
from collections.abc import Iterator
from typing import Literal

from llmpar.documents.document import INLINE, Segment
from llmpar.documents.formats.protocol import Piece
from llmpar.documents.formats.text import TextFormat
from llmpar.documents.layout import NEWLINE, fill

_FENCE = re.compile(r"(---|\+\+\+)[ \t]*(?:\r\n|\n|\r)(?=[\w\"'#-].*[:=#])")
_VALUE = re.compile(
    r"(?:title|description|summary)[ \t]*[:=][ \t]*"
    r"(?P<value>\"(?:[^\"\\]|\\.)*\"|'(?:[^']|'')*'|[^\s\"'|>&*!%@`\[{#].*?)[ \t]*(?:[ \t]#.*)?",
    re.IGNORECASE,
)
# What a plain value of YAML may be without quotation marks, whatever follows: words.
_BARE = re.compile(r"[^\W\d_][^:#\n\"'\[\]{},&*!|>%@`]*")
_NO_TEXT = re.compile(r"(?:true|false|yes|no|on|off|null)", re.IGNORECASE)


def end_of_front_matter(text: str) -> int:
    """Return where a document's front matter ends, behind its last line; 0 if it has none."""
    opening = _FENCE.match(text)
    if opening is None:
        return 0
    closing = re.compile(rf"(?:{re.escape(opening[1])}|\.\.\.)[ \t]*(?:\r\n|\n|\r|\Z)")
    at = opening.end()
    while at < len(text):
        if found := closing.match(text, at):
            return found.end()
        newline = NEWLINE.search(text, at)
        at = newline.end() if newline else len(text)
    return 0


def front_matter_pieces(text: str, end: int) -> Iterator[Piece]:
    """Yield the title, the description and the summary of a document whose front matter ends at a place."""
    at = 0
    while at < end:
        newline = NEWLINE.search(text, at)
        stop = newline.start() if newline else end
        if (found := _VALUE.fullmatch(text, at, stop)) and any(char.isalpha() for char in found["value"]):
            said = _said(found["value"])
            if said is not None and said.strip():
                place = found.span("value")
                yield Piece(*place, " ".join(said.split()), INLINE, place, writing=_WRITING)
        at = newline.end() if newline else end


class FrontMatterValue(TextFormat):
    """Writes answers as values: as their sources are written where that says the same, else in double quotes."""

    def write(self, segment: Segment, answer: str, column: int) -> str:  # noqa: ARG002 (values are not wrapped)
        """Return an answer as a value."""
        source = segment.source
        answer = fill(answer, INLINE)
        if answer == segment.text:
            return source
        if source[0] == "'" and answer.isprintable() and "'" not in answer:
            return f"'{answer}'"
        if source[0] not in "\"'" and _BARE.fullmatch(answer) and not _NO_TEXT.fullmatch(answer):
            return answer
        return json.dumps(answer, ensure_ascii=False)

    def write_failure(self, segment: Segment, reason: str, fate: Literal["mark", "skip"]) -> str:
        """Return a mark and the source as a value, or an empty one."""
        return self.write(segment, f"[llmpar: {reason}] {segment.text}" if fate == "mark" else "", 0)


_WRITING = FrontMatterValue()


def _said(value: str) -> str | None:
    """Return what a value says; None if it is more than a simple text."""
    if value[0] == '"':
        try:
            said = json.loads(value, strict=False)
        except ValueError:  # an escape that JSON does not know
            return None
        return said if isinstance(said, str) else None
    return value[1:-1].replace("''", "'") if value[0] == "'" else value
