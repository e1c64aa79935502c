"""The loop of one thread: admit, prefill, decode, retire. Knows no model: a Runner does the computing."""

from __future__ import annotations

import math
import threading
import time
from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Literal, Protocol

from llmpar.engine.request import Completion, Request, Sequence
from llmpar.engine.resources import is_device_lost, is_out_of_memory
from llmpar.engine.scheduler import Scheduler
from llmpar.errors import setting

_MOST_BROKEN = 3  # requests that fail by themselves, one after another: then it is not they that are broken


class Runner(Protocol):
    """What a worker computes with. Each worker has its own; they share the weights, and nothing that changes.

    After a prefill or decode that raised, its sequences can be released, and the others go on as if it had not been.
    """

    num_slots: int
    continuous: bool
    """Whether sequences may be added while others are being decoded."""

    def start(self) -> None:
        """Prepare the calling thread, which will make all further calls."""

    def reserve(self, request: Request) -> bool:
        """Set memory aside for a request that will be prefilled next; False if there is not enough now."""

    def resize(self, num_slots: int) -> None:
        """Run so many sequences at once from now on, at most as many as at first, and give back what memory it can.

        Called when none lives.
        """

    def prefill(self, sequences: list[Sequence]) -> None:
        """Read the prompts of new sequences, and append the first token to each, or let the next steps do so."""

    def decode(self, sequences: list[Sequence]) -> None:
        """Append tokens to the sequences, which are all that live; each gets some after a few such steps."""

    def release(self, sequence: Sequence) -> None:
        """Free what a sequence has held since it was reserved."""


@dataclass(slots=True)
class Timing:
    """What a worker's passes took, as sums from which it follows what a token, a row and a step cost.

    Args:
        reading: seconds in which prompts were read.
        steps: how many times tokens were appended to what runs.
        rows: how many sequences were in these steps, all added up.
        rows_squared: the squares of these numbers.
        writing: the seconds that they took.
        rows_by_writing: each step's rows times its seconds.
        most_rows: of one step.
    """

    reading: float = 0.0
    steps: int = 0
    rows: int = 0
    rows_squared: int = 0
    writing: float = 0.0
    rows_by_writing: float = 0.0
    most_rows: int = 0

    def add_step(self, rows: int, seconds: float) -> None:
        """Count a step."""
        self.steps += 1
        self.rows += rows
        self.rows_squared += rows * rows
        self.writing += seconds
        self.rows_by_writing += rows * seconds
        self.most_rows = max(self.most_rows, rows)


@dataclass(slots=True)
class WorkerStatus:
    """What a worker is doing, for whoever watches: written by the worker alone, read by anyone.

    `num_tokens` are all that it wrote, those included that came to nothing, and `num_read` all that it read of prompts;
    `num_live` and `num_live_read` are those of the sequences that are running, `num_reading` the tokens of the prompts
    that it reads in the pass that it is in, which it counts as read after it. `last_step` is when it ended its last
    step, or took up work after none (by time.monotonic()). `place` is the machine that it is on, "" for this one: a
    worker does not know it, and whoever shows it does.
    """

    phase: Literal["start", "idle", "prefill", "decode", "ended"] = "idle"
    num_running: int = 0
    num_done: int = 0
    num_tokens: int = 0
    num_read: int = 0
    num_live: int = 0
    num_live_read: int = 0
    num_reading: int = 0
    last_step: float = 0.0
    place: str = ""
    timing: Timing = field(default_factory=Timing)


