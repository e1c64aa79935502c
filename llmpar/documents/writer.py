"""Bytes out: stdout or a device as a stream, or a file that is replaced whole. Knows no segment."""

from __future__ import annotations

import contextlib
import errno
import os
import select
import stat
import sys
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import BinaryIO, Protocol

from llmpar.documents.destination import FileWriter
from llmpar.documents.register import own_descriptor
from llmpar.errors import LlmparError, OutputUncreatable, ReaderGone, UsageError, WriteFailed, setting
from llmpar.visible import one_line, visible

Aside = Callable[[Callable[[], None]], None]
"""Calls a function that writes to the terminal, with whatever is drawn there out of the way."""


class Writer(Protocol):
    """Where a document's bytes go."""

    def write(self, data: bytes) -> None:
        """Take the next bytes."""

    def flush(self) -> None:
        """Hand on what was taken so far, and notice a reader that has gone."""

    def close(self) -> None:
        """Finish: everything is with the reader, or on the disk under its name."""

    def abandon(self) -> None:
        """Give up: a file keeps its old content."""


class StreamWriter:
    """Writes to stdout, or to a device or pipe that has a name.

    The stream may be unbuffered (PYTHONUNBUFFERED) and take a part of what it is given, and whoever shares a pipe with
    us may have made it one that does not block.

    Raises:
        ReaderGone: the other end was closed.
        WriteFailed: any other failure, a full disk for instance.
    """

    def __init__(self, stream: BinaryIO, name: str) -> None:
        self._stream = stream
        self._name = name
        self._poll = _hangup_poll(stream)

    def write(self, data: bytes) -> None:
        """Take the next bytes."""
        rest = memoryview(data)
        with self._translated():
            while rest:
                try:
                    num_taken = self._stream.write(rest) or 0  # None: an unbuffered stream that would block
                except BlockingIOError as error:
                    num_taken = error.characters_written
                rest = rest[num_taken:]
                if rest:
                    self._wait()

    def flush(self) -> None:
        """Hand on what was taken so far, and notice a reader that has gone."""
        self._flush()
        if self._poll and self._poll.poll(0):
            raise ReaderGone

    def close(self) -> None:
        """Hand on the rest; a device is closed, stdout stays open."""
        self._flush()
        if self._stream is not getattr(sys.stdout, "buffer", None):
            with self._translated():
                self._stream.close()

    def abandon(self) -> None:
        """Leave what was written; a device is closed."""
        if self._stream is not getattr(sys.stdout, "buffer", None):
            with contextlib.suppress(OSError):  # what could not be written still cannot
                self._stream.close()

    def _flush(self) -> None:
        with self._translated():
            while True:
                try:
                    self._stream.flush()
                except BlockingIOError:
                    self._wait()
                else:
                    return

    def _wait(self) -> None:
        """Let time pass until the stream takes more, or its reader has gone."""
        poll = select.poll()
        poll.register(self._stream.fileno(), select.POLLOUT)
        poll.poll()

    @contextlib.contextmanager
    def _translated(self) -> Iterator[None]:
        try:
            yield
        except OSError as error:
            raise _failure(self._name, error) from error


class TerminalWriter:
    """Writes whole lines to a terminal, control characters made visible, out of the way of what is drawn there.

    Args:
        inner: the terminal.
        aside: called with a function that writes; it clears the progress display first and draws it again after.
    """

    def __init__(self, inner: StreamWriter, aside: Aside) -> None:
        self._inner = inner
        self._aside = aside
        self._line = b""

    def write(self, data: bytes) -> None:
        """Take the next bytes."""
        self._line += data

    def flush(self) -> None:
        """Show the lines that are complete."""
        lines, newline, rest = self._line.rpartition(b"\n")
        if newline:
            self._show(lines + newline)
            self._line = rest

    def close(self) -> None:
        """Show the rest."""
        self._show_rest()
        self._inner.close()

    def abandon(self) -> None:
        """Show the rest, if the terminal is still there."""
        with contextlib.suppress(WriteFailed, ReaderGone):  # why the run ends is known already
            self._show_rest()
        self._inner.abandon()

    def _show_rest(self) -> None:
        rest, self._line = self._line, b""
        if rest:
            self._show(rest + b"\n")  # whatever the terminal shows next begins on its own line

    def _show(self, data: bytes) -> None:
        text = visible(data.decode("utf-8", "replace"))

        def show() -> None:
            self._inner.write(text.encode())
            self._inner.flush()

        self._aside(show)


