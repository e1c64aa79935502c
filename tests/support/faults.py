"""What can go wrong while a file is written, one step at a time."""

from __future__ import annotations

import errno
import io
import os
import signal
import stat
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from llmpar import interrupts
from llmpar.errors import Interrupted


def full() -> None:
    raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))


def interrupt() -> None:
    """Let a signal come."""
    interrupts._interrupt(Interrupted(signal.SIGINT))


class Faults:
    """Makes the n-th step fail, of all that write to a disk.

    Args:
        n: counted from 1.
        fault: what happens before the step.
        broken: every step after it fails, too.
        only: the one kind of step that is meant.
    """

    def __init__(self, n: int, fault: Callable[[], None] = full, broken: bool = False, only: str | None = None) -> None:
        self.failed: str | None = None
        self.done: list[str] = []
        self._left = n
        self._fault = fault
        self._broken = broken
        self._only = only

    def install(self, patch: pytest.MonkeyPatch, opening: bool = False) -> None:
        """Stand between the program and the system; count `opening` a file, too."""
        real = os.fdopen

        class Raw(io.FileIO):
            write = self._wrap(io.FileIO.write, "write")

        def fdopen(descriptor: int, mode: str) -> Any:
            assert mode == "wb"
            real(descriptor, mode, closefd=False).close()
            return io.BufferedWriter(Raw(descriptor, "w"))

        patch.setattr(os, "fdopen", fdopen)
        patch.setattr(os, "fsync", self._wrap(os.fsync, "fsync"))
        patch.setattr(os, "fchmod", self._wrap(os.fchmod, "fchmod"))
        patch.setattr(os, "link", self._wrap(os.link, "link"))
        patch.setattr(Path, "replace", self._wrap(Path.replace, "replace"))
        if opening:
            patch.setattr(os, "open", self._wrap(os.open, "open"))

    def _wrap(self, function: Callable[..., Any], name: str) -> Callable[..., Any]:
        def step(*arguments: Any) -> Any:
            kind = name
            if name == "fsync" and stat.S_ISDIR(os.fstat(arguments[0]).st_mode):
                kind = "fsync of a directory"
            if name == "open" and not arguments[1] & os.O_CREAT:
                return function(*arguments)
            if self._only in (None, kind):
                self._left -= 1
                if self._left == 0 or (self._broken and self._left < 0):
                    self.failed = self.failed or kind
                    self._fault()
            result = function(*arguments)
            self.done.append(kind)
            return result

        return step
