"""What subtitles of all kinds have in common: the text of a cue → pieces, and an answer → the lines of a cue."""

from __future__ import annotations

import re
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, field

from llmpar.documents.document import Layout, Segment
from llmpar.documents.formats.laying import composed, laid
from llmpar.documents.formats.protocol import Piece
from llmpar.documents.language import detect
from llmpar.documents.layout import NEWLINE, cells, fill, joint
from llmpar.documents.sentences import find_language, sentence_spans

_MARKUP = re.compile(r"<[^<>\r\n]*>|\{\\[^{}\r\n]*\}")
_TURN = re.compile(r"[ \t]*(?:[-–—‐]+|>>+|♪+|#(?=[ \t]))[ \t]*")
_NAMED = re.compile(r"[^\W\d_a-z][^\Wa-z]+(?:[ .'\-]+[^\Wa-z]+){0,3}:\s")  # MRS. SMITH:
_VOICE = re.compile(r"</?v[\s.>]", re.IGNORECASE)
_CLOSING = "\"'”’»›)]」』"
_STOP = re.compile(rf"(?:[.!?。！？؟।]+|\.{{2,}}|…+|[-—–]+)[{re.escape(_CLOSING)}]*\Z")
_DASHES = ("-", "—", "–")
_OPENS_ALONE, _ENDS_ALONE = re.compile(r"\s*[♪♫#(\[]"), re.compile(r"[♪♫#)\]]\s*\Z")
_MOST_CUES, _LONGEST = 5, 400  # that are one piece; characters of it
_NEWLINES = ("", "\n", "\r")
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


@dataclass(slots=True)
class _Turn:
    """What one speaker says: its text, and the places that it stands in, between which are tags or times."""

    text: str = ""
    parts: list[tuple[int, int]] = field(default_factory=list)
    num_cues: int = 1
    opens: bool = False
    """Whether a sign says that somebody begins to speak, such as a dash or a name."""

    def add(self, start: int, end: int, said: str, glue: str, *, apart: bool) -> None:
        """Take in what is said next, after `glue`; `apart` from what was said before if a tag parts the two."""
        self.text += (glue if self.text else "") + said
        if apart or not self.parts:
            self.parts.append((start, end))
        else:
            self.parts[-1] = self.parts[-1][0], end


def cue_pieces(cues: list[list[Line]], layout: Layout, read: Callable[[str], str], language: str) -> Iterator[Piece]:
    """Yield the pieces of all cues: what one speaker says, whatever lines and tags it stands in.

    A cue that ends within a sentence is one piece with the next.

    Args:
        cues: the lines of each.
        layout: of all cues of the document.
        read: returns what a text says, as a model reads it.
        language: of the text, for its sentences (as `Reading` has it).
    """
    turns = [list(_turns(lines, read)) for lines in cues]
    joins = _Sentences([turn for cue in turns for turn in cue], language)
    held: _Turn | None = None
    for cue in turns:
        for number, turn in enumerate(cue):
            if held is not None and number == 0 and joins.goes_on(held, turn):
                held.text += joint(held.text, turn.text) + turn.text
                held.parts += turn.parts
                held.num_cues += 1
                continue
            if held is not None:
                yield from _piece(held, layout)
            held = turn
    if held is not None:
        yield from _piece(held, layout)


def _piece(turn: _Turn, layout: Layout) -> Iterator[Piece]:
    if any(char.isalpha() for char in turn.text):
        parts = tuple(turn.parts) if len(turn.parts) > 1 else ()
        yield Piece(turn.parts[0][0], turn.parts[-1][1], turn.text, layout, parts=parts)


def _turns(lines: list[Line], read: Callable[[str], str]) -> Iterator[_Turn]:
    """Yield what the speakers of a cue say, one after another."""
    turn = _Turn()
    apart = False  # a tag stands behind what was said last
    glue = ""
    for line in lines:
        if line.is_blank:
            if turn.parts:
                yield turn
            turn = _Turn()
            continue
        at = 0
        is_first = True  # of the line's runs that are not blank
        for match in [*_MARKUP.finditer(line.text), None]:
            run = line.text[at : match.start() if match else len(line.text)]
            begins = _TURN.match(run) if is_first else None
            said = run[begins.end() if begins else 0 :]
            if begins or (is_first and _NAMED.match(said)):
                if turn.parts:
                    yield turn
                turn = _Turn(opens=True)
            if said.strip():
                start = line.start + at + len(run) - len(said.lstrip())
                text = read(said.strip())
                if is_first and turn.text:
                    glue = joint(turn.text, text)
                elif said[:1].isspace():
                    glue = " "
                turn.add(start, start + len(said.strip()), text, glue, apart=apart)
                glue = " " if said[-1:].isspace() else ""
                is_first = apart = False
            elif run:
                glue = " "
            if match:
                apart = True
                if _VOICE.match(match[0]):
                    if turn.parts:
                        yield turn
                    turn = _Turn(opens=True)
                at = match.end()
    if turn.parts:
        yield turn


