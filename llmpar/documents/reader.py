"""Bytes of a source → a Document and its Blocks. Remembers encoding and byte order mark, changes no newline."""

from __future__ import annotations

import codecs
import re
from collections.abc import Iterator
from typing import Literal, Protocol

from llmpar.documents.document import Block, Document, Encoding, Unit, count_lines
from llmpar.documents.encodings import UTF_8, Encodings, looks_like
from llmpar.documents.source import BOMS, Source
from llmpar.errors import InputError, setting

_LONGEST = 1 << 18  # characters of a paragraph that stay together
LONGEST_HELD = 1 << 26
"""The characters of a record, or of a document that is one piece, that are held if nobody knows better."""
Portion = Literal["line", "paragraph", "record", "document"]


class Cutter(Protocol):
    """Says where a growing buffer can be cut into blocks."""

    @property
    def part(self) -> Literal["", "beginning", "rest"]:
        """What was last cut off: whole portions, or a part of one that is too long to be held."""

    @property
    def part_at_end(self) -> Literal["", "rest"]:
        """What the document ends with, after all that was cut off."""

    def cut(self, buffer: str) -> int:
        """Return the end of a block at the start of `buffer`, 0 for none yet.

        After a cut, ask about the rest.
        """


_NEWLINE = r"(?:\r\n|\n|\r(?!\n))"
# A line's end and a blank line; more of them begin the next block and change nothing there.
_PARAGRAPH_END = re.compile(rf"{_NEWLINE}[^\S\r\n]*{_NEWLINE}")
_LINE_END = re.compile(_NEWLINE)
_BLANK = re.compile(r"\s*")


class TextReader:
    """Reads one input of text; `document` describes it.

    Args:
        index: the input's place in the run.
        source: what is read, of which nothing has been taken yet. Whoever opened it closes it.
        errors: what to do with bytes that are not valid text; "surrogateescape" carries them through.
        encodings: what bytes mean, where no byte order mark says it.

    Raises:
        InputUnreadable: the input cannot be read.
    """

    def __init__(
        self,
        index: int,
        source: Source,
        errors: Literal["strict", "surrogateescape"] = "strict",
        encodings: Encodings = UTF_8,
    ) -> None:
        self._source = source
        head = source.look(4)
        bom, name = next(((mark, name) for mark, name in BOMS if head.startswith(mark)), (b"", ""))
        name = name or encodings.input_of(source)
        # What is wrong in UTF-16 is a lone surrogate, not a lone byte.
        passes = errors == "surrogateescape" and name.startswith(("utf-16", "utf-32"))
        self._encoding = Encoding(name, bom, "surrogatepass" if passes else errors)
        self.document = Document(index, source.name, source.path, encodings.output_of(self._encoding, source))

    def blocks(self, portion: Portion | Cutter, longest: int = LONGEST_HELD) -> Iterator[Block]:
        """Yield the document's blocks; the last one, which may be empty, says so.

        A block is ready as soon as a portion is, so that a slow pipe is served as it speaks.

        Args:
            portion: what a block has at least one of. A record is a line that is not cut, unless it is longer than
                `longest`. Then all its blocks say that they are parts of it. A format that has other portions
                brings what cuts them.
            longest: the most characters that are held at a time for one record, or one whole document.

        Raises:
            InputError: bytes that are no text in the document's encoding, or NUL; a file that changed meanwhile; a
                whole document that is longer than `longest`.
            InputUnreadable: reading failed.
        """
        cutter = _cutter(portion, longest) if isinstance(portion, str) else portion
        part: Literal["", "beginning", "rest"] = ""
        buffer = ""
        offset = counted = line = 0
        for text, last in self._texts():
            buffer += text
            while cutter and (cut := cutter.cut(buffer)):
                text, num_bytes, part = buffer[:cut], self._source.num_read - counted, cutter.part
                yield Block(self.document, offset, text, num_bytes, first=not offset, last=False, line=line, part=part)
                buffer, offset, counted = buffer[cut:], offset + cut, self._source.num_read
                line += count_lines(text)
            if cutter is None and len(buffer) > longest:
                raise InputError(
                    f"{self._source.shown}: has more than {longest:,} characters, too many to be held as one piece; "
                    f"take a smaller {setting('unit')}, or a larger {setting('max_memory')}"
                )
            if last:
                num_bytes, part = self._source.num_read - counted, cutter.part_at_end if cutter else ""
                yield Block(self.document, offset, buffer, num_bytes, first=not offset, last=True, line=line, part=part)

    def _texts(self) -> Iterator[tuple[str, bool]]:
        encoding = self._encoding
        decode = codecs.getincrementaldecoder(encoding.name)(encoding.errors)
        held = ""  # a CR that may be half of a CR LF
        position = len(encoding.bom)
        for chunk in self._chunks():
            if not chunk:
                self._source.check_unchanged()
            pending = len(decode.getstate()[0])
            try:
                text = held + decode.decode(chunk, final=not chunk)
            except UnicodeDecodeError as error:
                # A NUL before it is told first, as it would be if the bytes had come one at a time.
                self._refuse_nul(error.object[: error.start].decode(encoding.name, encoding.errors), position - pending)
                at = position - pending + error.start
                remedy = "it is damaged, or not what its byte order mark says"
                if not encoding.bom:
                    guess = looks_like(error.object)
                    remedy = f"it looks like {guess}; " if guess else ""
                    remedy += (
                        f"name what it is in with {setting('encoding', 'NAME')} ({setting('encoding', 'auto')} guesses)"
                    )
                    remedy += f", or carry such bytes through with {setting('encoding_errors', 'surrogateescape')}"
                raise InputError(
                    f"{self._source.shown}: not valid {encoding.name.upper()} at byte {at}; {remedy}"
                ) from error
            self._refuse_nul(text[len(held) :], position - pending)
            held = "\r" if text.endswith("\r") and chunk else ""
            yield text[: len(text) - len(held)], not chunk
            position += len(chunk)

    def _refuse_nul(self, text: str, position: int) -> None:
        encoding = self._encoding
        if encoding.errors == "strict" and "\0" in text:
            at = position + len(encoding.encode(text[: text.index("\0")]))
            guess = looks_like(encoding.encode(text[: 1 << 12])) if encoding.name == "utf-8" and not at >> 12 else None
            remedy = f", or it is {guess}; say so with {setting('encoding', guess)}" if guess else ""
            raise InputError(f"{self._source.shown}: NUL at byte {at}; this is not text{remedy}")

    def _chunks(self) -> Iterator[bytes]:
        """Yield the bytes after the byte order mark, and an empty chunk at the end."""
        skipped = len(self._encoding.bom)
        while chunk := self._source.read():
            if chunk := chunk[skipped:]:
                yield chunk
            skipped = 0
        yield b""


