"""The loop of one thread: admit, prefill, decode, retire. Knows no model: a Runner does the computing."""

from __future__ import annotations

import threading
from collections.abc import Callable
from dataclasses import dataclass
from typing import Literal, Protocol

from llmpar.engine.request import Completion, Request, Sequence
from llmpar.engine.scheduler import Scheduler


class Runner(Protocol):
    """What a worker computes with. Each worker has its own; they share the weights, and nothing that changes."""

    num_slots: int
    continuous: bool
    """Whether sequences may be added while others are being decoded."""

    def start(self) -> None:
        """Prepare the calling thread, which will make all further calls."""

    def reserve(self, request: Request) -> bool:
        """Set memory aside for a request that will be prefilled next; False if there is not enough now."""

    def prefill(self, sequences: list[Sequence]) -> None:
        """Read the prompts of new sequences, and append the first token to each."""

    def decode(self, sequences: list[Sequence]) -> None:
        """Append one token or more to each of the sequences, which are all that live."""

    def release(self, sequence: Sequence) -> None:
        """Free what a finished sequence held."""


@dataclass(slots=True)
class WorkerStatus:
    """What a worker is doing, for whoever watches: written by the worker alone, read by anyone."""

    phase: Literal["idle", "prefill", "decode", "ended"] = "idle"
    num_running: int = 0
    num_done: int = 0
    num_tokens: int = 0


class Worker(threading.Thread):
    """One thread with its own slots.

    Args:
        index: its number, from 0.
        runner: what it computes with.
        scheduler: where its requests come from.
        done: takes each completion, as soon as there is one.
        failed: is told when the runner raised; the worker's own sequences have been completed by then.
    """

    def __init__(
        self,
        index: int,
        runner: Runner,
        scheduler: Scheduler,
        done: Callable[[Completion], None],
        failed: Callable[[str], None],
    ) -> None:
        super().__init__(name=f"llmpar-worker-{index}", daemon=True)
        self.status = WorkerStatus()
        self._index = index
        self._runner = runner
        self._scheduler = scheduler
        self._done = done
        self._failed = failed
        self._stop_reason: str | None = None
        self._running: list[Sequence] = []

    def stop(self, reason: str) -> None:
        """Give up after the step in progress: what runs is completed as an error with this reason."""
        self._stop_reason = reason

    def run(self) -> None:
        """Work until the scheduler is closed and nothing runs."""
        try:
            self._runner.start()
            while self._stop_reason is None and self._step():
                pass
            reason = self._stop_reason
        except Exception as error:  # whatever a runner raises must reach those who wait
            reason = f"{type(error).__name__}: {error}"
            self._fail_running(reason)
            self._failed(f"worker {self._index} died: {reason}")
        else:
            self._fail_running(reason or "")
        self.status.phase = "ended"

    def _step(self) -> bool:
        running = self._running
        self.status.num_running = len(running)
        room = self._runner.num_slots - len(running)
        admitted: list[Sequence] = []
        # A prefill makes the running sequences wait, so it should be worth it.
        if not running or (self._runner.continuous and room >= max(1, self._runner.num_slots // 4)):
            if not running:
                self.status.phase = "idle"
            requests = self._scheduler.admit(room, len(running), self._runner.reserve)
            if requests is None:
                return False
            admitted = [Sequence(request) for request in requests]
        if admitted:
            running.extend(admitted)
            self.status.phase, self.status.num_running = "prefill", len(running)
            self._runner.prefill(admitted)
            self.status.num_tokens += len(admitted)
        elif running:
            self.status.phase = "decode"
            before = sum(len(sequence.output_ids) for sequence in running)
            self._runner.decode(running)
            self.status.num_tokens += sum(len(sequence.output_ids) for sequence in running) - before
        self._retire()
        return True

    def _retire(self) -> None:
        finished = [sequence for sequence in self._running if sequence.finish_reason]
        if not finished:
            return
        self._scheduler.retire(len(finished))
        self.status.num_done += len(finished)
        for sequence in finished:
            assert sequence.finish_reason is not None
            self._running.remove(sequence)
            self._done(Completion(sequence.request.id, sequence.output_ids, sequence.finish_reason, worker=self._index))
            self._runner.release(sequence)

    def _fail_running(self, reason: str) -> None:
        for sequence in self._running:
            self._done(Completion(sequence.request.id, sequence.output_ids, "error", reason, self._index))
        self._running = []