class _Sentences:
    """Tells whether a sentence goes on in the next cue.

    Args:
        turns: those of the whole document.
        language: of the text.
    """

    def __init__(self, turns: list[_Turn], language: str) -> None:
        self._language = language
        self._head = turns[:200]
        # Where sentences have no stops, as in much of Chinese and in what machines wrote down, nobody can tell.
        self._can_tell = 4 * sum(bool(_STOP.search(turn.text)) for turn in turns) >= len(turns)

    def goes_on(self, turn: _Turn, following: _Turn) -> bool:
        """Tell whether two turns of two cues, one after the other, are one."""
        length = len(turn.text) + len(following.text)
        if not self._can_tell or following.opens or turn.num_cues >= _MOST_CUES or length > _LONGEST:
            return False
        if _ENDS_ALONE.search(turn.text) or _OPENS_ALONE.match(turn.text) or _OPENS_ALONE.match(following.text):
            return False
        if turn.text.isupper() != following.text.isupper() and len(turn.text) > 1:  # a title, or a sign in the picture
            return False
        stop = _STOP.search(turn.text)
        if stop is None:
            return True
        sign = stop[0].rstrip(_CLOSING)
        if sign.startswith((*_DASHES, "..", "…")):
            return following.text.lstrip("….-—– ")[:1].islower()
        if sign != ".":
            return False
        # An abbreviation may be what ends with a dot. Nothing else needs to know the language.
        if self._head:
            self._language = find_language(self._language)
            if self._language == "auto":
                self._language = detect(" ".join(one.text for one in self._head), "english")
            self._head = []
        text = f"{turn.text[-200:]} {following.text[:100]}"
        border = min(len(turn.text), 200)
        return any(start < border < end for start, end in sentence_spans(text, self._language))


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


def write_in_cues(segment: Segment, answer: str, column: int, write: Callable[[str], str], blank: str = "") -> str:
    """Return an answer as lines of its cue, or of its cues.

    Args:
        segment: what was asked about.
        answer: the answer.
        column: the cells that are taken on the first line.
        write: returns lines as the format has them, with nothing in them that has a meaning there.
        blank: what stands on a line on which nothing is left; "" where an empty line ends no cue.
    """

    def filled(text: str, column: int) -> str:
        return write(in_cue(fill(text, segment.layout, column)))

    if not segment.parts:
        return filled(answer, column) or _blank(segment, segment.start, segment.end, blank)
    texts = laid(segment, in_cue(answer), filled, column, lambda text: cells(_MARKUP.sub("", text)))
    return _composed(segment, texts, blank)


def write_failure_in_cues(segment: Segment, mark: str, write: Callable[[str], str], blank: str = "") -> str:
    """Return a mark and the source in a segment's cues, or what says nothing.

    Args:
        segment: what was asked about.
        mark: what stands before the source; "" for nothing at all.
        write: as above.
        blank: as above.
    """
    if mark:
        return write_in_cues(segment, f"{mark} {segment.text}", 0, write, blank)
    if not segment.parts:
        return _blank(segment, segment.start, segment.end, blank)
    return _composed(segment, [""] * len(segment.parts), blank)


def _composed(segment: Segment, texts: Sequence[str], blank: str) -> str:
    return composed(
        segment, [text or _blank(segment, *part, blank) for part, text in zip(segment.parts, texts, strict=True)]
    )


def _blank(segment: Segment, start: int, end: int, blank: str) -> str:
    """Return what stands in an empty place: `blank` if it is a whole line."""
    text = segment.block.text
    return blank if text[start - 1 : start] in _NEWLINES and text[end : end + 1] in _NEWLINES else ""
