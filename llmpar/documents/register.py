"""The register of a run's files: what is written is no file that is also read, or written under another name.

Every path is entered before the first of them is opened. What is one file is decided by device and inode, so that no
link, mount or /proc hides it; what is not there yet is known by its directory and name.
"""

from __future__ import annotations

import os
import re
import stat
import sys
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass
from enum import Enum
from pathlib import Path
from typing import Any

from llmpar.documents.destination import backup_path, temporary_path
from llmpar.documents.folders import Folders
from llmpar.errors import UsageError, setting
from llmpar.visible import one_line

_DESCRIPTOR = re.compile(r"/dev/(?:(stdin|stdout|stderr)|fd/(\d+))|/proc/(?:self|thread-self|(\d+))/fd/(\d+)")
_STANDARD = ("stdin", "stdout", "stderr")

_Identity = tuple[object, ...]


class _Use(Enum):
    IDLE = "an open file"  # the shell opened it for us, and we have no use for it
    READ = "an input"
    WRITTEN = "an output"


@dataclass(frozen=True, slots=True, eq=False)
class _Owner:
    """What has several files that may be one: a store, or a document that is replaced.

    Args:
        document: the name of the document; "" for what is none.
        file: the document's.
    """

    document: str = ""
    file: _Identity = ()


@dataclass(frozen=True, slots=True)
class _Entry:
    """One file of the run.

    Args:
        name: its option; "" for a document.
        place: its path as the user knows it.
        use: what is done with it.
        label: what it is to the user.
        owner: entries of one owner may be one file.
        descriptor: through which open file of ours it is written; what goes through one is in nobody's way.
    """

    name: str
    place: str
    use: _Use
    label: str = ""
    owner: _Owner | None = None
    descriptor: int | None = None

    @property
    def shown(self) -> str:
        return f"{self.name} {self.place}".strip(" ")

    @property
    def described(self) -> str:
        return f"{self.label or self.use.value} ({self.shown})"


class Register:
    """The files of one run. Each method enters some, and raises UsageError if one must not be what another is."""

    def __init__(self) -> None:
        self._entries: dict[_Identity, list[_Entry]] = {}
        self._trees: dict[_Identity, tuple[Path, str]] = {}
        self._reads_stdin = False
        self.has_documents = False
        self.folders = Folders()
        """What was found in folders among the inputs."""

    def read(self, path: str | Path, name: str = "") -> None:
        """Enter a file that is read.

        Args:
            path: it need not be there.
            name: its option.
        """
        self._enter(path, _Entry(name, one_line(path), _Use.READ))

    def written(self, path: Path, name: str) -> None:
        """Enter a file or device that is written as it is; what is in it is lost."""
        self._enter(path, _Entry(name, one_line(path), _Use.WRITTEN, descriptor=own_descriptor(path)))

    def replaced(self, path: Path, name: str, label: str = "") -> None:
        """Enter a file that is replaced when a new one is complete, with the temporary one beside it."""
        self._enter(path, _Entry(name, one_line(path), _Use.WRITTEN, label))
        self._enter_temporary(path, name)

    def documents(self, sources: Sequence[str], backups: str | None = None, name: str = "") -> None:
        """Enter the inputs.

        Args:
            sources: paths, "-" for stdin.
            backups: the inputs are replaced, and kept under names with this at the end, unless it is "".
            name: the option that names them, if they are no arguments.
        """
        if sources.count("-") > 1:
            raise UsageError("stdin can be read only once; name - one time")
        self._reads_stdin = self._reads_stdin or "-" in sources
        self.has_documents = self.has_documents or bool(sources)
        paths = [source for source in sources if source != "-"]
        if backups is None:
            for path in paths:
                self.read(path, name)
            return
        owners = [_Owner(one_line(path), _identify(path)[0]) for path in paths]
        for path, owner in zip(paths, owners, strict=True):
            self._enter(path, _Entry(name, one_line(path), _Use.WRITTEN, _Use.READ.value, owner))
        for path, owner in zip(paths, owners, strict=True):
            self._enter_temporary(path, name, owner)
            if backups:
                backup = backup_path(Path(path), backups)
                self._enter(backup, _Entry(setting("in_place"), one_line(backup), _Use.WRITTEN, owner=owner))
                self._enter_temporary(backup, setting("in_place"), owner)

    def destinations(self, places: Sequence[tuple[str, Path]], name: str) -> None:
        """Enter the files that documents become: each document with its file."""
        for source, path in places:
            owner = _Owner(one_line(source), _identify(source)[0])
            self._enter(path, _Entry(name, one_line(path), _Use.WRITTEN, owner=owner))
            self._enter_temporary(path, name, owner)

    def stores(self, paths: Sequence[tuple[str, Path]], companions: Callable[[Path], Iterable[Path]]) -> None:
        """Enter databases, some of which may be one.

        Args:
            paths: each with its option.
            companions: returns the files that are kept beside one.
        """
        owner = _Owner()
        for name, path in paths:
            self._enter(path, _Entry(name, one_line(path), _Use.WRITTEN, "the store", owner))
            for companion in companions(path):
                named = f"{name} {one_line(path)}, with"
                self._enter(companion, _Entry(named, one_line(companion), _Use.WRITTEN, "a part of the store", owner))

    def tree(self, directory: Path, label: str) -> None:
        """Enter a directory in which a run may write nothing that it was told to; before what is written."""
        identity, mode = _identify(directory)
        if mode is not None and stat.S_ISDIR(mode):
            self._trees[identity] = (directory, label)

    def streams(self, *, writes_stdout: bool) -> None:
        """Enter stdin, stdout and stderr; the last, for what is done with stdin depends on the documents.

        Args:
            writes_stdout: whether it takes what the run makes, which nothing else may then be mixed with.
        """
        shell = _Owner()  # `> FILE 2>&1` is what everybody writes
        entries = (
            _Entry("stdin", "", _Use.READ if self._reads_stdin else _Use.IDLE),
            _Entry("stdout", "", _Use.WRITTEN, owner=shell)
            if writes_stdout
            else _Entry("stdout", "", _Use.IDLE, owner=shell, descriptor=1),
            _Entry("stderr", "", _Use.WRITTEN, owner=shell, descriptor=2),
        )
        for entry in entries:
            if status := _stream_status(getattr(sys, entry.name)):
                self._add((status.st_dev, status.st_ino), status.st_mode, entry)

    def _enter_temporary(self, path: str | Path, name: str, owner: _Owner | None = None) -> None:
        temporary = temporary_path(Path(os.path.realpath(path)))
        name = f"{name} {one_line(path)}, its temporary file".strip()
        self._enter(temporary, _Entry(name, one_line(temporary), _Use.WRITTEN, owner=owner))

    def _enter(self, path: str | Path, entry: _Entry) -> None:
        if entry.use is _Use.WRITTEN:
            self._refuse_inside(path, entry)
        self._add(*_identify(path), entry)

    def _add(self, identity: _Identity, mode: int | None, entry: _Entry) -> None:
        others = self._entries.setdefault(identity, [])
        for other in others:
            if _must_differ(mode, other, entry):
                raise UsageError(_refusal(other, entry))
        others.append(entry)

    def _refuse_inside(self, path: str | Path, entry: _Entry) -> None:
        """Refuse to write where only llmpar itself may, also through a hard link."""
        for parent in Path(os.path.realpath(path)).parents if self._trees else ():
            if found := self._trees.get(_identify(parent)[0]):
                raise UsageError(f"{entry.shown}: is in {found[1]} ({one_line(found[0])}); name another file")
        try:
            status = Path(path).stat()
        except (OSError, ValueError):
            return
        if stat.S_ISREG(status.st_mode) and status.st_nlink > 1:
            for tree, label in self._trees.values():
                for file in tree.rglob("*"):
                    if _identify(file)[0] == (status.st_dev, status.st_ino):
                        raise UsageError(
                            f"{entry.shown}: is also a file of {label} ({one_line(file)}); name another file"
                        )


