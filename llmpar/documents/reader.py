"""Paths and stdin → Documents and their Blocks. Remembers encoding and byte order mark, changes no newline."""

from __future__ import annotations

import codecs
import os
import re
import stat
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import BinaryIO, Literal

from llmpar.documents.document import Block, Document, Encoding, Unit, count_lines
from llmpar.errors import InputError, InputUnreadable, setting
from llmpar.visible import one_line

_CHUNK = 1 << 18  # bytes for each read of a file; a pipe gives less at a time
_LONGEST = 1 << 18  # characters of a paragraph that stay together
LONGEST_HELD = 1 << 26
"""The characters of a record, or of a document that is one piece, that are held if nobody knows better."""
Portion = Literal["line", "paragraph", "record", "document"]
_BOMS = (
    (codecs.BOM_UTF8, "utf-8"),
    (codecs.BOM_UTF32_LE, "utf-32-le"),  # before UTF-16, whose mark it begins with
    (codecs.BOM_UTF32_BE, "utf-32-be"),
    (codecs.BOM_UTF16_LE, "utf-16-le"),
    (codecs.BOM_UTF16_BE, "utf-16-be"),
)
_NEWLINE = r"(?:\r\n|\n|\r(?!\n))"
# A line's end and a blank line; more of them begin the next block and change nothing there.
_PARAGRAPH_END = re.compile(rf"{_NEWLINE}[^\S\r\n]*{_NEWLINE}")
_LINE_END = re.compile(_NEWLINE)
_BLANK = re.compile(r"\s*")


class TextReader:
    """Reads one input of text; `document` describes it.

    Args:
        index: the input's place in the run.
        source: a path, or "-" for stdin.
        errors: what to do with bytes that are not valid text; "surrogateescape" carries them through.

    Raises:
        InputUnreadable: the input cannot be opened or read.
    """

    def __init__(self, index: int, source: str, errors: Literal["strict", "surrogateescape"] = "strict") -> None:
        self._name = "<stdin>" if source == "-" else source
        self._shown = one_line(self._name)
        self._stream = _open(source)
        self._state = _file_state(self._stream)
        self._read = 0
        head = b""
        while len(head) < 4 and (more := self._chunk()):
            head += more
        self._head = head
        bom, encoding = next(((mark, name) for mark, name in _BOMS if head.startswith(mark)), (b"", "utf-8"))
        path = None if source == "-" else Path(source)
        if errors == "surrogateescape" and encoding != "utf-8":
            # What is wrong in UTF-16 is a lone surrogate, not a lone byte.
            self.document = Document(index, self._name, path, Encoding(encoding, bom, "surrogatepass"))
        else:
            self.document = Document(index, self._name, path, Encoding(encoding, bom, errors))

    def close(self) -> None:
        """Close the input, unless it is stdin."""
        if self._name != "<stdin>":
            self._stream.close()

    def blocks(self, portion: Portion, longest: int = LONGEST_HELD) -> Iterator[Block]:
        """Yield the document's blocks; the last one, which may be empty, says so.

        A block is ready as soon as a portion is, so that a slow pipe is served as it speaks.

        Args:
            portion: what a block has at least one of. A record is a line that is not cut, unless it is longer than
                `longest`. Then all its blocks say that they are parts of it.
            longest: the most characters that are held at a time for one record, or one whole document.

        Raises:
            InputError: bytes that are no text in the document's encoding, or NUL; a file that changed meanwhile; a
                whole document that is longer than `longest`.
            InputUnreadable: reading failed.
        """
        cutter = _cutter(portion, longest)
        part: Literal["", "beginning", "rest"] = ""
        buffer = ""
        offset = counted = line = 0
        for text, last in self._texts():
            buffer += text
            while cutter and (cut := cutter.cut(buffer)):
                text, num_bytes, part = buffer[:cut], self._read - counted, cutter.part
                yield Block(self.document, offset, text, num_bytes, first=not offset, last=False, line=line, part=part)
                buffer, offset, counted = buffer[cut:], offset + cut, self._read
                line += count_lines(text)
            if cutter is None and len(buffer) > longest:
                raise InputError(
                    f"{self._shown}: has more than {longest:,} characters, too many to be held as one piece; take a "
                    f"smaller {setting('unit')}, or a larger {setting('max_memory')}"
                )
            if last:
                num_bytes, part = self._read - counted, cutter.part_at_end if cutter else ""
                yield Block(self.document, offset, buffer, num_bytes, first=not offset, last=True, line=line, part=part)

    def _texts(self) -> Iterator[tuple[str, bool]]:
        encoding = self.document.encoding
        decode = codecs.getincrementaldecoder(encoding.name)(encoding.errors)
        held = ""  # a CR that may be half of a CR LF
        position = len(encoding.bom)
        for chunk in self._chunks():
            if not chunk:
                self._check_unchanged()
            pending = len(decode.getstate()[0])
            try:
                text = held + decode.decode(chunk, final=not chunk)
            except UnicodeDecodeError as error:
                # A NUL before it is told first, as it would be if the bytes had come one at a time.
                self._refuse_nul(error.object[: error.start].decode(encoding.name, encoding.errors), position - pending)
                at = position - pending + error.start
                remedy = "it is damaged, or not what its byte order mark says"
                if encoding.name == "utf-8":
                    remedy = "convert it (iconv -f LATIN1 -t UTF-8)"
                    remedy += f", or carry such bytes through with {setting('encoding_errors', 'surrogateescape')}"
                raise InputError(f"{self._shown}: not valid {encoding.name.upper()} at byte {at}; {remedy}") from error
            self._refuse_nul(text[len(held) :], position - pending)
            held = "\r" if text.endswith("\r") and chunk else ""
            yield text[: len(text) - len(held)], not chunk
            position += len(chunk)

    def _refuse_nul(self, text: str, position: int) -> None:
        encoding = self.document.encoding
        if encoding.errors == "strict" and "\0" in text:
            at = position + len(encoding.encode(text[: text.index("\0")]))
            raise InputError(f"{self._shown}: NUL at byte {at}; this is not text")

    def _chunks(self) -> Iterator[bytes]:
        """Yield the bytes after the byte order mark, and an empty chunk at the end."""
        if head := self._head[len(self.document.encoding.bom) :]:
            yield head
        while chunk := self._chunk():
            yield chunk
        yield b""

    def _check_unchanged(self) -> None:
        if _file_state(self._stream) != self._state:
            raise InputError(f"{self._shown}: was changed while it was read; run again when it is complete")

    def _chunk(self) -> bytes:
        try:
            chunk = self._stream.read(_CHUNK)
        except OSError as error:
            raise InputUnreadable(f"{self._shown}: cannot be read: {error.strerror}") from error
        self._read += len(chunk)
        return chunk


