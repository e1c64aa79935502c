"""Paths and stdin → bytes, as they come. What is looked at ahead is not lost. Knows no text."""

from __future__ import annotations

import codecs
import os
import stat
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import BinaryIO

from llmpar.documents.compression import SUFFIXES, Compression, Damaged, compression_of, decompressor
from llmpar.errors import InputError, InputUnreadable
from llmpar.visible import one_line

_TOLD_BY = 4  # bytes that tell a byte order mark, and whether an input is compressed
_CHUNK = 1 << 18  # bytes for each read of a file; a pipe gives less at a time
BOMS = (
    (codecs.BOM_UTF8, "utf-8"),
    (codecs.BOM_UTF32_LE, "utf-32-le"),  # before UTF-16, whose mark it begins with
    (codecs.BOM_UTF32_BE, "utf-32-be"),
    (codecs.BOM_UTF16_LE, "utf-16-le"),
    (codecs.BOM_UTF16_BE, "utf-16-be"),
)
"""Byte order marks, and the encodings that they tell."""


class Source:
    """One input, opened: its bytes in order, and the first of them as often as somebody looks.

    Args:
        name: a path, or "-" for stdin.

    Raises:
        InputUnreadable: it cannot be opened.
    """

    def __init__(self, name: str) -> None:
        self.name = "<stdin>" if name == "-" else name
        """Its name for people."""
        self.shown = one_line(self.name)
        """The same, with nothing in it that would disturb a terminal."""
        self.path = None if name == "-" else Path(name)
        self.num_read = 0
        """The bytes that have been read of the input."""
        self.ended = False
        """Whether the input has no more bytes than those that were looked at or read."""
        self.compression: Compression | None = None
        """How the input is compressed, as soon as a first byte of it was looked at. What is read is not."""
        self._head = b""
        self._stream = _open(name)
        self._bytes = self._decompressed()
        self._state = _file_state(self._stream)

    def close(self) -> None:
        """Close the input, unless it is stdin."""
        if self.path is not None:
            self._stream.close()

    def look(self, count: int) -> bytes:
        """Return the first bytes that were not read yet: at least `count`, unless the input has fewer.

        Raises:
            InputError: the input is compressed and damaged.
            InputUnreadable: reading failed.
        """
        while len(self._head) < count and not self.ended:
            self._head += self._chunk()
        return self._head

    def read(self) -> bytes:
        """Return the next bytes, as many as are there; none at the end.

        Raises:
            InputError: the input is compressed and damaged.
            InputUnreadable: reading failed.
        """
        head, self._head = self._head, b""
        return head or (b"" if self.ended else self._chunk())

    def check_unchanged(self) -> None:
        """Raise InputError if the file is no longer what it was when it was opened."""
        if _file_state(self._stream) != self._state:
            raise InputError(f"{self.shown}: was changed while it was read; run again when it is complete")

    def _chunk(self) -> bytes:
        chunk = next(self._bytes, b"")
        self.ended = not chunk
        return chunk

    def _decompressed(self) -> Iterator[bytes]:
        """Yield the input's bytes, none of them empty, after those of a compressed one were made plain."""
        head = b""
        while len(head) < _TOLD_BY and (chunk := self._raw()):
            head += chunk
        self.compression = compression_of(head)
        if self.compression is None:
            if head:
                yield head
            while chunk := self._raw():
                yield chunk
            return
        made = decompressor(self.compression)
        try:
            while head:
                yield from filter(None, made.feed(head))
                head = self._raw()
            made.finish()
        except Damaged as damaged:
            raise InputError(f"{self.shown}: {damaged}") from damaged

    def _raw(self) -> bytes:
        try:
            chunk = self._stream.read(_CHUNK)
        except OSError as error:
            raise InputUnreadable(f"{self.shown}: cannot be read: {error.strerror}") from error
        self.num_read += len(chunk)
        return chunk


def suffix_of(path: Path) -> str:
    """Return how a file's name ends, in lower case, but for the ending that says that it is compressed."""
    suffix = path.suffix.lower()
    return Path(path.stem).suffix.lower() if suffix in SUFFIXES else suffix


def input_size(source: str) -> int | None:
    """Return an input's size in bytes, None for a pipe, having made sure that it can be opened.

    Raises:
        InputUnreadable: it cannot.
    """
    if source != "-" and is_pipe(source):
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


def is_pipe(source: str) -> bool:
    """Tell whether a path is that of a pipe that may be read, and only once."""
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