def own_descriptor(path: str | Path) -> int | None:
    """Return the number of the open file of ours that a path such as /dev/stderr stands for, None for other paths."""
    match = _DESCRIPTOR.fullmatch(str(path))
    if not match or (match[3] and int(match[3]) != os.getpid()):
        return None
    return _STANDARD.index(match[1]) if match[1] else int(match[2] or match[4])


def _identify(path: str | Path) -> tuple[_Identity, int | None]:
    """Return what all names of a file have in common, and its mode; None for what is not there."""
    try:
        status = Path(path).stat()
    except (OSError, ValueError):
        pass
    else:
        return (status.st_dev, status.st_ino), status.st_mode
    try:
        real = Path(os.path.realpath(path))
        parent = real.parent.stat()
    except OSError:
        return (str(real),), None
    except ValueError:  # no name of a file
        return (str(path),), None
    return (parent.st_dev, parent.st_ino, real.name), None


def _stream_status(stream: Any) -> os.stat_result | None:
    try:
        return os.fstat(stream.fileno())
    except (OSError, ValueError, AttributeError):  # it is closed, or an object that stands for one in a test
        return None


def _must_differ(mode: int | None, one: _Entry, other: _Entry) -> bool:
    """Return whether two entries must not be the file that they are."""
    if (one.owner and one.owner is other.owner) or (one.descriptor is not None and one.descriptor == other.descriptor):
        return False
    uses = {one.use, other.use}
    if mode is None or stat.S_ISREG(mode):
        return _Use.WRITTEN in uses
    # What goes through a pipe is there for one reader. Several may write to it, as to any device.
    return stat.S_ISFIFO(mode) and _Use.READ in uses and _Use.IDLE not in uses


def _refusal(one: _Entry, other: _Entry) -> str:
    if one.owner and other.owner and one.owner.document and other.owner.document:
        names = f"{one.owner.document} and {other.owner.document}"
        if one.owner.file == other.owner.file:
            return f"{names}: are one file, which is named twice; name it one time"
        return f"{names}: both would become {other.place}; name only one of them"
    if one.use is _Use.WRITTEN and other.use is not _Use.WRITTEN:
        one, other = other, one
    remedy = "name another file" if other.use is _Use.WRITTEN else "a pipe can be read only once"
    return f"{other.shown}: is also {one.described}; {remedy}"
