"""One copy of the weights, N workers: submit and collect, fail, watch, close."""

from __future__ import annotations

import contextlib
import math
import queue
import threading
import time
import weakref
from collections.abc import Callable
from collections.abc import Sequence as SequenceOf
from itertools import zip_longest
from types import TracebackType
from typing import TypeVar

from llmpar.engine.request import Completion, Request
from llmpar.engine.scheduler import MOST_DEATHS, Scheduler
from llmpar.engine.worker import Runner, Worker, WorkerStatus
from llmpar.errors import EngineFailed, setting

_WINDOW = 4  # times the slots of all workers
_FIRST_SHARE = 64  # one of so many slots, twice, is filled at first: a worker with many reads several in no more time
_T = TypeVar("_T")
_LOOK = 1.0  # seconds between looks at the workers, for those who wait longer


class Engine:
    """Answers requests on one thread for each runner.

    Every request that was submitted comes back from `collect` exactly once, whatever happens to the workers: what one
    held that died or hangs is answered by the others, anew and in full, and only when none is left does the engine
    fail. A request over which `MOST_DEATHS` workers were lost is not given to another.

    Args:
        runners: one for each worker.
        context_length: the most tokens, prompt and output together, that the model can take.
        stall_limit: after how many seconds in one step a worker counts as hanging; None for never.
        names: what people know the workers by.
        warn: is told of each worker that was lost while others go on, on the thread that collects or closes.
        closed: is called when it has been closed, whatever the workers are doing.
        helps: for each runner, how its worker helps the others while it has nothing to do; see `Runners.helps`.
    """

    def __init__(
        self,
        runners: SequenceOf[Runner],
        context_length: int,
        stall_limit: float | None = 1800.0,
        names: SequenceOf[str] = (),
        warn: Callable[[str], None] = lambda _: None,
        closed: Callable[[], None] = lambda: None,
        helps: SequenceOf[Callable[[], bool] | None] = (),
    ) -> None:
        self.context_length = context_length
        self.num_slots = sum(runner.num_slots for runner in runners)
        self._completions: queue.SimpleQueue[Completion] = queue.SimpleQueue()
        self._warnings: queue.SimpleQueue[str] = queue.SimpleQueue()
        opening = max(len(runners), self.num_slots // _FIRST_SHARE)
        similar = not all(runner.continuous for runner in runners)
        self._scheduler = Scheduler(len(runners), _WINDOW * self.num_slots, opening, similar=similar)
        self._stall_limit = stall_limit
        self._names = names or [f"worker {index}" for index in range(len(runners))]
        self._warn = warn
        self._reasons: list[str] = []  # why workers were given up
        self._closed = closed
        self._failure: str | None = None
        self._lock = threading.Lock()
        lose = weakref.WeakMethod(self._lose)  # else engine and workers hold each other, and the memory of a device

        def failed(worker: Worker, what: str) -> None:
            if method := lose():
                method(worker, what)

        self._workers = [
            Worker(index, runner, self._scheduler, self._completions.put, failed, help_others)
            for index, (runner, help_others) in enumerate(zip_longest(runners, helps))
        ]
        self._left = list(self._workers)  # those that were not given up
        for worker in self._workers:
            worker.start()

    @property
    def failure(self) -> str | None:
        """Why the engine came to an end; None while a worker is left."""
        return self._failure

    @property
    def statuses(self) -> list[WorkerStatus]:
        """What each worker is doing."""
        return [worker.status for worker in self._workers]

    def tell_begun(self, begins: Callable[[list[int]], None]) -> None:
        """Have the ids of requests told that a worker takes up, on its thread, before it computes anything of them."""
        for worker in self._workers:
            worker.begins = begins

    def submit(self, request: Request) -> None:
        """Queue a request. One that cannot fit the context completes as an error.

        Raises:
            EngineFailed: no worker is left.
        """
        if not len(request.prompt_ids):
            self._refuse(request, "the prompt is empty")
        elif len(request.prompt_ids) + request.params.max_new_tokens > self.context_length:
            self._refuse(
                request,
                f"prompt of {len(request.prompt_ids)} tokens and room for {request.params.max_new_tokens} more do not "
                f"fit the context of {self.context_length}",
            )
        elif not self._scheduler.submit(request):
            raise EngineFailed(self._failure or "the engine is closed")

    def collect(self, timeout: float | None = None) -> Completion | None:
        """Return the next completion, or None after `timeout` seconds without one, or if none can come any more.

        Raises:
            EngineFailed: all workers died or hang, and every completion has been collected.
        """
        until = math.inf if timeout is None else time.monotonic() + timeout
        while True:
            self._tell()
            with contextlib.suppress(queue.Empty):
                return self._completions.get(timeout=max(0.0, min(_LOOK, until - time.monotonic())))
            may_come = self._look()
            if self._completions.empty():
                if self._failure and not may_come:
                    raise EngineFailed(self._failure)
                if not may_come or time.monotonic() >= until:
                    return None

    def drain(self) -> list[Completion]:
        """Return the completions that are there, without waiting and whatever has failed."""
        return _drained(self._completions)

    def close(self, timeout: float | None = None) -> None:
        """Give up what is not finished, and wait up to `timeout` seconds for each worker's step in progress.

        What is given up comes from `collect` as errors, for a worker's own when its step is over.
        """
        self._stop("the engine was closed")
        for worker in list(self._left):
            worker.join(_LOOK if timeout is None else timeout)
            while timeout is None and worker.is_alive() and worker in self._left:
                self._look()  # one that hangs would keep us for ever
                worker.join(_LOOK)
        self._tell()
        self._closed()

    def __enter__(self) -> Engine:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.close(timeout=None if kind is None else 0)

    def _refuse(self, request: Request, reason: str) -> None:
        self._completions.put(Completion(request.id, (), "error", reason))

    def _look(self) -> bool:
        """Give up each worker that hangs or is gone; return whether a completion may still come."""
        now = time.monotonic()
        for worker in list(self._left):
            if not worker.is_alive():
                if not worker.was_stopped:
                    self._lose(worker, "ended without a reason")
            elif (
                self._stall_limit is not None
                and (worker.status.num_running or worker.status.phase == "start")
                and now - worker.status.last_step > self._stall_limit
            ):
                self._lose(
                    worker,
                    f"has not ended a step for {self._stall_limit:g} s: the device hangs, or is too slow for so much "
                    f"at once, where a smaller batch size ({setting('batch_size')}) or model helps",
                )
        return any(worker.is_alive() for worker in self._left)

    def _lose(self, worker: Worker, what: str) -> None:
        """Let the others answer what a worker held that died or hangs; without others, fail."""
        with self._lock:
            if worker not in self._left:
                return  # it hung, and then died
            self._left.remove(worker)
            reason = f"{self._names[worker.index]} {what}"
            self._reasons.append(reason)
            num_back, lost = self._scheduler.give_up(worker.index)
            is_closed = worker.was_stopped
            worker.stop(reason)
            for request in lost:
                if is_closed:
                    self._refuse(request, reason)
                else:
                    died = f"{MOST_DEATHS} workers were lost over it, at last: {reason}"
                    self._completions.put(Completion(request.id, (), "error", died, deadly=True))
            if not self._left:
                self._failure = "; ".join(self._reasons)
                self._stop(self._failure)
            elif not is_closed:
                pieces = "its piece goes" if num_back == 1 else f"its {num_back:,} pieces go"
                self._warnings.put(f"{reason}; " + (f"{pieces} to the others" if num_back else "the others go on"))

    def _tell(self) -> None:
        for warning in () if self._warnings.empty() else _drained(self._warnings):
            self._warn(warning)

    def _stop(self, reason: str) -> None:
        # First the workers: one that finds the queue closed knows why.
        for worker in self._workers:
            worker.stop(reason)
        for request in self._scheduler.close():
            self._refuse(request, reason)


def _drained(items: queue.SimpleQueue[_T]) -> list[_T]:
    """Return what is in a queue, without waiting."""
    found = []
    with contextlib.suppress(queue.Empty):
        while True:
            found.append(items.get_nowait())
    return found
