"""What subtitles of all kinds have in common: the text of a cue → pieces, and an answer → the lines of a cue."""

from __future__ import annotations

import re
from collections.abc import Callable, Iterator
from dataclasses import dataclass

from llmpar.documents.document import Layout
from llmpar.documents.formats.protocol import Piece
from llmpar.documents.layout import NEWLINE, cells, joint

_MARKUP = re.compile(r"<[^<>\r\n]*>|\{\\[^{}\r\n]*\}")
_TURN = re.compile(r"[ \t]*(?:[-–—‐]+|>>+|♪+|#(?=[ \t]))[ \t]*")
ARROW = "-->"


@dataclass(frozen=True, slots=True)
class Line:
    """A line of a document: the characters `start` to `end`, without its newline."""

    start: int
    end: int
    text: str

    @property
    def is_blank(self) -> bool:
        """Whether it holds nothing but spaces."""
        return not self.text.strip()


def lines_of(text: str) -> list[Line]:
    """Return the lines of a document; an empty one behind the last newline is none."""
    found: list[Line] = []
    start = 0
    for newline in NEWLINE.finditer(text):
        found.append(Line(start, newline.start(), text[start : newline.start()]))
        start = newline.end()
    if start < len(text):
        found.append(Line(start, len(text), text[start:]))
    return found


def cue_pieces(lines: list[Line], layout: Layout, read: Callable[[str], str]) -> Iterator[Piece]:
    """Yield the pieces of a cue: what one speaker says between two tags, whatever lines it stands on.

    Args:
        lines: the cue's.
        layout: of all cues of the document.
        read: returns what a text says, as a model reads it.
    """
    gathered: list[tuple[int, int, str]] = []
    for line in lines:
        at = 0
        if line.is_blank:
            yield from _said(gathered, layout)
            gathered = []
            continue
        is_first = True  # of the line's runs that are not blank
        for match in [*_MARKUP.finditer(line.text), None]:
            run = line.text[at : match.start() if match else len(line.text)]
            turn = _TURN.match(run) if is_first else None
            if turn:
                yield from _said(gathered, layout)
                gathered = []
            said = run[turn.end() if turn else 0 :]
            if said.strip():
                begin = line.start + at + len(run) - len(said.lstrip())
                gathered.append((begin, begin + len(said.strip()), read(said.strip())))
                is_first = False
            if match:
                yield from _said(gathered, layout)
                gathered = []
                at = match.end()
    yield from _said(gathered, layout)


def _said(gathered: list[tuple[int, int, str]], layout: Layout) -> Iterator[Piece]:
    text = ""
    for _, _, said in gathered:
        text += (joint(text, said) if text else "") + said
    if any(char.isalpha() for char in text):
        yield Piece(gathered[0][0], gathered[-1][1], text, layout)


def cue_layout(lines: list[list[Line]], text: str, width: int | None) -> Layout:
    """Return how the cues of a document stand on the screen.

    Args:
        lines: those of each cue.
        text: the document's.
        width: the cells that a line may have; None for those that the widest line has.
    """
    newline = NEWLINE.search(text)
    widest = max((cells(_MARKUP.sub("", line.text)) for cue in lines for line in cue), default=0)
    return Layout(width or widest, "", newline[0] if newline else "\n")


def in_cue(text: str) -> str:
    """Return an answer without what would end its cue: blank lines, and an arrow as times have it."""
    newline = NEWLINE.search(text)
    lines = [line for line in NEWLINE.split(text) if line.strip()]
    return (newline[0] if newline else "\n").join(lines).replace(ARROW, "→")