class Worker(threading.Thread):
    """One thread with its own slots.

    Where memory runs out, the worker goes on with half its slots, unless it was for one request alone. A step that
    fails otherwise is tried again by halves, until those requests are alone that fail by themselves. Sequences begin
    again at their prompts, so that answers are what they would have been.

    Args:
        index: its number, from 0.
        runner: what it computes with.
        scheduler: where its requests come from.
        done: takes each completion, as soon as there is one.
        failed: is told when the worker cannot go on, and why; the scheduler knows what it held.
        help_others: is called while it has nothing to do and others have; see `Runners.helps`.
    """

    def __init__(
        self,
        index: int,
        runner: Runner,
        scheduler: Scheduler,
        done: Callable[[Completion], None],
        failed: Callable[[Worker, str], None],
        help_others: Callable[[], bool] | None = None,
    ) -> None:
        super().__init__(name=f"llmpar-worker-{index}", daemon=True)
        self.index = index
        self.status = WorkerStatus()
        self.begins: Callable[[list[int]], None] = lambda _: None
        """Is called with the ids of requests that it takes up, before anything is computed of them."""
        self._runner = runner
        self._scheduler = scheduler
        self._done = done
        self._failed = failed
        self._help_others = help_others
        self._stop_reason: str | None = None
        self._running: list[Sequence] = []
        self._num_slots = self._limit = runner.num_slots
        self._suspects: list[list[Request]] = []  # groups that run by themselves before anything else, the last first
        self._refused: dict[int, Exception] = {}  # by identity, why nothing could be reserved for requests
        self._num_broken = 0  # requests given up since one was answered
        self._deadline = math.inf  # of the first to run out of time, or earlier

    @property
    def was_stopped(self) -> bool:
        """Whether it was told to give up; else it has no reason to end."""
        return self._stop_reason is not None

    def stop(self, reason: str) -> None:
        """Give up after the step in progress: what runs is completed as an error with this reason."""
        self._stop_reason = reason

    def run(self) -> None:
        """Work until the scheduler is closed and nothing runs."""
        try:
            self.status.phase, self.status.last_step = "start", time.monotonic()
            self._runner.start()
            self.status.phase = "idle"
            while self._stop_reason is None and self._step():
                pass
            self._fail_running(self._stop_reason or "")
        except BaseException as error:  # whatever ends the thread must reach those who wait
            # CUDA adds lines of advice to its errors.
            self._failed(self, f"died: {type(error).__name__}: {error}".partition("\n")[0])
        self.status.phase, self.status.num_running = "ended", 0
        self.status.num_live = self.status.num_live_read = self.status.num_reading = 0

    def _step(self) -> bool:
        running = self._running
        self.status.num_running = len(running)
        admitted = self._admit()
        if admitted is None:
            return False
        failure = None
        started = time.monotonic()
        try:
            if admitted:
                self.status.phase, num_read = "prefill", sum(len(sequence.request.prompt_ids) for sequence in admitted)
                self.status.num_live_read = sum(len(sequence.request.prompt_ids) for sequence in running)
                self.status.num_reading = num_read
                self._runner.prefill(admitted)
                self.status.timing.reading += time.monotonic() - started
                self.status.num_read += num_read
            elif running:
                self.status.phase = "decode"
                self._runner.decode(running)
                self.status.timing.add_step(len(running), time.monotonic() - started)
            num_live = _num_written(running)
            self.status.num_tokens += num_live - self.status.num_live
            self.status.num_live = num_live
        except Exception as error:
            failure = error.with_traceback(None)  # its frames hold tensors, and memory may be what is wanting
        self.status.num_reading = 0
        now = self.status.last_step = time.monotonic()
        if failure:
            self._recover(failure, admitted or running)
            self.status.num_live = _num_written(running)
            self.status.num_live_read = sum(len(sequence.request.prompt_ids) for sequence in running)
        elif now > self._deadline:
            self._expire(now)
        self._retire(now)
        return True

    def _admit(self) -> list[Sequence] | None:
        """Take up sequences, if it is time for some; None when nothing will come any more."""
        running, runner = self._running, self._runner
        requests: list[Request] | None
        if self._suspects:
            if running:
                return []
            runner.resize(len(self._suspects[-1]))
            for request in self._suspects[-1]:
                self._reserve(request)  # there is room: they have run together
            requests = self._suspects.pop()
        else:
            if not running:
                self.status.phase = "idle"
                if runner.num_slots != self._limit:
                    runner.resize(self._limit)
            room = runner.num_slots - len(running)
            # A prefill makes the running sequences wait, so it should be worth it.
            worth = runner.continuous and room >= max(1, runner.num_slots // 4)
            if running and not (worth and runner.num_slots == self._limit):
                return []
            requests = self._scheduler.admit(self.index, room, self._reserve, self._help_others)
            if requests is None:
                return None
            if not requests:
                return []
            self.begins([request.id for request in requests])
        now = time.monotonic()
        if not running:
            self.status.last_step = now
        admitted = [Sequence(request, started=now) for request in requests]
        if self._refused:
            admitted = [sequence for sequence in admitted if not self._is_refused(sequence)]
        running.extend(admitted)
        self.status.num_running = len(running)
        self._deadline = min([self._deadline, *map(_deadline, admitted)])
        return admitted

    def _reserve(self, request: Request) -> bool:
        """Set memory aside for a request, or say that there is not enough now; one that cannot be is taken to fail."""
        try:
            return self._runner.reserve(request)
        except Exception as error:
            if is_device_lost(error):
                raise
            self._refused[id(request)] = error.with_traceback(None)
            return True

    def _is_refused(self, sequence: Sequence) -> bool:
        """Give a sequence up for which nothing could be reserved, and tell whether it was one."""
        error = self._refused.pop(id(sequence.request), None)
        if error:
            self._give_up(sequence, error, is_out_of_memory(error))
        return error is not None

    def _recover(self, error: Exception, failed: list[Sequence]) -> None:
        """Take back what a failed step was computing, to try it in smaller company; give up what fails alone."""
        if is_device_lost(error):
            raise error
        is_memory = is_out_of_memory(error)
        failed = list(self._running if is_memory else failed)
        for sequence in reversed(failed):
            self._runner.release(sequence)
        requests = [sequence.request for sequence in failed]
        if len(requests) == 1 and (not is_memory or self._runner.num_slots == 1):
            self._give_up(failed[0], error, is_memory)
        elif not is_memory:
            half = len(requests) // 2
            self._suspects += [requests[half:], requests[:half]]
        elif len(requests) == 1:
            self._suspects.append(requests)  # once more, when there is but one slot
        else:
            self._limit = max(1, self._limit // 2)
            if not self._scheduler.put_back(self.index, requests):
                # What runs is to be failed, or is no longer ours; and all of it has been released.
                self._running[:] = [Sequence(request, started=time.monotonic()) for request in requests]
                return
        self._running[:] = [sequence for sequence in self._running if sequence not in failed]
        if is_memory:
            self._runner.resize(self._limit)

    def _give_up(self, sequence: Sequence, error: Exception, is_memory: bool) -> None:
        reason = f"{type(error).__name__}: {error}"
        if is_memory:
            self._limit = self._num_slots  # it was this one, and not how many there were
            reason = (
                f"memory ran out for this one alone ({len(sequence.request.prompt_ids):,} tokens to read and up to "
                f"{sequence.request.params.max_new_tokens:,} to write); split smaller ({setting('unit')}), or run "
                f"less at once ({setting('threads', '1')})"
            )
        else:
            self._num_broken += 1
            if self._num_broken == _MOST_BROKEN:
                raise error
        sequence.finish_reason, sequence.error = "error", reason
        self._complete(sequence, time.monotonic())

    def _expire(self, now: float) -> None:
        for sequence in self._running:
            if sequence.finish_reason is None and now > _deadline(sequence):
                sequence.finish_reason = "error"
                sequence.error = f"took longer than {sequence.request.timeout:g} s"
        self._deadline = min((_deadline(s) for s in self._running if s.finish_reason is None), default=math.inf)

    def _retire(self, now: float) -> None:
        finished = [sequence for sequence in self._running if sequence.finish_reason]
        if finished:
            self._running[:] = [sequence for sequence in self._running if not sequence.finish_reason]
            self.status.num_live = _num_written(self._running)
            self.status.num_live_read -= sum(len(sequence.request.prompt_ids) for sequence in finished)
        for sequence in finished:
            self._complete(sequence, now)
            self._runner.release(sequence)

    def _complete(self, sequence: Sequence, now: float) -> None:
        assert sequence.finish_reason is not None
        request, seconds = sequence.request, now - sequence.started
        if not self._scheduler.retire(self.index, request):
            return  # we were given up meanwhile, and another answers it
        self.status.num_done += 1
        if sequence.error is None:
            self._num_broken = 0
        self._done(
            Completion(
                request.id,
                sequence.output_ids,
                sequence.finish_reason,
                sequence.error,
                self.index,
                seconds,
                logprobs=sequence.logprobs,
                others=sequence.others,
            )
        )

    def _fail_running(self, reason: str) -> None:
        now = time.monotonic()
        self._running += [Sequence(request, started=now) for group in self._suspects for request in group]
        self._suspects.clear()
        for sequence in self._running:
            sequence.finish_reason, sequence.error = "error", reason
            self._complete(sequence, now)
        self._running.clear()


def _deadline(sequence: Sequence) -> float:
    timeout = sequence.request.timeout
    return math.inf if timeout is None else sequence.started + timeout


def _num_written(sequences: list[Sequence]) -> int:
    return sum(map(len, [sequence.output_ids for sequence in sequences]))
