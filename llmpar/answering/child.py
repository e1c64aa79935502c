"""A process that serves a part of our queries (`serving.py`): it is started, written to, listened to, and ended."""

from __future__ import annotations

import contextlib
import os
import queue
import subprocess
import sys
import threading
from collections.abc import Callable
from multiprocessing import Pipe
from multiprocessing.connection import Connection

from llmpar.answering.link import Events, write_frames
from llmpar.answering.wire import Message, Opening, OpenPart, Preparing
from llmpar.errors import ModelUnavailable, is_told_in_shell

_ENDING = 2.0  # seconds that a process which was killed has to end: a driver may hold it for a while


class Child:
    """One process on this machine, as a `Link`.

    It ends when this process does, however that ends: its end of the pipe is the only other one.

    Args:
        name: what people know it by.
        events: the queue, which it may share with others.
        prepare: what it does before it knows what to open; it can be pickled. None for nothing.

    Raises:
        ModelUnavailable: it cannot be started.
    """

    place = ""

    def __init__(self, name: str, events: Events, prepare: Callable[[], None] | None = None) -> None:
        self.name = name
        self._outbox: queue.SimpleQueue[Message | None] = queue.SimpleQueue()
        mine, its = Pipe()
        # With our path, and not with what an interpreter thinks of: the current directory comes first there.
        code = (
            f"import sys; sys.path[:] = {sys.path!r}; from multiprocessing.connection import Connection; "
            f"from llmpar.answering.serving import serve; serve(Connection({its.fileno()}))"
        )
        try:
            with its:
                self._process = subprocess.Popen(
                    [sys.executable, "-c", code],
                    stdin=subprocess.DEVNULL,
                    stdout=subprocess.DEVNULL,
                    stderr=None if os.environ.get("LLMPAR_DEBUG") else subprocess.DEVNULL,
                    pass_fds=[its.fileno()],
                    start_new_session=True,  # signals of the terminal are for this process alone
                )
        except OSError as error:
            mine.close()
            raise ModelUnavailable(f"{name}: its process cannot be started: {error.strerror or error}") from error
        # A thread writes, so that one that does not read keeps nobody else.
        threading.Thread(
            target=write_frames, args=(mine.send, self._outbox), name="llmpar-queries", daemon=True
        ).start()
        self._listener = threading.Thread(target=_listen, args=(self, mine, events), name="llmpar-answers", daemon=True)
        self._listener.start()
        if prepare:
            self.send(Preparing(prepare))

    @property
    def process_id(self) -> int:
        """The process's."""
        return self._process.pid

    def open(self, open_part: OpenPart) -> None:
        """Let it open what it is to serve; queries may follow at once."""
        self.send(Opening(open_part, is_told_in_shell()))

    def send(self, message: Message) -> None:
        """Let it have a message; to one that is gone, nothing happens."""
        self._outbox.put(message)

    def kill(self) -> None:
        """Let it end now. What it had sent still comes to the queue, and then that it is gone."""
        self._process.kill()
        self._outbox.put(None)

    def end(self) -> str:
        """Kill it if it still runs, wait for that, and return how it ended."""
        with contextlib.suppress(subprocess.TimeoutExpired):
            self._process.wait(0.1)  # who closed the pipe ends by itself, and then has a code
        self.kill()
        with contextlib.suppress(subprocess.TimeoutExpired):
            self._process.wait(_ENDING)
        self._listener.join(_ENDING)
        code = self._process.returncode
        return "hangs" if code is None else f"was ended by signal {-code}" if code < 0 else f"ended with code {code}"


def _listen(child: Child, connection: Connection, events: Events) -> None:
    try:
        with contextlib.suppress(EOFError, OSError):
            while True:
                events.put((child, connection.recv()))
    finally:
        events.put((child, None))
