"""Replies that have come and are not taken in yet: a signal finds each of them here, or taken in as a whole."""

from __future__ import annotations

from collections import deque
from collections.abc import Callable

from llmpar.answering.backend import Backend, Reply
from llmpar.interrupts import shielded


class Arrivals:
    """What a backend has said."""

    def __init__(self) -> None:
        self._replies: deque[Reply] = deque()

    def receive(self, backend: Backend, timeout: float) -> bool:
        """Wait up to `timeout` seconds for a reply, and have what has come; return whether there is any."""
        with shielded():
            if (reply := backend.collect(timeout)) is not None:
                self._replies += [reply, *backend.drain()]
        return bool(self._replies)

    def take(self, into: Callable[[Reply], None], last: Backend | None = None) -> None:
        """Let all be taken in, and what came at last of a backend that is closed."""
        with shielded():
            self._replies += last.drain() if last else ()
            while self._replies:
                into(self._replies.popleft())

    def forget(self) -> None:
        """Have none of them."""
        self._replies.clear()
