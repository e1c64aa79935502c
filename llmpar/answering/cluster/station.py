"""What stands on a node of a cluster: it starts a process there, and passes on what is said to it and by it.

Knows no Ray, which makes an actor of it. The process is the one that each GPU of a single machine has
(`answering/serving.py`); it ends with whoever runs this, as its pipe does.
"""

from __future__ import annotations

import hashlib
import platform
import queue
import socket
from collections.abc import Sequence
from dataclasses import dataclass
from functools import cache
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path

import llmpar
from llmpar.answering.child import Child
from llmpar.answering.link import Events
from llmpar.answering.wire import Message, Report

_LISTENING = 2.0  # seconds until whoever listens is told that there is nothing
_DECIDING = ("torch", "transformers", "tokenizers", "numba", "llguidance")  # an answer may depend on their versions


@dataclass(frozen=True, slots=True)
class Place:
    """Where a station stands, and with what.

    Args:
        host: the machine's name.
        process_id: of the process that computes there.
        code: see `code_digest`.
        versions: of the libraries that an answer may depend on, by their names.
    """

    host: str
    process_id: int
    code: str
    versions: tuple[tuple[str, str], ...]


@dataclass(frozen=True, slots=True)
class Heard:
    """What the process has said since the last time, and how it ended; None while it goes on."""

    reports: tuple[Report, ...] = ()
    end: str | None = None


class Station:
    """Starts one process, and is its post. One thread may send while another listens.

    Args:
        name: what people know the process by.
    """

    def __init__(self, name: str) -> None:
        self._events: Events = queue.SimpleQueue()
        self._child = Child(name, self._events)

    def place(self) -> Place:
        """Return where it stands."""
        return Place(socket.gethostname(), self._child.process_id, code_digest(), versions())

    def send(self, messages: Sequence[Message]) -> None:
        """Let the process have messages, in this order."""
        for message in messages:
            self._child.send(message)

    def listen(self) -> Heard:
        """Return what the process says, having waited a while for it."""
        reports: list[Report] = []
        try:
            _, report = self._events.get(timeout=_LISTENING)
            while report is not None:
                reports.append(report)
                _, report = self._events.get_nowait()
        except queue.Empty:
            return Heard(tuple(reports))
        return Heard(tuple(reports), self._child.end())


@cache
def code_digest() -> str:
    """Return a hash of all of llmpar's modules, with which each node computes."""
    digest, root = hashlib.sha256(), Path(llmpar.__file__).parent
    for path in sorted(root.rglob("*.py"), key=lambda path: path.relative_to(root).as_posix()):
        content = path.read_bytes()
        digest.update(f"{path.relative_to(root).as_posix()}\0{len(content)}\0".encode() + content)
    return digest.hexdigest()


@cache
def versions() -> tuple[tuple[str, str], ...]:
    """Return the versions of the libraries that an answer may depend on, and Python's."""
    return (("Python", platform.python_version()), *((name, _version(name)) for name in _DECIDING))


def _version(name: str) -> str:
    try:
        return version(name)
    except PackageNotFoundError:
        return "missing"