def portion_of(unit: Unit) -> Portion:
    """Return what must be read before anybody can be asked about a unit of text."""
    return "paragraph" if unit == "sentence" else unit


def _cutter(portion: Portion, longest: int) -> Cutter | None:
    if portion == "document":
        return None
    if portion == "record":
        return _RecordCutter(longest)
    return _Cutter(_LINE_END if portion == "line" else _PARAGRAPH_END, _LONGEST)


class _Cutter:
    """Says where a growing buffer can be cut into blocks.

    Where a long paragraph is cut follows from its text alone, never from how much of it came at a time. Each character
    is looked at a fixed number of times, however small the pieces in which it comes.
    """

    part: Literal["", "beginning", "rest"] = ""
    part_at_end: Literal["", "rest"] = ""

    def __init__(self, boundary: re.Pattern[str], longest: int) -> None:
        self._boundary = boundary
        self._longest = longest
        self._num_seen = 0
        self._from = 0  # where the next boundary can begin

    def cut(self, buffer: str) -> int:
        """Return the end of a block at the start of `buffer`, 0 for none yet.

        After a cut, ask about the rest.
        """
        end = self._last_boundary(buffer)
        if not end and len(buffer) > self._longest:
            end = _inside(buffer)
        self._num_seen = 0 if end else len(buffer)
        self._from = 0 if end else self._from
        return end

    def _last_boundary(self, buffer: str) -> int:
        newest = max(buffer.rfind("\n", self._num_seen), buffer.rfind("\r", self._num_seen))
        if newest < 0:
            return 0
        end = 0
        for match in self._boundary.finditer(buffer, self._from):
            if match.end() - end > self._longest and match.end() - _after_blanks(buffer, end) > self._longest:
                break
            end = match.end()
        self._from = max(newest - 1, 0)  # a CR LF has two characters
        return end


class _RecordCutter:
    """Says where a growing buffer can be cut into blocks of whole lines, and where into parts of a line too long."""

    def __init__(self, longest: int) -> None:
        self.part: Literal["", "beginning", "rest"] = ""
        """What was last cut off: whole lines, or a part of one."""
        self._longest = longest
        self._ends = True  # what was last cut off ends a line
        self._num_seen = 0

    @property
    def part_at_end(self) -> Literal["", "rest"]:
        """What the document ends with, after all that was cut off."""
        return "" if self._ends else "rest"

    def cut(self, buffer: str) -> int:
        """Return the end of a block at the start of `buffer`, 0 for none yet.

        After a cut, ask about the rest.
        """
        if not self._ends:
            newline = _LINE_END.search(buffer)
            self.part, self._ends = "rest", newline is not None
            return newline.end() if newline else len(buffer)
        end = self._last_line_end(buffer)
        self.part = ""
        if not end and len(buffer) > self._longest:
            self.part, self._ends, end = "beginning", False, self._longest
        self._num_seen = 0 if end else len(buffer)
        return end

    def _last_line_end(self, buffer: str) -> int:
        """Return where the last of the lines ends that are complete, and stand before any that is too long."""
        end = 0
        # No line end before what was looked at the last time, but for a CR that turned out to be one.
        for match in _LINE_END.finditer(buffer, max(self._num_seen - 1, 0)):
            if match.start() - end > self._longest:
                break
            end = match.end()
        return end


def _after_blanks(buffer: str, start: int) -> int:
    match = _BLANK.match(buffer, start)
    assert match is not None
    return match.end()


def _inside(buffer: str) -> int:
    """Return where to cut an endless paragraph, 0 if it may yet end in time."""
    start = _after_blanks(buffer, 0)
    if len(buffer) - start <= _LONGEST:
        return start if start > _LONGEST else 0
    for separator in ("\n", "\r", " "):
        if cut := buffer.rfind(separator, start + _LONGEST // 2, start + _LONGEST) + 1:
            return cut
    return start + _LONGEST
