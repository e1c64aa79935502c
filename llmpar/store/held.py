"""A store's file as the system sees it: what is at its path, and whether it still is. Knows no SQLite."""

from __future__ import annotations

import os
import stat
import threading
import time
from collections.abc import Callable
from pathlib import Path

from llmpar.errors import StoreUnusable, setting
from llmpar.visible import one_line

_COMPANIONS = ("-wal", "-shm", "-journal")
_LOOKS, _MOMENT = 20, 0.05  # seconds
_Identity = tuple[int, int]  # device and inode

_lock = threading.Lock()
_descriptors: dict[_Identity, list[int]] = {}
_num_users: dict[_Identity, int] = {}


def instead() -> str:
    """Return what whoever asked can do where a store cannot be used."""
    return f"take another ({setting('store', 'PATH')}) or none ({setting('store', 'False', option='--no-store')})"


class HeldFile:
    """A store's file, opened to be looked at, and held until it is no longer in use.

    When a process closes any descriptor of a file, it loses all its locks on it, those of SQLite too: another process
    may then take away the log in which this one goes on to write. So all descriptors of a file are closed together,
    when nobody in this process uses it any longer.

    Args:
        path: the file.

    Raises:
        OSError: it cannot be opened.
        StoreUnusable: it, or one of the files that SQLite keeps beside it, is no regular file, or has another name.
    """

    def __init__(self, path: Path) -> None:
        self._path = path
        self._log: _Identity | None = None
        descriptor = os.open(path, os.O_RDONLY | os.O_CLOEXEC | os.O_NONBLOCK)  # a pipe is not waited for
        self._descriptor = descriptor
        self._is_held = True
        self.identity = _identity(os.fstat(descriptor))
        with _lock:
            _descriptors.setdefault(self.identity, []).append(descriptor)
            _num_users[self.identity] = _num_users.get(self.identity, 0) + 1
        try:
            self._check_kinds()
        except BaseException:
            self.close()
            raise

    def header(self, length: int) -> bytes:
        """Return its first bytes."""
        return os.pread(self._descriptor, length, 0)

    @property
    def size(self) -> int:
        """Its length in bytes."""
        return os.fstat(self._descriptor).st_size

    def note_log(self) -> None:
        """Take note of which file SQLite writes its log to, now that it is open."""
        self._log = _identity_at(self._beside("-wal"))

    def check_in_place(self) -> None:
        """Raise StoreUnusable when the file, or its log, is no longer what its path leads to."""
        if _identity_at(self._path) != self.identity:
            lost = "was deleted, moved or replaced"
        elif self._log is not None and _identity_at(self._beside("-wal")) != self._log:
            lost = "lost its log (-wal)"
        else:
            return
        raise StoreUnusable(
            f"store {one_line(self._path)}: {lost} during the run, so nothing says that what it was given is kept; run "
            "the same command again, and let nobody touch a store that is in use"
        )

    def close(self) -> None:
        """Use it no longer."""
        with _lock:
            if not self._is_held:
                return
            self._is_held = False
            _num_users[self.identity] -= 1
            if _num_users[self.identity]:
                return
            del _num_users[self.identity]
            for descriptor in _descriptors.pop(self.identity):
                os.close(descriptor)

    def _check_kinds(self) -> None:
        if not stat.S_ISREG(os.fstat(self._descriptor).st_mode):
            raise self._refused(self._path, "is no regular file")
        # SQLite keeps a log beside each name, and whoever opens the other one writes over what is in this one's.
        if not _comes_true(lambda: os.fstat(self._descriptor).st_nlink <= 1):
            raise self._refused(self._path, "has another name, too (a hard link), of which a copy would be no danger")
        for beside in companions(self._path):
            try:
                status = beside.lstat()
            except FileNotFoundError:
                continue
            # SQLite would write to whatever they lead to.
            if not stat.S_ISREG(status.st_mode):
                raise self._refused(beside, "is no regular file")
            if status.st_nlink != 1:
                raise self._refused(beside, "has another name, too")

    def _refused(self, path: Path, reason: str) -> StoreUnusable:
        what = f"store {one_line(self._path)}: {one_line(path)} {reason}"
        return StoreUnusable(f"{what}; it is left as it is: move it away, or {instead()}")

    def _beside(self, suffix: str) -> Path:
        # SQLite follows links, and keeps these files beside what they lead to.
        return Path(os.path.realpath(self._path) + suffix)


def companions(path: Path) -> list[Path]:
    """Return the files that SQLite keeps beside a database while it is in use."""
    real = os.path.realpath(path)  # SQLite follows links, and keeps them beside what they lead to
    return [Path(f"{real}{suffix}") for suffix in _COMPANIONS]


def _comes_true(condition: Callable[[], bool]) -> bool:
    """Return whether something is so, now or in a moment: whoever makes a store gives it two names at first."""
    for _ in range(_LOOKS):
        if condition():
            return True
        time.sleep(_MOMENT)
    return condition()


def _identity(status: os.stat_result) -> _Identity:
    return status.st_dev, status.st_ino


def _identity_at(path: Path) -> _Identity | None:
    try:
        return _identity(path.stat())
    except (FileNotFoundError, NotADirectoryError):
        return None
