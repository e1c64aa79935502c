"""The process that serves a part of another's queries: it opens a backend, answers, and ends with whoever started it.

`child.py` starts it. It does nothing of its own accord: what goes wrong is told, and the other process decides.
"""

from __future__ import annotations

import contextlib
import gc
import os
import queue
import signal
import sys
import threading
import time
import traceback
from array import array
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from multiprocessing.connection import Connection

from llmpar.answering.local import LocalBackend
from llmpar.answering.wire import (
    ID,
    KINDS,
    Answered,
    Asked,
    Consulting,
    End,
    Ended,
    Failed,
    Found,
    Handed,
    Message,
    Opened,
    Opening,
    Part,
    Preparing,
    Report,
    Said,
)
from llmpar.engine.model import DeviceFull
from llmpar.engine.request import Completion
from llmpar.engine.worker import WorkerStatus
from llmpar.errors import EngineFailed, LlmparError, told_in_shell

_HEARTBEAT = 0.5  # seconds between signs of life
_GATHER = 0.005  # seconds in which replies are gathered for one message, which costs as much as several replies
_LOOK = 0.05  # seconds without a reply, after which there may be something else to do
_GARBAGE = 50_000  # objects more, before any is looked for that nothing needs
_SWITCH = 0.0005  # seconds that a thread may keep Python's lock from the engine's, which wants it after every step


@dataclass(slots=True)
class _Line:
    """The way to whoever asks, for several threads; it is the watcher, too."""

    connection: Connection
    statuses: Callable[[], Sequence[WorkerStatus]] = tuple
    _lock: threading.Lock = field(default_factory=threading.Lock)
    _begun: queue.SimpleQueue[list[int]] = field(default_factory=queue.SimpleQueue)

    def send(self, report: Report) -> None:
        # One who is gone does not listen, and the thread that listens here ends this process.
        with self._lock, contextlib.suppress(OSError):
            self.connection.send(report)
        self._send_begun()

    def begin(self, numbers: list[int]) -> None:
        """Tell which queries begin; if somebody is sending, that thread does it next, as an engine waits for nobody."""
        self._begun.put(numbers)
        self._send_begun()

    def _send_begun(self) -> None:
        while not self._begun.empty() and self._lock.acquire(blocking=False):
            try:
                with contextlib.suppress(queue.Empty, OSError):
                    self.connection.send(Answered(begun=array(ID, self._begun.get_nowait())))
            finally:
                self._lock.release()

    def doing(self, what: str) -> None:
        self.send(Said("doing", what))

    def remark(self, message: str) -> None:
        self.send(Said("remark", message))

    def warn(self, message: str) -> None:
        self.send(Said("warn", message))

    def watch(self, statuses: Callable[[], Sequence[WorkerStatus]]) -> None:
        self.statuses = statuses

    def beat(self) -> None:
        while True:
            time.sleep(_HEARTBEAT)
            self.send(Answered(statuses=tuple(self.statuses())))


def serve(connection: Connection) -> None:
    """Open what the first message says, and answer the queries that follow, until there is an end or nobody asks."""
    signal.signal(signal.SIGINT, signal.SIG_IGN)  # whoever asks is told, and decides
    inbox: queue.SimpleQueue[Message] = queue.SimpleQueue()
    ending = threading.Event()
    line = _Line(connection)
    threading.Thread(target=_listen, args=(line, inbox, ending), name="llmpar-listener", daemon=True).start()
    threading.Thread(target=line.beat, name="llmpar-heartbeat", daemon=True).start()
    try:
        while isinstance(message := inbox.get(), Preparing | Consulting):
            if isinstance(message, Consulting):
                line.send(Found(message.find(line)))
            else:
                message.prepare()
        if isinstance(message, Opening):
            with told_in_shell() if message.in_shell else contextlib.nullcontext():
                _answer(message.open(line), line, inbox, ending)
    except BaseException as error:  # whatever it is, whoever asks must be told of the end
        _fail(line, error)
    os._exit(0)


def _answer(part: Part, line: _Line, inbox: queue.SimpleQueue[Message], ending: threading.Event) -> None:
    line.send(_opened(part))
    # Told before it begins: nobody would know of a query that ends this process at once.
    part.backend.tell_begun(line.begin)
    gc.set_threshold(_GARBAGE, 20, 20)  # with torch there are a million objects; to look through them stops the engine
    sys.setswitchinterval(_SWITCH)
    collecting = threading.Thread(
        target=_collect, args=(part.backend, line, ending), name="llmpar-replies", daemon=True
    )
    collecting.start()
    while isinstance(message := inbox.get(), Handed):
        for asked in message.queries():
            _take(part.backend, asked, line)
    collecting.join()


def _listen(line: _Line, inbox: queue.SimpleQueue[Message], ending: threading.Event) -> None:
    try:
        with contextlib.suppress(EOFError, OSError):
            while True:
                for message in line.connection.recv():
                    if isinstance(message, Handed):  # told first: nothing is the reason of an end before it was here
                        line.send(Answered(received=message.numbers))
                    if isinstance(message, End):
                        ending.set()
                    inbox.put(message)
    finally:
        os._exit(0)  # nobody asks any more, and no library must keep us


def _opened(part: Part) -> Opened:
    backend = part.backend
    statuses = tuple(backend.statuses)
    return Opened(backend.num_slots, backend.context_length, statuses, part.vocabulary, part.stop_ids, part.arithmetic)


def _take(backend: LocalBackend, asked: Asked, line: _Line) -> None:
    try:
        backend.ask(asked.number, asked.ids, asked.num_answered, asked.limit, asked.manner)
    except EngineFailed:
        return  # which the collecting thread tells
    except Exception as error:  # it would be the end of every process that it is given to
        reason = str(error) if isinstance(error, LlmparError) else f"{type(error).__name__}: {error}"
        line.send(Answered(Ended.of([Completion(asked.number, (), "error", reason)])))


def _collect(backend: LocalBackend, line: _Line, ending: threading.Event) -> None:
    """Send what has been answered and confirmed, until the end."""
    try:
        while True:
            if completions := backend.completed(_LOOK, _GATHER):
                backend.confirm()
                ended = Ended.of(_sound(backend, completions))
                line.send(Answered(ended, statuses=tuple(backend.statuses)))
            if ending.is_set():
                completions = backend.left()
                if backend.is_confirmed():
                    line.send(Answered(Ended.of(_sound(backend, completions))))
                os._exit(0)  # what runs on is given up
    except BaseException as error:
        _fail(line, error)


def _sound(backend: LocalBackend, completions: list[Completion]) -> list[Completion]:
    """Return the completions but those that only say that no worker is left here: others may answer them."""
    if backend.failure is None:
        return completions
    return [completion for completion in completions if completion.finish_reason != "error" or completion.deadly]


def _fail(line: _Line, error: BaseException) -> None:
    """Tell why nothing comes any more, and end."""
    if os.environ.get("LLMPAR_DEBUG"):
        traceback.print_exception(type(error), error, error.__traceback__)
    kind = next((above.__name__ for above in type(error).__mro__ if above.__name__ in KINDS), "")
    message = str(error) if kind else f"{type(error).__name__}: {error}".partition("\n")[0]
    line.send(Failed(kind, message, error.fact if isinstance(error, DeviceFull) else ""))
    os._exit(1)
