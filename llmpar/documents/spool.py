"""Stdin that is read more than once: a pipe is kept in a temporary file meanwhile, as it may be longer than memory."""

from __future__ import annotations

import io
import os
import sys
import tempfile
from collections.abc import Callable, Iterator
from contextlib import ExitStack, contextmanager
from shutil import copyfileobj

from llmpar.errors import InputUnreadable, WriteFailed

_CHUNK = 1 << 20


@contextmanager
def rereadable_stdin() -> Iterator[Callable[[], None]]:
    """Let all of stdin be read several times inside; yield what goes back to where it is now.

    Raises:
        InputUnreadable: stdin is closed, or cannot be read.
        WriteFailed: there is no room for it.
    """
    given = sys.stdin
    if given is None:
        raise InputUnreadable("<stdin>: is closed; name a file, or pipe something in")
    with ExitStack() as stack:
        if not _is_seekable():
            try:
                # Without a buffer: whoever reads stdin takes its descriptor.
                file = stack.enter_context(tempfile.TemporaryFile(buffering=0))
                copyfileobj(given.buffer, file, _CHUNK)
                file.seek(0)
            except OSError as error:
                place = tempfile.gettempdir()
                raise WriteFailed(f"<stdin>: cannot be kept in {place} to be read twice: {error.strerror}") from error
            sys.stdin = stack.enter_context(io.TextIOWrapper(io.BufferedReader(file), encoding="utf-8"))
        try:
            start = _tell()
            yield lambda: _seek(start)
        finally:
            sys.stdin = given


def _is_seekable() -> bool:
    try:
        return sys.stdin.buffer.seekable()
    except (OSError, ValueError):
        return False


def _tell() -> int:
    try:
        return os.lseek(sys.stdin.fileno(), 0, os.SEEK_CUR)
    except (OSError, ValueError):  # an object that stands for stdin
        return sys.stdin.buffer.tell()


def _seek(start: int) -> None:
    try:
        os.lseek(sys.stdin.fileno(), start, os.SEEK_SET)
    except (OSError, ValueError):
        sys.stdin.buffer.seek(start)
