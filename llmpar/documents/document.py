"""The records that travel from bytes to bytes: Document, Block, Segment, Result. Spans, not copies."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, field
from pathlib import Path
from typing import Literal, Protocol

from llmpar.documents.confidence import confidence_of
from llmpar.documents.marks import Mark
from llmpar.errors import InputError, setting
from llmpar.frozen import quickly_made

Unit = Literal["sentence", "paragraph", "line", "document"]
OnError = Literal["keep", "mark", "skip", "fail"]
DEFAULT_ON_ERROR: OnError = "keep"
_MOST_SHOWN = 40  # characters of a piece, by which people know it again
PERSON = "person"
"""The finish reason of an answer that a person gave (`llmpar apply`)."""
Merge = Literal["document", "lines", "jsonl", "csv", "reduce"]


@dataclass(frozen=True, slots=True)
class Encoding:
    """How a document's bytes become text and, exactly, the same bytes again.

    `bom` is the byte order mark the input began with; it belongs to no segment and is written back first.
    """

    name: str = "utf-8"
    bom: bytes = b""
    errors: Literal["strict", "surrogateescape", "surrogatepass"] = "strict"

    def encode(self, text: str) -> bytes:
        """Return `text` as bytes, without the byte order mark.

        Raises:
            InputError: the encoding has no bytes for a character.
        """
        try:
            return text.encode(self.name, self.errors)
        except UnicodeEncodeError as error:
            char = text[error.start]
            raise InputError(
                f"{char!r} (U+{ord(char):04X}) cannot be written in {self.name}, the document's encoding; "
                f"{setting('output_encoding', 'utf-8')} can write everything"
            ) from error

    def lacking(self, text: str) -> str | None:
        """Return the first character of a text that the encoding has no bytes for; None if it has all."""
        if self.name.startswith("utf") or text.isascii():
            return None
        try:
            text.encode(self.name, self.errors)
        except UnicodeEncodeError as error:
            return text[error.start]
        return None

    def spelled(self, text: str, spell: Callable[[str], str]) -> str:
        """Return a text in which `spell` has written the characters that the encoding has no bytes for."""
        if self.lacking(text) is None:
            return text
        return "".join(char if self.lacking(char) is None else spell(char) for char in text)

    def end(self) -> bytes:
        """Return what follows a document's last character: nothing, but an archive has something to say there."""
        return b""


@dataclass(frozen=True, slots=True)
class Document:
    """One input: its place in the run, its name for people, its file if it has one, its encoding."""

    index: int
    name: str
    path: Path | None
    encoding: Encoding


@dataclass(frozen=True, slots=True)
class Block:
    """A run of a document's characters, read and merged as a whole, so that no document need fit in memory.

    Blocks end where a paragraph does, except in a paragraph longer than a block. `offset` counts characters
    from the document's start, `num_bytes` the input bytes read for it, `line` the lines before it. `part` tells that it
    is the beginning of a record that is too long to be held, or what follows it there; else it is "".
    """

    document: Document
    offset: int
    text: str
    num_bytes: int
    first: bool
    last: bool
    line: int = 0
    part: Literal["", "beginning", "rest"] = ""


@dataclass(frozen=True, slots=True)
class Layout:
    """How a paragraph stands on the page.

    `width` is the column (in terminal cells) its lines were wrapped to, 0 when they were not; `indent` opens each
    line after the first; `newline` is the document's own.
    """

    width: int = 0
    indent: str = ""
    newline: str = "\n"


INLINE = Layout(newline=" ")
"""The layout of what must stay on its line: a heading, a table's cell, a line that is a record."""


@dataclass(frozen=True, slots=True)
class Record:
    """The record that a piece is a part of: the characters `start` to `end` of its block.

    `names` are those of its cells, where they stand elsewhere: in the first row of a table. `delimiter` is the sign
    between the cells.
    """

    start: int
    end: int
    names: tuple[str, ...] = ()
    delimiter: str = ""


class Writing(Protocol):
    """How answers are written in a document: the part of its format that whoever makes documents asks."""

    def write(self, segment: Segment, answer: str, column: int) -> str:
        """Return an answer as it stands in its segment's target, with all that must be escaped or wrapped.

        Args:
            segment: what was asked about.
            answer: what is not already there.
            column: the cells (columns of a terminal) that are taken on the target's first line, for wrapping.
        """

    def objection(self, segment: Segment, answer: str) -> str | None:
        """Return why an answer cannot stand there, as the end of "the answer …"; None if it can."""

    def write_failure(self, segment: Segment, reason: str, fate: Literal["mark", "skip"]) -> str:
        """Return what a failed segment's target holds: the source behind the reason, or what says nothing."""

    def spell(self, char: str) -> str:
        """Return how a character is written that the document's encoding lacks; itself if it cannot be."""

    def record(self, segment: Segment) -> str:
        """Return the record that a segment is a part of as an object of JSON; "" if there is none."""


