"""One computation by several processes, its ranks: all do the same calls in the same order, or the run is over.

Rank 0 is a thread of this process, every other rank a process that this one starts, talks to through a socket pair
and ends. They compute together through torch's process group, over the loopback interface alone. Knows no model.
"""

from __future__ import annotations

import contextlib
import os
import queue
import shutil
import socket
import subprocess
import sys
import tempfile
import threading
import time
from collections.abc import Callable
from dataclasses import dataclass
from datetime import timedelta
from multiprocessing import Pipe
from multiprocessing.connection import Connection
from pathlib import Path
from typing import Any, TypeVar

from llmpar.engine.resources import DeviceLost, is_out_of_memory

_TIMEOUT = timedelta(hours=1)  # of one collective: longer than an engine waits for a step, whose message says more
_PATIENCE = 30.0  # seconds that the other ranks have to come out of a call in which one failed
_ENDING = 2.0  # seconds that a rank has to end

_T = TypeVar("_T")


@dataclass(frozen=True, slots=True)
class Outcome:
    """How a rank came out of a call: why it failed, if it did, and in how many collectives it has taken part so far.

    Ranks that count alike stand at the same place: none of them waits for another.
    """

    num_collectives: int
    error: str | None = None
    is_memory: bool = False


@dataclass(frozen=True, slots=True)
class Place:
    """Which of `size` ranks a process is, and the directory where they find each other."""

    rank: int
    size: int
    meeting: str


class Ranks:
    """The ranks of one computation, as rank 0 sees them.

    Args:
        size: how many, this process included.
        patience: see `call`.
    """

    def __init__(self, size: int, patience: float = _PATIENCE) -> None:
        self.place = Place(0, size, tempfile.mkdtemp(prefix="llmpar-"))
        self._patience = patience
        self._lost: str | None = None
        self._mine: queue.SimpleQueue[Callable[[], Any] | None] = queue.SimpleQueue()
        self._outcomes: queue.SimpleQueue[tuple[int, Outcome | None]] = queue.SimpleQueue()  # None: it is gone
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

    def call(self, mine: Callable[[], _T], theirs: Callable[[Any], object]) -> _T:
        """Let every rank do its part, and wait for all of them; return what came of rank 0's.

        When a rank has failed and the others do not come out as well, within the patience, they wait for it in the
        middle of something, and will for ever.

        Args:
            mine: rank 0's part, done by a thread that makes all such calls.
            theirs: the part of each other rank, a function that can be pickled. It is given what the last such call
                returned there, the first its Place.

        Raises:
            DeviceLost: a rank is gone, or they are no longer at the same place; nothing can be called any more.
            Exception: rank 0's own, if all came out of the call at the same place; what the call was to change may be
                half done on each.
            MemoryError, RuntimeError: likewise, when another rank failed.
        """
        if self._lost:
            raise DeviceLost(self._lost)
        for connection in self._connections:
            with contextlib.suppress(OSError):  # whoever is gone is told of by its own thread
                connection.send(theirs)
        self._mine.put(mine)
        found: dict[int, Outcome] = {}
        until: float | None = None
        while len(found) < self.place.size:
            try:
                left = None if until is None else max(0.0, until - time.monotonic())
                rank, outcome = self._outcomes.get(timeout=left)
            except queue.Empty:
                raise self._apart(found) from None
            if outcome is None:
                raise self._gone(rank)
            found[rank] = outcome
            if outcome.error and until is None:
                until = time.monotonic() + self._patience
        result, error = self._result, self._error
        self._result = self._error = None
        if len({outcome.num_collectives for outcome in found.values()}) > 1:
            raise self._apart(found)
        if error is not None:
            raise error
        for rank, outcome in found.items():
            if outcome.error:
                raise (MemoryError if outcome.is_memory else RuntimeError)(f"rank {rank}: {outcome.error}")
        return result  # type: ignore[no-any-return]

    def close(self) -> None:
        """End the other ranks, and leave the process group."""
        self._lost = self._lost or "the ranks were ended"
        for process in self._processes:
            process.kill()  # they have nothing to lose
        for process in self._processes:
            with contextlib.suppress(subprocess.TimeoutExpired):  # a driver may hold it for a while
                process.wait(_ENDING)
        if self._thread:
            self._mine.put(None)
            self._thread.join(_ENDING)
        shutil.rmtree(self.place.meeting, ignore_errors=True)

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
        while (call := self._mine.get()) is not None:
            try:
                self._result, error = call(), None
            except BaseException as raised:  # Rust's panics, too: whoever waits must be told of the end
                error = self._error = raised
            self._outcomes.put((0, _outcome(error)))
        leave()

    def _gone(self, rank: int) -> DeviceLost:
        process = self._processes[rank - 1]
        with contextlib.suppress(subprocess.TimeoutExpired):
            process.wait(_ENDING)
        code = process.returncode
        how = "hangs" if code is None else f"was ended by signal {-code}" if code < 0 else f"ended with code {code}"
        return self._lose(f"rank {rank} {how}")

    def _apart(self, found: dict[int, Outcome]) -> DeviceLost:
        for rank, outcome in found.items():
            if outcome.error:
                return self._lose(f"rank {rank} failed, and others wait for it: {outcome.error}")
        return self._lose("the ranks are not at the same place any more")

    def _lose(self, reason: str) -> DeviceLost:
        self._lost = reason
        for process in self._processes:
            process.kill()  # then nothing waits for them, as far as it can notice
        return DeviceLost(reason)