def open_output(
    path: Path,
    aside: Aside = lambda write: write(),
    *,
    wait: float = 0.0,
    partial: Path | None = None,
) -> Writer:
    """Return a writer for `path`, which the run's register knows.

    Args:
        path: a file to replace, or a device or pipe to write to.
        aside: how to write to a terminal that something else is drawn on.
        wait: seconds to wait for somebody else who writes the file.
        partial: a file that takes what was written when the writer is abandoned.

    Raises:
        OutputUncreatable: it, or `partial`, cannot be created.
        UsageError: `partial` of what is no file.
        Busy: somebody else writes the file.
    """
    status = _status(path)
    if partial:
        _check_partial(partial, path, status)
    if status is None or stat.S_ISREG(status.st_mode):
        return FileWriter(path, wait, partial)
    try:
        return _stream_writer(open_as_it_is(path), one_line(path), aside)
    except OSError as error:
        raise OutputUncreatable(f"{one_line(path)}: cannot be opened: {error.strerror}") from error


def open_stdout(aside: Aside = lambda write: write()) -> Writer:
    """Return a writer for stdout; the argument and errors are those of `open_output`."""
    if sys.stdout is None:
        raise OutputUncreatable(f"stdout: is closed; use {setting('output', 'FILE')}")
    return _stream_writer(sys.stdout.buffer, "stdout", aside)


def _stream_writer(stream: BinaryIO, name: str, aside: Aside) -> Writer:
    writer = StreamWriter(stream, name)
    return TerminalWriter(writer, aside) if stream.isatty() else writer


def goes_on(path: Path) -> bool:
    """Tell whether a path names what the caller of llmpar has opened: it is written behind what is there."""
    return own_descriptor(path) is not None


def open_as_it_is(path: Path, buffering: int = -1, *, appends: bool = False) -> BinaryIO:
    """Open a file, which is emptied unless one `appends`, a device or a pipe; `buffering` is Python's.

    What the caller of llmpar has opened, and is named /dev/stderr for instance, goes on where it is, and loses nothing.

    Raises:
        OSError: it cannot be opened.
    """
    descriptor = own_descriptor(path)
    if descriptor is not None and not os.get_inheritable(descriptor):  # what we open ourselves, nobody inherits
        raise OSError(errno.EBADF, "nobody has opened it for llmpar")
    if descriptor is None:
        return path.open("ab" if appends else "wb", buffering)
    return os.fdopen(os.dup(descriptor), "wb", buffering)


def _check_partial(partial: Path, path: Path, status: os.stat_result | None) -> None:
    """Refuse a place for what is unfinished; `path` is the output's, and `status` its state."""
    name, target = one_line(partial), Path(os.path.realpath(partial))
    if status and not stat.S_ISREG(status.st_mode):
        raise UsageError(f"{name}: {one_line(path)} is no regular file, so nothing unfinished can be kept of it")
    other = _status(target)
    if other and not stat.S_ISREG(other.st_mode):
        raise OutputUncreatable(f"{name}: is no regular file; keep what is unfinished in one")
    if not target.parent.is_dir() or not os.access(target.parent, os.W_OK | os.X_OK):
        raise OutputUncreatable(f"{name}: cannot be created: {one_line(target.parent)} is no directory to write to")


def _status(path: Path) -> os.stat_result | None:
    """Return the state of what is there, None for nothing."""
    try:
        return path.stat()
    except FileNotFoundError:
        return None
    except OSError as error:
        raise OutputUncreatable(f"{one_line(path)}: cannot be created: {error.strerror}") from error


def _hangup_poll(stream: BinaryIO) -> select.poll | None:
    try:
        descriptor = stream.fileno()
        if not stat.S_ISFIFO(os.fstat(descriptor).st_mode) and not stat.S_ISSOCK(os.fstat(descriptor).st_mode):
            return None
    except (OSError, ValueError):
        return None
    poll = select.poll()
    poll.register(descriptor, select.POLLERR)
    return poll


def _failure(name: str, error: OSError) -> LlmparError | ReaderGone:
    if error.errno == errno.EPIPE:
        return ReaderGone()
    return WriteFailed(f"{name}: writing failed: {error.strerror}")
