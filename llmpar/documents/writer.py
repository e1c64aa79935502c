"""Bytes out: stdout as a stream, or a file that is replaced whole. Knows no segment."""

from __future__ import annotations

import contextlib
import errno
import os
import select
import stat
import sys
import tempfile
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path
from typing import BinaryIO, Protocol

from llmpar.errors import LlmparError, OutputUncreatable, ReaderGone, UsageError, WriteFailed
from llmpar.visible import visible

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
        with self._translated():
            self._stream.write(data)

    def flush(self) -> None:
        """Hand on what was taken so far, and notice a reader that has gone."""
        with self._translated():
            self._stream.flush()
        if self._poll and self._poll.poll(0):
            raise ReaderGone

    def close(self) -> None:
        """Hand on the rest; a device is closed, stdout stays open."""
        with self._translated():
            self._stream.flush()
            if self._stream is not getattr(sys.stdout, "buffer", None):
                self._stream.close()

    def abandon(self) -> None:
        """Leave what was written; a device is closed."""
        if self._stream is not getattr(sys.stdout, "buffer", None):
            with contextlib.suppress(OSError):  # what could not be written still cannot
                self._stream.close()

    def _translated(self) -> contextlib.AbstractContextManager[None]:
        return _translate(self._name)


class FileWriter:
    """Replaces a file at once: the path holds the old file or the complete new one, never something between.

    Raises:
        OutputUncreatable: the directory is missing or may not be written to.
        WriteFailed: writing, syncing or renaming failed.
    """

    def __init__(self, path: Path) -> None:
        # A symbolic link stays one: its target is replaced.
        self._path = Path(os.path.realpath(path))
        try:
            descriptor, name = tempfile.mkstemp(
                prefix=f".{self._path.name[:40]}.", suffix=".tmp", dir=self._path.parent
            )
        except OSError as error:
            raise OutputUncreatable(f"{path}: cannot be created: {error.strerror}") from error
        self._temporary = Path(name)
        self._stream = os.fdopen(descriptor, "wb")
        with contextlib.suppress(OSError):  # not every file system has modes
            os.fchmod(descriptor, _mode(self._path))

    def write(self, data: bytes) -> None:
        """Take the next bytes."""
        with _translate(str(self._path)):
            self._stream.write(data)

    def flush(self) -> None:
        """Do nothing: nobody reads before the end."""

    def close(self) -> None:
        """Sync and rename."""
        try:
            with _translate(str(self._path)):
                self._stream.flush()
                os.fsync(self._stream.fileno())
                self._stream.close()
                self._temporary.replace(self._path)
                _sync_directory(self._path.parent)
        except BaseException:
            self.abandon()
            raise

    def abandon(self) -> None:
        """Remove the temporary file."""
        with contextlib.suppress(OSError):  # a full disk fails again at close; the file goes all the same
            self._stream.close()
        self._temporary.unlink(missing_ok=True)


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
        """Show the rest."""
        self._show_rest()

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


def open_output(path: Path, inputs: Sequence[str | Path], aside: Aside = lambda write: write()) -> Writer:
    """Return a writer for `path`.

    Args:
        path: a file to replace, or a device or pipe to write to.
        inputs: the paths that are read, "-" for stdin.
        aside: how to write to a terminal that something else is drawn on.

    Raises:
        OutputUncreatable: it cannot be created.
        UsageError: it is one of the inputs, under whatever name.
    """
    try:
        status = path.stat()
    except OSError:
        return FileWriter(path)
    _refuse_input(status, str(path), inputs)
    if stat.S_ISREG(status.st_mode):
        return FileWriter(path)
    try:
        return _stream_writer(path.open("wb"), str(path), aside)
    except OSError as error:
        raise OutputUncreatable(f"{path}: cannot be opened: {error.strerror}") from error


def open_stdout(inputs: Sequence[str | Path] = (), aside: Aside = lambda write: write()) -> Writer:
    """Return a writer for stdout; the arguments and errors are those of `open_output`."""
    if sys.stdout is None:
        raise OutputUncreatable("stdout: is closed; use -o FILE")
    with contextlib.suppress(ValueError, OSError):  # an object that stands for stdout in a test
        _refuse_input(os.fstat(sys.stdout.fileno()), "stdout", inputs)
    return _stream_writer(sys.stdout.buffer, "stdout", aside)


def _stream_writer(stream: BinaryIO, name: str, aside: Aside) -> Writer:
    writer = StreamWriter(stream, name)
    return TerminalWriter(writer, aside) if stream.isatty() else writer


def _refuse_input(status: os.stat_result, name: str, inputs: Sequence[str | Path]) -> None:
    if not stat.S_ISREG(status.st_mode):
        return
    for source in inputs:
        with contextlib.suppress(OSError, ValueError, AttributeError):  # what cannot be read is reported when opened
            other = os.fstat(sys.stdin.fileno()) if source == "-" else Path(source).stat()
            if os.path.samestat(status, other):
                raise UsageError(f"{name}: is also an input; write to another file")


def _mode(path: Path) -> int:
    if path.exists():
        return stat.S_IMODE(path.stat().st_mode)
    umask = os.umask(0)
    os.umask(umask)
    return 0o666 & ~umask


def _sync_directory(path: Path) -> None:
    try:
        descriptor = os.open(path, os.O_RDONLY)
    except PermissionError:  # a directory may be writable and not readable
        return
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)


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


@contextlib.contextmanager
def _translate(name: str) -> Iterator[None]:
    try:
        yield
    except OSError as error:
        raise _failure(name, error) from error


def _failure(name: str, error: OSError) -> LlmparError | ReaderGone:
    if error.errno == errno.EPIPE:
        return ReaderGone()
    return WriteFailed(f"{name}: writing failed: {error.strerror}")
