"""Which writer each document goes to: all to one, each to a file in a directory, or each back to where it came from."""

from __future__ import annotations

import os
import stat
from collections.abc import Sequence
from pathlib import Path
from typing import Protocol

from llmpar.documents.destination import FileWriter, back_up, backup_path, refuse_other_backup, temporary_path
from llmpar.documents.document import Document
from llmpar.documents.register import Register
from llmpar.documents.writer import Writer
from llmpar.errors import InputError, InputUnreadable, OutputUncreatable, UsageError, setting
from llmpar.visible import one_line


class Output(Protocol):
    """Where the documents of a run go."""

    def begin(self, document: Document) -> Writer:
        """Return the writer for a document, whose bytes follow."""

    def end(self) -> None:
        """The document is complete."""

    def drop(self) -> None:
        """The document turned out to be damaged: it is not published if that can be helped."""

    def finish(self) -> None:
        """All documents are complete."""

    def abandon(self) -> None:
        """The run ended early: what is not complete is not published."""


class SingleOutput:
    """One writer takes all documents, one after another."""

    def __init__(self, writer: Writer) -> None:
        self._writer = writer

    def begin(self, document: Document) -> Writer:  # noqa: ARG002 (every document goes to the same place)
        """Return the one writer."""
        return self._writer

    def end(self) -> None:
        """Hand on what there is."""
        self._writer.flush()

    def drop(self) -> None:
        """Leave what was written: it cannot be taken back."""
        self._writer.flush()

    def finish(self) -> None:
        """Close the writer."""
        self._writer.close()

    def abandon(self) -> None:
        """Give up the writer."""
        self._writer.abandon()


class _FilePerDocument:
    """Each document becomes a file of its own, published when it is complete.

    Args:
        destinations: each source and its file.
        wait: seconds to wait for somebody else who writes one of them.
        suffix: of the copies that are kept of what is replaced, "" for none.
        keeps_equal: whether a file that would not change is left as it is.

    Raises:
        Busy: somebody else writes one of the files, now or when its document begins.
        OutputUncreatable: something is in the way of one of them.
    """

    def __init__(
        self, destinations: Sequence[tuple[str, Path]], wait: float, suffix: str = "", *, keeps_equal: bool = False
    ) -> None:
        self._paths = {Path(source): path for source, path in destinations}
        self._wait = wait
        self._suffix = suffix
        self._keeps_equal = keeps_equal
        self._writer: FileWriter | None = None
        for path in self._paths.values():
            _refuse_irregular(_real(path))
            if suffix:
                _refuse_irregular(backup_path(path, suffix))
        for path in self._paths.values():
            if os.path.lexists(temporary_path(_real(path))):  # somebody writes it, or was killed when he did
                FileWriter(path, wait).abandon()

    def begin(self, document: Document) -> Writer:
        """Open the document's file."""
        assert document.path is not None
        source = document.path
        self._paths[source].parent.mkdir(parents=True, exist_ok=True)
        self._writer = FileWriter(
            self._paths[source], self._wait, check=lambda: self._make_way(source), keeps_equal=self._keeps_equal
        )
        return self._writer

    def end(self) -> None:
        """Publish the document."""
        assert self._writer is not None
        self._writer.close()
        self._writer = None

    def drop(self) -> None:
        """Give up the document."""
        self.abandon()

    def finish(self) -> None:
        """Nothing is left to do: every document was published as it ended."""

    def abandon(self) -> None:
        """Give up the document in progress."""
        if self._writer:
            self._writer.abandon()
            self._writer = None

    def _make_way(self, source: Path) -> None:
        """Do what comes right before a document's file takes its name; raise to keep it from that."""


