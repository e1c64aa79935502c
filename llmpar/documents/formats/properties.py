"""Java's properties (.properties): values are prose; keys, comments and all between them are copied.

The kept library (javaproperties, MIT) tells no places of values, so that the lines are read here, after Java's
documentation of `Properties.load`.
"""

from __future__ import annotations

import re
from typing import ClassVar, Literal

from llmpar.documents.document import Layout, Segment
from llmpar.documents.formats.cues import Line, lines_of
from llmpar.documents.formats.inline import marked_piece
from llmpar.documents.formats.protocol import About, Piece
from llmpar.documents.formats.whole import Damage, WholeFormat
from llmpar.documents.marks import restored

_KEY = re.compile(r"[ \t\f]*(?:[^\s\\=:]|\\.)*[ \t\f]*[=:]?[ \t\f]*")
_CONTINUES = re.compile(r"(?<!\\)(?:\\\\)*\\\Z")
_ESCAPE = re.compile(r"\\(?:u([0-9A-Fa-f]{4})|(u)|([^u]))|\\\Z")
_SIGNS = {"t": "\t", "n": "\n", "r": "\r", "f": "\f"}
_SPELLED = {"\\": "\\\\", "\n": "\\n", "\t": "\\t", "\r": "\\r", "\f": "\\f"}
_VALUE = Layout(newline="\n")


class Properties(WholeFormat):
    """Keys and values. A value that goes on over several lines is one piece."""

    about: ClassVar[About] = About("values that have a letter", "keys, comments", "an answer stands on one line")

    what: ClassVar[str] = "properties"

    def find(self, text: str) -> list[Piece]:
        """Return the values that have a letter.

        Raises:
            Damage: an escaped character is none.
        """
        pieces: list[Piece] = []
        lines = iter(lines_of(text))
        for line in lines:
            if line.is_blank or line.text.lstrip().startswith(("#", "!")):
                continue
            parts = [(line.start, line.text)]
            last = line
            while _CONTINUES.search(last.text) and (following := next(lines, None)):
                parts[-1] = (parts[-1][0], parts[-1][1][:-1])
                rest = following.text.lstrip(" \t\f")
                parts.append((following.start + len(following.text) - len(rest), rest))
                last = following
            logical = "".join(text for _, text in parts)
            key = _KEY.match(logical)
            assert key is not None
            said = _said(logical[key.end() :], line)
            if any(char.isalpha() for char in said):
                start = _place(parts, key.end())
                pieces.append(marked_piece(Piece(start, last.end, said.strip(), _VALUE), self.reading))
        return pieces

    def write(self, segment: Segment, answer: str, column: int) -> str:  # noqa: ARG002 (values are not wrapped)
        """Return the answer on one line, with what has a meaning there spelled out; non-ASCII as the source has it."""
        spelled = "".join(_SPELLED.get(char, char) for char in restored(answer.strip(), segment.marks))
        if spelled.startswith(("=", ":")):  # it may stand behind a key that has no such sign
            spelled = f"\\{spelled}"
        if not segment.block.text.isascii():
            return spelled
        # Java before version 9 reads such files as Latin-1; one that is ASCII is safe in any encoding.
        return _units(spelled)

    def spell(self, char: str) -> str:
        """Return a character by its units of UTF-16."""
        return _units(char)

    def write_failure(self, segment: Segment, reason: str, fate: Literal["mark", "skip"]) -> str:
        """Return a mark and the source as a value, or nothing."""
        return self.write(segment, f"[llmpar: {reason}] {segment.text}", 0) if fate == "mark" else ""


def _place(parts: list[tuple[int, str]], at: int) -> int:
    """Return where a character of a logical line stands, of which each part has a place in the text."""
    for start, text in parts[:-1]:
        if at < len(text):
            return start + at
        at -= len(text)
    return parts[-1][0] + at


def _units(text: str) -> str:
    """Return a text in ASCII, with the units of UTF-16 for other characters."""
    encoded = text.encode("utf-16-be", "surrogatepass")
    units = (int.from_bytes(encoded[i : i + 2], "big") for i in range(0, len(encoded), 2))
    return "".join(chr(unit) if unit < 0x80 else f"\\u{unit:04X}" for unit in units)


def _said(value: str, line: Line) -> str:
    def sign(match: re.Match[str]) -> str:
        code, broken, letter = match.groups()
        if broken:
            raise Damage(line.start, "a \\u in the value has no four digits behind it")
        return chr(int(code, 16)) if code else _SIGNS.get(letter or "", letter or "")

    said = _ESCAPE.sub(sign, value)
    # Two escapes may be the halves of one character.
    return said.encode("utf-16-be", "surrogatepass").decode("utf-16-be", "surrogatepass")