def portion_of(unit: Unit) -> Portion:
    """Return what must be read before anybody can be asked about a unit of text."""
    return "paragraph" if unit == "sentence" else unit


def input_size(source: str) -> int | None:
    """Return an input's size in bytes, None for a pipe, having made sure that it can be opened.

    Raises:
        InputUnreadable: it cannot.
    """
    if source != "-" and _is_pipe(source):
        return None  # opened twice, it would lose what its writer had to say
    stream = _open(source)
    try:
        status = os.fstat(stream.fileno())
        return status.st_size if stat.S_ISREG(status.st_mode) else None
    except (OSError, ValueError):  # an object that stands for stdin in a test
        return None
    finally:
        if source != "-":
            stream.close()


def _is_pipe(source: str) -> bool:
    try:
        return stat.S_ISFIFO(Path(source).stat().st_mode) and os.access(source, os.R_OK)
    except (OSError, ValueError):  # said better when it is opened
        return False


def _open(source: str) -> BinaryIO:
    if source == "-":
        if sys.stdin is None:
            raise InputUnreadable("<stdin>: is closed; name a file, or pipe something in")
        try:
            # Unbuffered: a thread that waits here must hold no lock when the program ends.
            return open(sys.stdin.fileno(), "rb", buffering=0, closefd=False)
        except (OSError, ValueError):
            return sys.stdin.buffer
    try:
        if Path(source).is_dir():
            raise InputUnreadable(f"{one_line(source)}: is a directory; name the files in it")
        return Path(source).open("rb", buffering=0)
    except (OSError, ValueError) as error:
        reason = error.strerror if isinstance(error, OSError) else error
        raise InputUnreadable(f"{one_line(source)}: cannot be read: {reason}") from error


def _file_state(stream: BinaryIO) -> tuple[int, int] | None:
    """Return what changes when somebody writes to a file; None for a pipe or terminal."""
    try:
        status = os.fstat(stream.fileno())
    except (OSError, ValueError):
        return None
    return (status.st_size, status.st_mtime_ns) if stat.S_ISREG(status.st_mode) else None


def _cutter(portion: Portion, longest: int) -> _Cutter | _RecordCutter | None:
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

    part: Literal[""] = ""
    part_at_end: Literal[""] = ""

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