class DirectoryOutput(_FilePerDocument):
    """Each document becomes a file of its own name in a directory, published when it is complete.

    One that was found in a folder keeps its place in it. A file that would not change is not touched.

    Args:
        directory: where they go.
        sources: the paths that are read.
        register: knows the other files of the run.
        wait: seconds to wait for somebody else who writes one of the files.
        suffix: is put at the end of each name.

    Raises:
        Busy: somebody else writes one of the files, now or when its document begins.
        OutputUncreatable: the directory is missing or may not be written to, or something is in the way in it.
        UsageError: an input has no name, two have the same one, or an output is another file of the run.
    """

    def __init__(
        self, directory: Path, sources: Sequence[str], register: Register, wait: float = 0.0, suffix: str = ""
    ) -> None:
        folders = register.folders
        if not directory.is_dir():
            raise OutputUncreatable(f"{one_line(directory)}: is not a directory; create it first (mkdir -p)")
        _refuse_unwritable(directory)
        destinations: list[tuple[str, Path]] = []
        for source in sources:
            if source == "-":
                raise UsageError(
                    f"stdin has no name for {setting('output_dir')}; use {setting('output', 'FILE')}, or name the input"
                )
            name = Path(source).name
            if name in ("", ".."):
                raise UsageError(f"{source!r}: has no name for {setting('output_dir')}; name a file")
            place = folders.place_of(source)
            path = directory / place.with_name(place.name + suffix)
            if not _real(path).is_relative_to(_real(directory)):
                raise OutputUncreatable(f"{one_line(path)}: leads out of {one_line(directory)}; remove it first")
            destinations.append((source, path))
        register.destinations(destinations, setting("output_dir"))
        super().__init__(destinations, wait, keeps_equal=True)


class InPlaceOutput(_FilePerDocument):
    """Each document replaces the file it was read from when it is complete.

    Another hard link to the file keeps the old content; a symbolic link stays one, and its target is replaced.

    Args:
        sources: the paths that are read, which the run's register knows, with their backups.
        suffix: the old file is kept under its name with this at the end; "" for no backup. One that is there is never
            replaced by another.
        wait: seconds to wait for somebody else who writes one of the files.

    Raises:
        Busy: somebody else writes one of the files, now or when its document begins.
        InputError: a file was changed after this was made; its document is not published.
        InputUnreadable: a file is missing.
        OutputUncreatable: a directory may not be written to, or something is in the way of a backup.
        UsageError: a source is no regular file, or the suffix leads elsewhere.
    """

    def __init__(self, sources: Sequence[str], suffix: str = "", wait: float = 0.0) -> None:
        if "/" in suffix:
            raise UsageError(f"{suffix!r}: a backup's suffix holds no /; it stays in the file's directory")
        for source in sources:
            if source == "-":
                raise UsageError(
                    f"stdin cannot be replaced in place; use {setting('output', 'FILE')}, or name the input"
                )
            if not stat.S_ISREG(_input_status(source).st_mode):
                raise UsageError(f"{one_line(source)}: is no regular file, and cannot be replaced in place")
            _refuse_unwritable(_real(Path(source)).parent)
        super().__init__([(source, Path(source)) for source in sources], wait, suffix)
        for source in sources if suffix else ():  # and once more when it takes its name
            refuse_other_backup(Path(source), backup_path(Path(source), suffix))
        # Not before: whoever wrote one of them may have been waited for.
        self._states = {Path(source): _state(_input_status(source)) for source in sources}

    def _make_way(self, source: Path) -> None:
        def check() -> None:
            try:
                unchanged = _state(source.stat()) == self._states[source]
            except OSError:
                unchanged = False
            if not unchanged:
                raise InputError(f"{one_line(source)}: was changed while it was read; run again when it is complete")

        check()
        if self._suffix:
            back_up(_real(source), backup_path(source, self._suffix), check)


def _real(path: Path) -> Path:
    """Return where a symbolic link leads, a path that need not exist."""
    return Path(os.path.realpath(path))


def _state(status: os.stat_result) -> tuple[int, int, int]:
    """Return what changes when somebody writes to a file, or replaces it."""
    return status.st_ino, status.st_size, status.st_mtime_ns


def _input_status(source: str) -> os.stat_result:
    try:
        return Path(source).stat()
    except OSError as error:
        raise InputUnreadable(f"{one_line(source)}: cannot be read: {error.strerror}") from error


def _refuse_unwritable(directory: Path) -> None:
    if not os.access(directory, os.W_OK | os.X_OK):
        raise OutputUncreatable(f"{one_line(directory)}: may not be written to")


def _refuse_irregular(path: Path) -> None:
    try:
        status = path.lstat()
    except FileNotFoundError:
        return
    except OSError as error:
        raise OutputUncreatable(f"{one_line(path)}: cannot be created: {error.strerror}") from error
    if not stat.S_ISREG(status.st_mode):
        raise OutputUncreatable(f"{one_line(path)}: is in the way, and no regular file; remove it first")
