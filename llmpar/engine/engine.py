"""One copy of the weights, N workers: submit and collect, fail, close."""

from __future__ import annotations

import queue
import threading
from collections.abc import Sequence as SequenceOf
from types import TracebackType

from llmpar.engine.request import Completion, Request
from llmpar.engine.scheduler import Scheduler
from llmpar.engine.worker import Runner, Worker, WorkerStatus
from llmpar.errors import EngineFailed

_WINDOW = 4  # times the slots of all workers


class Engine:
    """Answers requests on one thread for each runner.

    Every request that was submitted comes back from `collect` exactly once, whatever happens to the workers.

    Args:
        runners: one for each worker.
        context_length: the most tokens, prompt and output together, that the model can take.
    """

    def __init__(self, runners: SequenceOf[Runner], context_length: int) -> None:
        self.context_length = context_length
        self.num_slots = sum(runner.num_slots for runner in runners)
        self._completions: queue.SimpleQueue[Completion] = queue.SimpleQueue()
        self._scheduler = Scheduler(len(runners), _WINDOW * self.num_slots)
        self._failure: str | None = None
        self._lock = threading.Lock()
        self._workers = [
            Worker(index, runner, self._scheduler, self._completions.put, self._fail)
            for index, runner in enumerate(runners)
        ]
        for worker in self._workers:
            worker.start()

    @property
    def failure(self) -> str | None:
        """Why a worker died; None while all are well."""
        return self._failure

    @property
    def statuses(self) -> list[WorkerStatus]:
        """What each worker is doing."""
        return [worker.status for worker in self._workers]

    def submit(self, request: Request) -> None:
        """Queue a request. One that cannot fit the context completes as an error.

        Raises:
            EngineFailed: a worker died earlier.
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
        """Return the next completion, or None after `timeout` seconds without one.

        Raises:
            EngineFailed: a worker died, and every completion has been collected.
        """
        try:
            return self._completions.get(timeout=timeout)
        except queue.Empty:
            if self._failure and not any(worker.is_alive() for worker in self._workers) and self._completions.empty():
                raise EngineFailed(self._failure) from None
            return None

    def close(self, timeout: float | None = None) -> None:
        """Give up what is not finished, and wait up to `timeout` seconds for each worker's step in progress."""
        self._stop("the engine was closed")
        for worker in self._workers:
            worker.join(timeout)

    def __enter__(self) -> Engine:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.close(timeout=None if kind is None else 0)

    def _refuse(self, request: Request, reason: str) -> None:
        self._completions.put(Completion(request.id, (), "error", reason))

    def _fail(self, reason: str) -> None:
        with self._lock:
            self._failure = self._failure or reason
        self._stop(self._failure)

    def _stop(self, reason: str) -> None:
        for request in self._scheduler.close():
            self._refuse(request, reason)
        for worker in self._workers:
            worker.stop(reason)