def follow(place: Place, connection: Connection) -> None:
    """Do what rank 0 sends, and tell how it went, until rank 0 is gone; the process ends then, whatever it does."""
    calls: queue.SimpleQueue[Callable[[Any], object]] = queue.SimpleQueue()
    state: object = place

    def listen() -> None:
        with contextlib.suppress(EOFError, OSError):
            while True:
                calls.put(connection.recv())
        shutil.rmtree(place.meeting, ignore_errors=True)
        os._exit(0)

    threading.Thread(target=listen, daemon=True).start()
    while True:
        call, error = calls.get(), None
        try:
            state = call(state)
        except Exception as raised:
            error = raised.with_traceback(None)  # its frames hold tensors
        with contextlib.suppress(OSError):  # rank 0 is gone, and with it we, in a moment
            connection.send(_outcome(error))


def join(place: Place, device: str) -> None:
    """Make this process a rank of torch's process group; returns when all have come.

    Args:
        place: this process's.
        device: "cpu", or this rank's own "cuda:N".
    """
    import torch
    from torch import distributed

    for library in ("GLOO", "NCCL"):
        os.environ.setdefault(f"{library}_SOCKET_IFNAME", _loopback())
    on_cpu = device == "cpu"
    if not on_cpu:
        torch.cuda.set_device(device)  # of this thread
    distributed.init_process_group(
        "gloo" if on_cpu else "nccl",
        # A file that nobody else may read, where a server would listen on every interface.
        store=distributed.FileStore(str(Path(place.meeting) / "store"), place.size),  # type: ignore[attr-defined]
        rank=place.rank,
        world_size=place.size,
        timeout=_TIMEOUT,
        device_id=None if on_cpu else torch.device(device),
    )


def leave() -> None:
    """Take this process out of the process group, if it is in one."""
    if (torch := sys.modules.get("torch")) and torch.distributed.is_initialized():
        torch.distributed.destroy_process_group()


def _loopback() -> str:
    return next((name for _, name in socket.if_nameindex() if name.startswith("lo")), "lo")


def _outcome(error: BaseException | None) -> Outcome:
    if error is None:
        return Outcome(_num_collectives())
    first, _, _ = f"{type(error).__name__}: {error}".strip().partition("\n")
    return Outcome(_num_collectives(), first, is_out_of_memory(error))


def _num_collectives() -> int:
    if not (torch := sys.modules.get("torch")) or not torch.distributed.is_initialized():
        return 0
    groups = torch.distributed.distributed_c10d._world.pg_map  # noqa: SLF001 (torch tells these numbers in no other way)
    return sum(group._get_sequence_number_for_group() for group in groups)  # noqa: SLF001
