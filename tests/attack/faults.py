"""Every step of a run that touches a disk or stdout, counted, and what happens at one of them."""

from __future__ import annotations

import errno
import fcntl
import io
import os
import signal
import sqlite3
import stat
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

Fault = Callable[[str], None]
"""Happens before a step of the kind that it is given, of "file" or "store"."""


def full(kind: str) -> None:
    """The disk is full."""
    if kind == "store":
        raise sqlite3.OperationalError("database or disk is full")
    raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))


def broken(kind: str) -> None:
    """The disk is broken."""
    if kind == "store":
        raise sqlite3.OperationalError("disk I/O error")
    raise OSError(errno.EIO, os.strerror(errno.EIO))


def killed(kind: str) -> None:
    os.kill(os.getpid(), signal.SIGKILL)


def interrupted(kind: str) -> None:
    os.kill(os.getpid(), signal.SIGINT)


def ended(kind: str) -> None:
    os.kill(os.getpid(), signal.SIGTERM)


FAULTS: dict[str, Fault] = {fault.__name__: fault for fault in (full, broken, killed, interrupted, ended)}


class Steps:
    """Counts steps, and lets a fault happen before the n-th.

    Args:
        n: counted from 1; 0 for none.
        fault: what happens.
        lasting: it happens before all later steps, too.
        note: takes a line that names the step at which it first happens, or the number of all, at the end.
    """

    def __init__(self, n: int, fault: Fault, note: Path, lasting: bool = False) -> None:
        self._left = n
        self._fault = fault
        self._lasting = lasting
        self._note = note
        self._open, self._write, self._close = os.open, os.write, os.close  # they may be replaced below

    def install(self) -> None:
        """Stand between this process and the system, to its end."""
        step, count, fdopen, open_path = self._step, self._counted, os.fdopen, Path.open

        class Raw(io.FileIO):
            def write(self, data: Any) -> int:
                step(f"write {_name(self.fileno())}")
                return super().write(data)

            def truncate(self, size: int | None = None) -> int:
                step(f"truncate {_name(self.fileno())}")
                return super().truncate(size)

        class Connection(sqlite3.Connection):
            def execute(self, query: str, *values: Any) -> sqlite3.Cursor:
                step(f"{query.split(None, 1)[0]} store", "store")
                return super().execute(query, *values)

            def executemany(self, query: str, values: Any) -> sqlite3.Cursor:
                step(f"{query.split(None, 1)[0]} store", "store")
                return super().executemany(query, values)

            def executescript(self, script: str) -> sqlite3.Cursor:
                step("create store", "store")
                return super().executescript(script)

        def opened(path: Path, mode: str = "r", buffering: int = -1, *more: Any, **named: Any) -> Any:
            if "w" not in mode:
                return open_path(path, mode, buffering, *more, **named)
            assert mode == "wb"
            step(f"open {path.name}")
            raw = Raw(path, "w")
            return raw if buffering == 0 else io.BufferedWriter(raw)

        def from_descriptor(descriptor: int, mode: str = "r", *more: Any, **named: Any) -> Any:
            if mode != "wb":
                return fdopen(descriptor, mode, *more, **named)
            return io.BufferedWriter(Raw(descriptor, "w"))

        connect = sqlite3.connect

        def connected(*arguments: Any, **named: Any) -> sqlite3.Connection:
            step("connect store", "store")
            return connect(*arguments, factory=Connection, **named)

        Path.open = opened  # type: ignore[method-assign, assignment]
        os.fdopen = from_descriptor  # type: ignore[assignment]
        sqlite3.connect = connected  # type: ignore[assignment]
        for owner, function in (
            *((os, name) for name in ("fsync", "fchmod", "fchown", "link", "open", "mkdir")),
            *((Path, name) for name in ("replace", "rename", "hardlink_to", "unlink", "mkdir")),
            (fcntl, "flock"),
        ):
            setattr(owner, function, count(function, getattr(owner, function)))
        sys.stdout = io.TextIOWrapper(io.BufferedWriter(Raw(1, "w", closefd=False)), encoding="utf-8")

    def _counted(self, name: str, function: Callable[..., Any]) -> Callable[..., Any]:
        def counted(*arguments: Any, **named: Any) -> Any:
            if name == "open" and not arguments[1] & os.O_CREAT:
                return function(*arguments, **named)
            self._step(f"{name} {_name(arguments[0])}")
            return function(*arguments, **named)

        return counted

    def _step(self, what: str, kind: str = "file") -> None:
        self._left -= 1
        if self._left == 0:
            self._tell(what)
        if self._left == 0 or (self._lasting and self._left < 0):
            self._fault(kind)

    def _tell(self, what: str) -> None:
        descriptor = self._open(self._note, os.O_WRONLY | os.O_CREAT | os.O_TRUNC, 0o600)
        self._write(descriptor, os.fsencode(what))
        self._close(descriptor)


def _name(place: object) -> str:
    """Return the last part of a path, also of a file that is known by its descriptor."""
    if isinstance(place, int):
        if place == 1:
            return "stdout"
        directory = "directory " if stat.S_ISDIR(os.fstat(place).st_mode) else ""
        return directory + Path(os.readlink(f"/proc/self/fd/{place}")).name  # noqa: PTH115
    return Path(os.fsdecode(place)).name  # type: ignore[arg-type]
