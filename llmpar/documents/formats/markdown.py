"""Markdown: plain text whose code, formulas, HTML and link targets are copied, and whose table cells are prose."""

from __future__ import annotations

import re

from llmpar.documents.formats.plain import Line, Plain

_FENCE = re.compile(r"[ \t>]*(`{3,}|~{3,})")
_MATH = re.compile(r"[ \t>]*(\$\$|\\\[)")
_TABLE_RULE = re.compile(r"[ \t>]*\|?[ \t]*:?-+:?[ \t]*(\|[ \t]*:?-+:?[ \t]*)+\|?[ \t]*")
_TABLE_ROW = re.compile(r"[ \t>]*\|.*\|[ \t]*")
_CELL = re.compile(r"(?:\\.|`[^`]*`|[^|\\])+")
_REFERENCE = re.compile(r"[ ]{0,3}\[[^\]]+\]:[ \t]*\S+.*")
_HTML = re.compile(r"[ \t]*(?:<!--.*-->|</?[A-Za-z][^>]*>)+[ \t]*")
_FRONT_MATTER = re.compile(r"(---|\+\+\+)[ \t]*")


class Markdown(Plain):
    """Finds the prose of a Markdown document, block after block."""

    def __init__(self) -> None:
        super().__init__()
        self._closing = ""  # what ends the fence, formula or front matter that we are in
        self._started = False

    def verbatim(self, text: str, head: int, end: int) -> tuple[Line, ...] | None:
        """Return None for an ordinary line, else its prose: a table's cells, or nothing."""
        line = text[head:end]
        started, self._started = self._started, True
        if self._closing:
            if self._closes(line.strip(" \t>")):
                self._closing = ""
            return ()
        opening = _FENCE.match(line) or (None if started else _FRONT_MATTER.fullmatch(line))
        if opening:
            self._closing = opening[1]
            return ()
        if math := _MATH.match(line):
            closing = {"$$": "$$", "\\[": "\\]"}[math[1]]
            self._closing = "" if closing in line[math.end() :] else closing
            return ()
        if _TABLE_RULE.fullmatch(line) or _REFERENCE.fullmatch(line) or _HTML.fullmatch(line):
            return ()
        if _TABLE_ROW.fullmatch(line):
            return tuple(_cells(text, head, end))
        return None

    def _closes(self, line: str) -> bool:
        if self._closing in ("$$", "\\]"):
            return line.endswith(self._closing)
        return line.startswith(self._closing) and not line.strip(self._closing[0])


def _cells(text: str, head: int, end: int) -> list[Line]:
    found = []
    for match in _CELL.finditer(text, head, end):
        cell = match[0].strip(" \t>")
        if any(char.isalpha() for char in cell):
            start = match.start() + match[0].index(cell)
            found.append(Line(start, start, start, start + len(cell)))
    return found
