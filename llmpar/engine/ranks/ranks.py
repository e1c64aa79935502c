"""One computation by several processes, its ranks: all do the same calls in the same order, or the run is over.

Rank 0 is a thread of this process, every other rank a process that this one starts, talks to through a socket pair
and ends. They compute together through torch's process group, over the loopback interface alone. Knows no model.
"""

from __future__ import annotations

import contextlib
import math
import os
import queue
import shutil
import subprocess
import sys
import tempfile
import threading
import time
from collections.abc import Callable
from dataclasses import dataclass
from functools import partial
from multiprocessing import Pipe
from multiprocessing.connection import Connection
from typing import Any, TypeVar

from llmpar.engine.ranks.group import Place, abort, is_joined, leave, num_collectives
from llmpar.engine.resources import DeviceLost, is_out_of_memory

LOADING_LIMIT = 1800.0
"""Seconds in which all ranks must have loaded their weights, and again in which they must be ready."""
_PATIENCE = 30.0  # seconds that the other ranks have to come out of a call in which one failed
_ENDING = 2.0  # seconds that a rank has to end
_LEAVING = 5.0  # seconds that all have to leave the process group together

_T = TypeVar("_T")


@dataclass(frozen=True, slots=True)
class Outcome:
    """How a rank came out of a part: why it failed, if it did, and how far it has come.

    That is in how many collectives it has taken part, and how many parts it has done that the others were told of by
    rank 0. Ranks that count alike stand at the same place: none of them waits for another. `is_led` tells whether this
    part was such a one.
    """

    place: tuple[int, int]
    is_led: bool
    error: str | None = None
    is_memory: bool = False


