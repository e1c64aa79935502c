"""What answers rest on: the files of a loaded model, hashed while the first steps are computed, and watched after that.

An answer counts when `confirm` has returned since it was computed. Knows no model and no store.
"""

from __future__ import annotations

import os
import threading
import weakref
from dataclasses import dataclass
from pathlib import Path

from llmpar.errors import EngineFailed, KeptDamaged
from llmpar.integrity.checksums import checksum_of


@dataclass(eq=False, slots=True)
class _Watched:
    """An open file, and what it looked like before anything was taken from it.

    `expected` is the checksum of its bytes from `start` on, None where nobody knows it.
    """

    path: Path
    source: int
    start: int
    expected: str | None
    is_weights: bool
    content: tuple[int, int]  # size and time of the last change
    attributes: int  # time of the last change of anything, such as its name
    found: str | None = None


class Foundation:
    """The files that a model's answers rest on. For one thread.

    Args:
        is_mapped: whether weights are read from their file during the whole run, and not copied at its start.
    """

    def __init__(self, *, is_mapped: bool = True) -> None:
        self.damage: KeptDamaged | None = None
        """What was found wrong, once it was."""
        self._is_mapped = is_mapped
        self._is_confirmed = False
        self._files: list[_Watched] = []
        self._hashed = threading.Event()
        self._thread: threading.Thread | None = None

    def add(
        self, path: Path, expected: str | None, *, is_weights: bool, source: int | None = None, start: int = 0
    ) -> None:
        """Watch a file, from before it is used.

        Args:
            path: the file.
            expected: the checksum of its bytes from `start` on; None if it was never known, and all that can be told
                is whether the file changes.
            is_weights: whether it holds weights, which can be loaded again; else its use is over before answers come.
            source: a descriptor of the file as it is used, if it is open already.
            start: where the bytes of the checksum begin.

        Raises:
            OSError: it cannot be opened.
        """
        own = os.open(path, os.O_RDONLY | os.O_CLOEXEC) if source is None else os.dup(source)
        # At the end of the program the system closes it: a generator that nobody closed may still look at it then.
        weakref.finalize(self, os.close, own).atexit = False
        status = os.fstat(own)
        content = (status.st_size, status.st_mtime_ns)
        self._files.append(_Watched(path, own, start, expected, is_weights, content, status.st_ctime_ns))

    def begin(self) -> None:
        """Begin to hash, on a thread of its own."""
        self._thread = threading.Thread(
            target=_hash, args=(self._files, self._hashed), name="llmpar-checksums", daemon=True
        )
        self._thread.start()

    def confirm(self) -> None:
        """Wait for the checksums, and tell that all files are, and were since they were added, what was written.

        Raises:
            KeptDamaged: weights are not, and nothing was confirmed before, so that loading them again mends it.
            EngineFailed: a file was changed while it was in use.
        """
        if self.damage:
            raise self.damage
        if self._is_confirmed and not self._files:
            return
        if self._thread is None:
            _hash(self._files, self._hashed)
        self._hashed.wait()
        for file in self._files:
            self._check(file)
        if not self._is_confirmed:
            self._is_confirmed = True
            self._files = [file for file in self._files if file.is_weights and self._is_mapped]

    def note_damage(self, damage: KeptDamaged) -> None:
        """Take note of what another process found, whose answers rest on the same files."""
        self.damage = damage

    def holds(self) -> bool:
        """Tell whether `confirm` would return now, without waiting for it."""
        if self._thread and not self._hashed.is_set():
            return False
        try:
            self.confirm()
        except EngineFailed:
            return False
        return True

    def _check(self, file: _Watched) -> None:
        status = os.fstat(file.source)
        if (status.st_size, status.st_mtime_ns) != file.content:
            raise _changed(file)
        if status.st_ctime_ns != file.attributes:
            # Another name, owner or mode, or none of these: only the content tells.
            file.found, file.attributes = _digest(file), status.st_ctime_ns
        if file.found != file.expected:
            if self._is_confirmed or not file.is_weights:
                raise _changed(file)
            self.damage = KeptDamaged(f"{str(file.path)!r} was altered since it was written")
            raise self.damage


def _hash(files: list[_Watched], hashed: threading.Event) -> None:
    for file in files:
        file.found = _digest(file)
    hashed.set()


def _digest(file: _Watched) -> str | None:
    try:
        return file.expected and checksum_of(file.source, file.start)
    except OSError as error:  # a disk that cannot read what it holds has no good copy of it
        return f"unreadable: {error.strerror}"


def _changed(file: _Watched) -> EngineFailed:
    return EngineFailed(
        f"{str(file.path)!r} was changed while it was in use; nothing that was computed from it since is kept; "
        "run again"
    )
