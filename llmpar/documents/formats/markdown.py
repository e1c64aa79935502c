"""Markdown: plain text whose code, formulas, HTML and link targets are copied, and whose table cells are prose."""

from __future__ import annotations

import re
from collections.abc import Callable, Iterator
from typing import ClassVar

from llmpar.documents.document import Block
from llmpar.documents.formats.plain import PlainParagraphs, closes_fence, opening_fence
from llmpar.documents.formats.protocol import About, Piece
from llmpar.documents.formats.text import TextFormat
from llmpar.documents.formats.units import ProseLine, UnitPieces

# A line of MDX that loads or defines a component. Prose hardly has quotation marks or an equals sign behind such words.
_MODULE = re.compile(
    r"import\s+(?:[\w$*{}\s,]+\s+from\s+)?(?:\"[^\"]+\"|'[^']+');?\s*"
    r"|export\s+(?:(?:const|let|var)\s+[\w$]+\s*=|default\s+(?:function|class|\(|\{)|(?:async\s+)?function\b|\{|\*).*"
)
_MATH = re.compile(r"[ \t>]*(\$\$|\\\[)")
_TABLE_RULE = re.compile(r"[ \t>]*(?:\|[ \t]*)?:?-+:?[ \t]*(?:\|[ \t]*:?-+:?[ \t]*)+(?:\|[ \t]*)?")
_CELL = re.compile(r"(?:\\.|`[^`]*`|[^|\\])+")
_REFERENCE = re.compile(r"[ ]{0,3}\[[^\]]+\]:[ \t]*\S+.*")
_TAGS = re.compile(r"[ \t]*(?:(?:<!--(?:(?!-->).)*-->|</?[A-Za-z][^<>]*>)[ \t]*)+")
_HTML = re.compile(r"[ \t]*<(!--|(?:script|style|pre)\b)", re.IGNORECASE)
_FRONT_MATTER = re.compile(r"(---|\+\+\+)[ \t]*")
_FIELD = re.compile(r"[\w\"'#-].*[:=#]")
_CODE = re.compile(r"(?: {4}| {0,3}\t)[ \t]*\S")
_ITEM = re.compile(r" {0,3}(?:[-*+]|\d{1,9}[.)])[ \t]")


class Markdown(TextFormat):
    """Text with Markdown's markup."""

    about: ClassVar[About] = About(
        "headings, paragraphs, items, cells",
        "front matter, code, formulas, HTML, reference definitions, imports of MDX",
        "links and emphasis go to the model as they are written",
    )

    def pieces(self) -> Callable[[Block], Iterator[Piece]]:
        """Return what yields the pieces of a document's blocks."""
        return UnitPieces(MarkdownParagraphs(), self.reading).pieces


class MarkdownParagraphs(PlainParagraphs):
    """Finds the paragraphs of Markdown (`units.Paragraphs`)."""

    atoms = re.compile(
        r"`[^`]*`|!?\[[^\[\]]*\](?:\([^()\s]*\)|\[[^\[\]]*\])|\$[^$\s](?:[^$]*[^$\s])?\$|<[A-Za-z/!][^<>]*>"
    )

    def __init__(self) -> None:
        super().__init__()
        self._closing = ""  # what ends the fence, formula, HTML or front matter that we are in
        self._started = False
        self._front = ""  # the document's first line, where front matter may begin; the next line tells
        self._in_table = False
        self._in_list = False
        self._may_be_code = True  # nothing but blank lines or code stands directly above

    def verbatim(self, text: str, head: int, end: int) -> tuple[ProseLine, ...] | None:
        """Return None for an ordinary line, else its prose: a table's cells, or nothing."""
        line = text[head:end]
        started, self._started = self._started, True
        if self._closing:
            if self._closes(line):
                self._closing = ""
            return ()
        front, self._front = self._front, ""
        if front and _FIELD.match(line):
            self._closing = front
            return ()
        if not started and (opening := _FRONT_MATTER.fullmatch(line)):
            self._front = opening[1]
            return ()
        if not line.strip():
            if end < len(text):  # otherwise the line may go on in the next block
                self._may_be_code, self._in_table = True, False
            return ()
        if self._is_code(line):
            return ()
        self._may_be_code = False
        if self._opens(line):
            return ()
        if _TABLE_RULE.fullmatch(line):
            self._in_table = True
            return ()
        if _REFERENCE.fullmatch(line) or _TAGS.fullmatch(line) or _MODULE.fullmatch(line):
            return ()
        row = line.strip(" \t>")
        if (self._in_table and "|" in row) or (len(row) > 1 and row[0] == row[-1] == "|"):
            return tuple(_cells(text, head, end))
        return None

    def _is_code(self, line: str) -> bool:
        """Tell whether an indented line is code: not below a paragraph, and not inside a list."""
        if not line[0].isspace():
            self._in_list = bool(_ITEM.match(line))
            return False
        if _ITEM.match(line):
            self._in_list = True
        return self._may_be_code and not self._in_list and bool(_CODE.match(line))

    def _opens(self, line: str) -> bool:
        if fence := opening_fence(line):
            self._closing = fence
            return True
        if math := _MATH.match(line):
            closing = {"$$": "$$", "\\[": "\\]"}[math[1]]
            self._closing = "" if closing in line[math.end() :] else closing
            return True
        if (html := _HTML.match(line)) and not _TAGS.fullmatch(line):
            closing = "-->" if html[1] == "!--" else f"</{html[1].lower()}>"
            if closing not in line.lower():
                self._closing = closing
                return True
        return False

    def _closes(self, line: str) -> bool:
        if self._closing in ("---", "+++"):
            return line.rstrip() in (self._closing, "...")
        if self._closing[0] in "`~":
            return closes_fence(line, self._closing)
        return self._closing in line.lower()


def _cells(text: str, head: int, end: int) -> list[ProseLine]:
    found = []
    for match in _CELL.finditer(text, head, end):
        cell = match[0].strip(" \t>")
        if any(char.isalpha() for char in cell):
            start = match.start() + match[0].index(cell)
            found.append(ProseLine(start, start, start, start + len(cell)))
    return found