class Ranks:
    """The ranks of one computation, as rank 0 sees them.

    Args:
        size: how many, this process included.
        patience: see `call`.
    """

    def __init__(self, size: int, patience: float = _PATIENCE) -> None:
        self.place = Place(0, size, tempfile.mkdtemp(prefix="llmpar-"))
        self.last: tuple[Callable[[], object], Callable[[Any], object]] = (_nothing, _same)
        """What rank 0 and the others do before they leave: drop what is recorded, which keeps them in the group."""
        self._patience = patience
        self._lost: str | None = None
        self._mine: queue.SimpleQueue[tuple[Callable[[], Any], bool] | None] = queue.SimpleQueue()
        self._sending = threading.Lock()
        self._num_told = 0
        self._outcomes: queue.SimpleQueue[tuple[int, Outcome | None]] = queue.SimpleQueue()  # None: it is gone
        self._failed: dict[int, Outcome] = {}  # since they last came together
        self._result: Any = None
        self._error: BaseException | None = None
        self._connections: list[Connection] = []
        self._processes: list[subprocess.Popen[bytes]] = []
        self._thread: threading.Thread | None = None
        try:
            for rank in range(1, size):
                self._start(Place(rank, size, self.place.meeting))
        except BaseException:
            self.close()
            raise
        self._thread = threading.Thread(target=self._work, name="llmpar-rank-0", daemon=True)
        self._thread.start()

    @property
    def process_ids(self) -> list[int]:
        """Of the other ranks, in order."""
        return [process.pid for process in self._processes]

    def call(self, mine: Callable[[], _T], theirs: Callable[[Any], object], limit: float = math.inf) -> _T:
        """Let every rank do its part, and wait for all of them; return what came of rank 0's.

        When a rank has failed and the others do not come out as well, within the patience, they wait for it in the
        middle of something, and will for ever. One that stands still fails nowhere: all are given up after the limit.

        Args:
            mine: rank 0's part, done by a thread that makes all such calls.
            theirs: the part of each other rank, a function that can be pickled. It is given what the last such call
                returned there, the first its Place.
            limit: seconds that they all have.

        Raises:
            DeviceLost: a rank is gone, or they are no longer at the same place; nothing can be called any more.
            Exception: rank 0's own, if all came out of the call at the same place; what the call was to change may be
                half done on each.
            MemoryError, RuntimeError: likewise, when another rank failed.
        """
        self._send(mine, theirs)
        self._come_together(limit)
        result, error = self._taken()
        self._raise(error)
        return result  # type: ignore[no-any-return]

    def lead(self, mine: Callable[[], _T]) -> _T:
        """Let rank 0 do its part, and `tell` the others of theirs once at most, for whom nobody waits.

        They may be some parts behind, and what fails there may be raised only with a later part. Errors are those of
        `call`.
        """
        self._check()
        self._mine.put((mine, True))
        self._wait({0})
        result, error = self._taken()
        if self._failed:
            # A rank that has failed does nothing more of what it is told. If rank 0 failed as well, do all stand there?
            self._send(_nothing, _same)
            self._come_together()
            self._taken()
            self._raise(error)
        return result  # type: ignore[no-any-return]

    def tell(self, theirs: Callable[[Any], object]) -> None:
        """Tell the others of their part, as `call` does; called from rank 0's, which is led."""
        self._num_told += 1
        self._tell(theirs, is_led=True)

    def close(self) -> None:
        """End the other ranks, and leave the process group: all together, if none is lost."""
        mine, theirs = self.last
        if self._thread and not self._lost and is_joined():
            with contextlib.suppress(Exception):  # then they are lost, and killed
                self.call(partial(_leave_after, mine, None), partial(_leave_after, theirs), _LEAVING)
        is_apart = self._lost is not None
        self._lost = self._lost or "the ranks were ended"
        for process in self._processes:
            process.kill()  # they have nothing to lose
        for process in self._processes:
            with contextlib.suppress(subprocess.TimeoutExpired):  # a driver may hold it for a while
                process.wait(_ENDING)
        if self._thread:
            if is_apart:
                # By a thread that may wait for rank 0's, which waits for its device until then.
                threading.Thread(target=abort, name="llmpar-abort", daemon=True).start()
                self._mine.put((mine, False))
            self._mine.put(None)
            self._thread.join(_ENDING)
        shutil.rmtree(self.place.meeting, ignore_errors=True)

    def _check(self) -> None:
        if self._lost:
            raise DeviceLost(self._lost)

    def _send(self, mine: Callable[[], Any], theirs: Callable[[Any], object]) -> None:
        self._check()
        self._tell(theirs, is_led=False)
        self._mine.put((mine, False))

    def _tell(self, theirs: Callable[[Any], object], *, is_led: bool) -> None:
        with self._sending:
            for connection in self._connections:
                with contextlib.suppress(OSError):  # whoever is gone is told of by its own thread
                    connection.send((theirs, is_led))

    def _wait(self, ranks: set[int], limit: float = math.inf) -> dict[int, Outcome]:
        """Wait until these have come out of what they were sent last, and note who failed."""
        found: dict[int, Outcome] = {}
        until = time.monotonic() + limit
        while not ranks <= found.keys():
            try:
                left = until - time.monotonic()
                rank, outcome = self._outcomes.get(timeout=None if left == math.inf else max(0.0, left))
            except queue.Empty:
                late = ", ".join(f"rank {rank}" for rank in sorted(ranks - found.keys()))
                raise self._apart(f"{late} stood still for {limit:g} s") from None
            if outcome is None:
                raise self._gone(rank)
            if outcome.error:
                self._failed[rank] = outcome
                until = min(until, time.monotonic() + self._patience)
            if rank == 0 or not outcome.is_led:  # others tell of what is led only where it failed
                found[rank] = outcome
        return found

    def _come_together(self, limit: float = math.inf) -> None:
        """Wait for all, who must stand at the same place."""
        found = self._wait({*range(self.place.size)}, limit)
        if len({outcome.place for outcome in found.values()}) > 1:
            raise self._apart("the ranks are not at the same place any more")

    def _taken(self) -> tuple[Any, BaseException | None]:
        """Return what came of rank 0's part, and hold it no longer."""
        found = self._result, self._error
        self._result = self._error = None
        return found

    def _raise(self, error: BaseException | None) -> None:
        """Raise rank 0's error or another's, if there is one."""
        failed, self._failed = self._failed, {}
        if error is not None:
            raise error
        for rank, outcome in failed.items():
            raise (MemoryError if outcome.is_memory else RuntimeError)(f"rank {rank}: {outcome.error}")

    def _start(self, place: Place) -> None:
        mine, its = Pipe()
        # With our path, and not with what an interpreter thinks of: the current directory comes first there.
        code = (
            f"import sys; sys.path[:] = {sys.path!r}; from {__name__} import Connection, Place, follow; "
            f"follow({place!r}, Connection({its.fileno()}))"
        )
        with its:
            process = subprocess.Popen(
                [sys.executable, "-c", code],
                stdin=subprocess.DEVNULL,
                stdout=subprocess.DEVNULL,
                stderr=subprocess.DEVNULL,
                pass_fds=[its.fileno()],
                start_new_session=True,  # signals of the terminal are for rank 0 alone
            )
        self._processes.append(process)
        self._connections.append(mine)
        threading.Thread(
            target=self._listen, args=(place.rank, mine), name=f"llmpar-rank-{place.rank}", daemon=True
        ).start()

    def _listen(self, rank: int, connection: Connection) -> None:
        with connection, contextlib.suppress(EOFError, OSError):
            while True:
                self._outcomes.put((rank, connection.recv()))
        self._outcomes.put((rank, None))

    def _work(self) -> None:
        num_done = 0
        while (sent := self._mine.get()) is not None:
            (call, is_led), num_before = sent, self._num_told
            try:
                self._result, error = call(), None
                num_done += self._num_told - num_before
            except BaseException as raised:  # Rust's panics, too: whoever waits must be told of the end
                error = self._error = raised
            del call, sent  # it may hold what should not outlive the call
            self._outcomes.put((0, _outcome(error, num_done, is_led=is_led)))
        leave()

    def _gone(self, rank: int) -> DeviceLost:
        process = self._processes[rank - 1]
        with contextlib.suppress(subprocess.TimeoutExpired):
            process.wait(_ENDING)
        code = process.returncode
        how = "hangs" if code is None else f"was ended by signal {-code}" if code < 0 else f"ended with code {code}"
        return self._lose(f"rank {rank} {how}")

    def _apart(self, otherwise: str) -> DeviceLost:
        for rank, outcome in self._failed.items():
            return self._lose(f"rank {rank} failed, and others wait for it: {outcome.error}")
        return self._lose(otherwise)

    def _lose(self, reason: str) -> DeviceLost:
        self._lost = reason
        for process in self._processes:
            process.kill()  # then nothing waits for them, as far as it can notice
        return DeviceLost(reason)


