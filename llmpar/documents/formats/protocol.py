"""What a format of documents has to say, and what it is told: `Format`, `Piece`, `Reading`. Knows no single format."""

from __future__ import annotations

from collections.abc import Callable, Generator, Iterator
from dataclasses import dataclass
from typing import ClassVar, Literal, Protocol

from llmpar.documents.document import Block, Layout, Record, Unit, Writing
from llmpar.documents.encodings import UTF_8, Encodings
from llmpar.documents.formats.options import NO_OPTIONS, FormatOptions
from llmpar.documents.marks import Mark
from llmpar.documents.reader import LONGEST_HELD
from llmpar.documents.source import Source
from llmpar.frozen import quickly_made

Marking = Literal["none", "markup", "all"]


@dataclass(frozen=True, slots=True)
class Reading:
    """How inputs are read: what the user says, for every format.

    Args:
        unit: what a piece of prose is. A format whose pieces are given, such as JSON lines, need not follow it.
        language: the name of the Punkt model that finds sentences, or "auto" to follow the text.
        format: a name in `formats.FORMATS`, or "auto" for what the file's name says, else its beginning.
        options: what single formats are told.
        errors: what becomes of bytes that are not valid text; "surrogateescape" carries them through.
        into_language: the tag (BCP 47) of the language that answers are in, for formats that say theirs; "" for none.
        encodings: what bytes mean, and what they are written as.
        is_json: whether answers are JSON, which formats of JSON can hold as what it says.
        longest: the most characters that are held at a time of one record, or of one document that is one piece.
        marks: whether markup and placeholders inside a piece come as marks, which answers must keep: in what people
            write for others to read ("markup"), also in the fields of data ("all"), or nowhere ("none").
    """

    unit: Unit = "sentence"
    language: str = "auto"
    format: str = "auto"
    options: FormatOptions = NO_OPTIONS
    errors: Literal["strict", "surrogateescape"] = "strict"
    into_language: str = ""
    encodings: Encodings = UTF_8
    is_json: bool = False
    longest: int = LONGEST_HELD
    marks: Marking = "none"


DEFAULT_READING = Reading()
"""How texts are read where nobody says anything."""


@quickly_made
@dataclass(frozen=True, slots=True)
class Piece:
    """A piece of prose that a format found: the characters `start` to `end` of a block.

    Args:
        start: in characters from the block's start.
        end: the same.
        text: what a model reads.
        layout: how the prose stands on the page.
        target: the characters of the block that the answer replaces, as start and end; of equal ones the place where
            it is inserted. None for the piece's own. Targets come in the order of their pieces and do not overlap.
        around: what stands on either side of an answer, or of a mark, that is written there.
        parts: the places in the target that an answer is laid over, in order; () if it stands in one.
        record: what it is a part of; None for no record.
        fault: why nobody can be asked about it; None if somebody can.
        marks: what the marks in its text stand for.
        writing: how answers are written there, where that is not how its format does it.
    """

    start: int
    end: int
    text: str
    layout: Layout
    target: tuple[int, int] | None = None
    fault: str | None = None
    around: tuple[str, str] = ("", "")
    parts: tuple[tuple[int, int], ...] = ()
    record: Record | None = None
    marks: tuple[Mark, ...] = ()
    writing: Writing | None = None


@dataclass(frozen=True, slots=True)
class About:
    """What people should know of a format; `llmpar help format-list` is made of it.

    Args:
        prose: what a model is asked about.
        kept: what is copied though it is text.
        limits: what the format does not do, "" for nothing worth telling.
        library: what finds the places in a document.
    """

    prose: str
    kept: str
    limits: str = ""
    library: str = "read here"


class Format(Writing, Protocol):
    """One kind of document: how bytes become blocks, what in them is prose, and how answers are written (`Writing`).

    An object is made for each document, by calling the class with a `Reading`. It keeps no state, so that every segment
    can hold it; what is to be remembered from block to block belongs to what `pieces` returns. A format that derives
    from `formats.text.TextFormat` needs no method but `pieces`.
    """

    about: ClassVar[About]
    """What people should know of it."""

    @property
    def reading(self) -> Reading:
        """How its document is read."""

    @property
    def not_below(self) -> str:
        """Why answers cannot stand on lines below their sources ("it would make …" without "it"); "" if they can."""

    def read(self, index: int, source: Source) -> Generator[Block]:
        """Yield an input's blocks; the last one, which may be empty, says so.

        Args:
            index: the input's place in the run.
            source: the input, opened, of which nothing has been taken yet. Whoever opened it closes it.

        Raises:
            InputError: the bytes are not what this format is made of.
            InputUnreadable: the input cannot be read.
        """

    def pieces(self) -> Callable[[Block], Iterator[Piece]]:
        """Return what yields the pieces of a document's blocks. It is given them one after another.

        Raises:
            InputError: (what is returned) the text is not what this format is made of.
            UsageError: the language is unknown.
        """