@quickly_made
@dataclass(frozen=True, slots=True)
class Segment:
    """A piece of a document: the characters `start` to `end` of its block.

    `text` is what a model reads: the same characters, with the line breaks of hard wrapping turned into spaces.
    `fault` tells why nobody can be asked about it; None if somebody can. `target` is the span of the block that its
    answer replaces, if that is not its own; `format` writes it there, and is None where no document is made of answers.
    `around` stands on either side of what is written there. `parts` are the places in the target, in order, that an
    answer is laid over, where these are several. `record` is what it is a part of, if that is a record. `marks` are
    what the marks in its text stand for. `label` is what people call it where it stands in no file.
    """

    block: Block
    index: int
    start: int
    end: int
    text: str
    layout: Layout
    fault: str | None = None
    target: tuple[int, int] | None = None
    format: Writing | None = None
    around: tuple[str, str] = ("", "")
    parts: tuple[tuple[int, int], ...] = ()
    record: Record | None = None
    marks: tuple[Mark, ...] = ()
    label: str = ""

    @property
    def source(self) -> str:
        """The piece as it stands in the document."""
        return self.block.text[self.start : self.end]

    @property
    def span(self) -> tuple[int, int]:
        """Start and end, in characters from the document's start."""
        return self.block.offset + self.start, self.block.offset + self.end

    @property
    def line(self) -> int:
        """The line that it begins in, from 1."""
        return 1 + self.block.line + count_lines(self.block.text, self.start)

    @property
    def last_line(self) -> int:
        """The line that it ends in."""
        return 1 + self.block.line + count_lines(self.block.text, self.end)

    @property
    def place(self) -> str:
        """Its file and line, for people and editors, or its label."""
        return self.label or f"{self.block.document.name}:{self.line}"

    def __repr__(self) -> str:
        return f"Segment({self})"

    def __str__(self) -> str:
        head = "" if self.label else beginning_of(self.source)
        return f"{self.place} {head!r}" if head else self.place


def text_document(name: str, index: int = 0) -> Document:
    """Return what a text that stands in no file belongs to."""
    return Document(index, name, None, Encoding())


def text_block(document: Document, text: str) -> Block:
    """Return a text as the only block of its document."""
    return Block(document, 0, text, 0, first=True, last=True)


def text_segment(document: Document, text: str, index: int = 0, label: str = "") -> Segment:
    """Return a text as one segment, which is all of its block; `label` says what people call it."""
    label = label or document.name
    return Segment(text_block(document, text), index, 0, len(text), text, INLINE, label=label)


def beginning_of(text: str) -> str:
    """Return the first words of a text, on one line, by which a person knows it again."""
    flat = " ".join(text[: 8 * _MOST_SHOWN].split())
    if len(flat) <= _MOST_SHOWN and len(text) <= 8 * _MOST_SHOWN:
        return flat
    head = flat[:_MOST_SHOWN]
    return (head.rpartition(" ")[0] or head) + " …"


def count_lines(text: str, end: int | None = None, start: int = 0) -> int:
    """Return how many lines end between two places in a text, by LF, CR LF or CR; neither is inside of a CR LF."""
    num_returns = text.count("\r", start, end)
    # Most texts have no CR, and then this is one pass of a C loop.
    return text.count("\n", start, end) + (num_returns - text.count("\r\n", start, end) if num_returns else 0)


@quickly_made
@dataclass(frozen=True, slots=True)
class Result:
    """What became of a segment: its `answer`, or the reason (`error`) why it failed, whatever was answered.

    `cut` says that the answer ends at a limit that the user set, `looped` that it repeated itself, `reused` that it was
    computed for an equal segment, `cached` that an earlier run did. `key` names it in the store, `seconds` is what the
    last attempt took, from a worker's taking it up, and `finished` when its answer came in this run (as time.time() has
    it), None if it did not. `reasoning` is what the model wrote before its answer, for itself, and its tokens are among
    those of the output. `mean_logprob` and `min_logprob` are the mean and the least of the log-probabilities (natural
    logarithms) of the answer's tokens, None where nobody knows them. `shares` are the probabilities of the choices, if
    the answer is one of some. `tokens` is what is told of each token, as JSON, where a request asked for that. `asked`
    is where a person's answer is kept: the hash of what is asked, whoever answers, and the key of the question there.
    """

    segment: Segment
    answer: str = ""
    error: str | None = None
    cut: bool = False
    looped: bool = False
    reused: bool = False
    cached: bool = False
    num_prompt_tokens: int = 0
    num_output_tokens: int = 0
    key: bytes = b""
    finish_reason: str = "stop"
    num_attempts: int = 1
    seconds: float = 0.0
    worker: int | None = None
    reasoning: str = ""
    num_reasoning_tokens: int = 0
    mean_logprob: float | None = None
    min_logprob: float | None = None
    shares: tuple[tuple[str, float], ...] = ()
    tokens: str = ""
    asked: tuple[bytes, bytes] = (b"", b"")
    finished: float | None = field(default=None, compare=False)

    @property
    def confidence(self) -> float | None:
        """How sure the model was, from 0 to 1; None if that is not known.

        It is the probability of the choice that the answer is, else the geometric mean of its tokens' probabilities.
        """
        return confidence_of(self.answer, self.mean_logprob, self.shares)

    @property
    def probabilities(self) -> dict[str, float]:
        """How likely each choice was; nothing if the answer is none of some choices, or nobody knows."""
        return dict(self.shares)

    @property
    def scores(self) -> dict[str, object]:
        """What is known of how sure the model was, by the names that records and logs have for it."""
        told = {
            "mean_logprob": self.mean_logprob,
            "min_logprob": self.min_logprob,
            "confidence": self.confidence,
            "probabilities": self.probabilities or None,
        }
        return {name: value for name, value in told.items() if value is not None}

    def __repr__(self) -> str:
        # In a notebook, nobody wants all of a document for each of its pieces.
        said = f"error={self.error!r}" if self.error else f"answer={self.answer!r}"
        return f"Result(text={beginning_of(self.text)!r}, {said})"

    @property
    def text(self) -> str:
        """What the answer is about."""
        return self.segment.text