def follow(place: Place, connection: Connection) -> None:
    """Do what rank 0 sends, and tell how it went, until rank 0 is gone; the process ends then, whatever it does."""
    calls: queue.SimpleQueue[tuple[Callable[[Any], object], bool]] = queue.SimpleQueue()
    state: object = place
    num_led, has_failed = 0, False  # in a part that was led; then no more of these are done

    def listen() -> None:
        with contextlib.suppress(EOFError, OSError):
            while True:
                calls.put(connection.recv())
        shutil.rmtree(place.meeting, ignore_errors=True)
        os._exit(0)

    threading.Thread(target=listen, daemon=True).start()
    while True:
        (call, is_led), error = calls.get(), None
        if is_led and has_failed:
            continue
        try:
            state = call(state)
            num_led += is_led
        except Exception as raised:
            error = raised.with_traceback(None)  # its frames hold tensors
        has_failed = is_led and error is not None
        if error or not is_led:
            with contextlib.suppress(OSError):  # rank 0 is gone, and with it we, in a moment
                connection.send(_outcome(error, num_led, is_led=is_led))


def _leave_after(last: Callable[..., object], state: object) -> object:
    """Do what comes last, and leave."""
    last(*(() if state is None else (state,)))
    leave()
    return state


def _outcome(error: BaseException | None, num_led: int, *, is_led: bool) -> Outcome:
    place = (num_collectives(), num_led)
    if error is None:
        return Outcome(place, is_led)
    first, _, _ = f"{type(error).__name__}: {error}".strip().partition("\n")
    return Outcome(place, is_led, first, is_out_of_memory(error))


def _nothing() -> None:
    """Do nothing."""


def _same(state: object) -> object:
    """Do nothing on another rank."""
    return state
