"""Segments → results: what was answered before is taken from there, the rest is asked, checked, and asked again.

Knows no document's layout and no order: results come as they come.
"""

from __future__ import annotations

from collections import OrderedDict
from collections.abc import Callable
from collections.abc import Sequence as SequenceOf
from dataclasses import dataclass, field, replace
from typing import Protocol

from llmpar.documents.document import Result, Segment
from llmpar.engine.engine import Engine
from llmpar.engine.request import Completion, Request, SamplingParams
from llmpar.errors import EngineFailed
from llmpar.report import Report
from llmpar.store.store import Answer
from llmpar.tasks.checks import DEFAULT_CHECKS, find_fault
from llmpar.tasks.task import Task

_MOST_REMEMBERED = 10_000  # answers kept at hand for segments that come again
_LONGEST_REMEMBERED = 2_000  # characters of such an answer, which bounds their memory
# What a greedy answer is drawn with when it is asked for again: the same once more would fail once more.
_RETRY_TEMPERATURE, _RETRY_TOP_P, _RETRY_SEED = 0.7, 0.95, 1_000_003
_KEPT = "kept"  # the finish reason of what no model needs to see


@dataclass(frozen=True, slots=True)
class Backend:
    """An engine, and how a segment's text becomes its prompt and an answer's ids become text.

    `num_prompt_tokens` is what a prompt takes without the segment.
    """

    engine: Engine
    encode: Callable[[str], SequenceOf[int]]
    decode: Callable[[SequenceOf[int]], str]
    num_prompt_tokens: int


@dataclass(frozen=True, slots=True)
class Sampling:
    """What the user said about answers; `max_new_tokens` None leaves the limit to the task."""

    max_new_tokens: int | None = None
    temperature: float = 0.0
    top_p: float = 1.0
    seed: int = 0
    max_repeats: int = 0


@dataclass(frozen=True, slots=True)
class Policy:
    """Which answers will not do, and what happens then.

    Args:
        checks: names of `tasks.checks`.
        retries: how often a segment whose answer will not do is asked again, drawn differently.
        timeout: seconds for each answer, None for any.
        refresh: compute again what is in the store, and replace it.
        retry_failed: give segments that failed in an earlier run as many attempts again.
    """

    checks: frozenset[str] = DEFAULT_CHECKS
    retries: int = 0
    timeout: float | None = None
    refresh: bool = False
    retry_failed: bool = False


class Memory(Protocol):
    """Where answers are kept from run to run; see `store.JobStore`."""

    def key(self, text: str) -> bytes:
        """Return the key of a text."""

    def find(self, key: bytes) -> list[Answer]:
        """Return what is kept under a key, by attempt."""

    def add(self, key: bytes, text: str, answer: Answer, *, replaces: bool = False) -> None:
        """Keep an answer, from the next commit on."""

    def commit(self) -> None:
        """Make what was added last."""


@dataclass(eq=False, slots=True)
class Pending:
    """A segment on its way: its prompt, what has been answered so far, and in the end its result."""

    segment: Segment
    key: bytes = b""
    prompt_ids: SequenceOf[int] = ()
    output_ids: SequenceOf[int] = ()
    limit: int = 0
    extended: bool = False
    seconds: float = 0.0
    attempt: int = 0
    last_attempt: int = 0
    num_kept: int = 0  # attempts added to the memory
    result: Result | None = None
    twins: list[Pending] = field(default_factory=list)  # equal segments that wait for this one's answer


class Answers:
    """Answers segments, each in its own time. For one thread.

    Args:
        task: what is asked of each segment.
        sampling: what the user said about answers.
        policy: which of them will do.
        open_memory: opens what keeps answers; called when there is a first segment.
        open_backend: makes the backend; called when there is a first segment that nobody has answered yet.
        report: counts what happens.
    """

    def __init__(
        self,
        task: Task,
        sampling: Sampling,
        policy: Policy,
        open_memory: Callable[[], Memory],
        open_backend: Callable[[], Backend],
        report: Report,
    ) -> None:
        self._task = task
        self._sampling = sampling
        self._policy = policy
        self._open_memory = open_memory
        self._open_backend = open_backend
        self._report = report
        self._memory: Memory | None = None
        self._backend: Backend | None = None
        self._running: dict[int, Pending] = {}
        self._in_flight: dict[bytes, Pending] = {}
        self._remembered: OrderedDict[bytes, Result] = OrderedDict()
        self._next_id = 0
        self._ending = False

    @property
    def running(self) -> bool:
        """Whether a result is still to come."""
        return bool(self._running)

    @property
    def num_slots(self) -> int:
        """How many segments are answered at a time, 0 while that is unknown."""
        return self._backend.engine.num_slots if self._backend else 0

    def submit(self, segment: Segment) -> Pending:
        """Take a segment in; it may have its result at once."""
        if self._memory is None:
            self._memory = self._open_memory()
        pending = Pending(segment, self._memory.key(segment.text))
        if not self._is_repeated(pending) and not self._is_known(pending):
            self._ask(pending)
        return pending

    def collect(self, timeout: float) -> None:
        """Wait up to `timeout` seconds for an answer, and take in whatever has come; it is kept before it is seen.

        Raises:
            EngineFailed: a worker died. What came before is kept.
            StoreUnusable: an answer could not be kept.
        """
        if self._running:
            assert self._backend is not None
            completion = self._backend.engine.collect(timeout)
            while completion is not None:
                self._complete(self._backend, completion)
                completion = self._backend.engine.collect(0) if self._running else None
        self.commit()

    def commit(self) -> None:
        """Keep what is known, if it is not yet kept."""
        if self._memory:
            self._memory.commit()

    def close(self) -> None:
        """Let the workers end."""
        if self._backend:
            self._backend.engine.close()

    def abandon(self) -> None:
        """Keep what is finished, and wait for nothing else."""
        if self._backend:
            self._ending = True
            self._backend.engine.close(timeout=0)
            for completion in self._backend.engine.drain():
                if completion.finish_reason in ("stop", "loop"):
                    self._complete(self._backend, completion)
        self.commit()

    def _is_repeated(self, pending: Pending) -> bool:
        """Let a segment have the answer of an equal one, now or when it comes."""
        if first := self._in_flight.get(pending.key):
            self._report.num_text_tokens_read += len(first.prompt_ids)
            first.twins.append(pending)
            return True
        if result := self._remembered.get(pending.key):
            self._remembered.move_to_end(pending.key)
            self._report.num_text_tokens_read += result.num_prompt_tokens
            self._repeat(pending, result)
            return True
        return False

    def _repeat(self, pending: Pending, result: Result) -> None:
        pending.result = replace(result, segment=pending.segment, reused=True)
        self._report.add(pending.result)

    def _is_known(self, pending: Pending) -> bool:
        """Let a segment have the first answer in the store that will do, or the last if it had its attempts."""
        assert self._memory is not None
        known = [] if self._policy.refresh else self._memory.find(pending.key)
        good = next((answer for answer in known if self._fault(pending, answer) is None), None)
        num_attempts = 1 + self._policy.retries
        if known and good is None:
            pending.attempt = known[-1].attempt + 1
            num_attempts += pending.attempt if self._policy.retry_failed else 0
        pending.last_attempt = num_attempts - 1
        if known and pending.attempt >= num_attempts:
            good = known[-1]
        if good is None:
            return False
        self._report.num_text_tokens_read += good.num_prompt_tokens
        self._finish(pending, good, self._fault(pending, good), cached=True)
        return True

    def _ask(self, pending: Pending) -> None:
        assert self._memory is not None
        if self._backend is None:
            self._backend = self._open_backend()
        backend, text = self._backend, pending.segment.text
        pending.prompt_ids = backend.encode(text)
        num_prompt_tokens = len(pending.prompt_ids)
        self._report.num_text_tokens_read += num_prompt_tokens
        num_text_tokens = num_prompt_tokens - backend.num_prompt_tokens
        if num_text_tokens < self._task.min_text_tokens:
            kept = Answer(0, "", _KEPT, num_prompt_tokens, 0)
            self._memory.add(pending.key, text, kept, replaces=self._policy.refresh)
            self._finish(pending, kept, None)
            return
        wanted = self._sampling.max_new_tokens or self._task.max_new_tokens(num_text_tokens)
        room = backend.engine.context_length - num_prompt_tokens
        if room < min(wanted, 16):
            reason = (
                f"its prompt takes {num_prompt_tokens:,} of the {backend.engine.context_length:,} tokens the model "
                "can read; split it smaller, or take a model with a longer context"
            )
            # Not for the store: on a larger machine it may fit.
            self._finish(pending, Answer(0, "", "error", num_prompt_tokens, 0), reason)
            return
        pending.limit = min(wanted, room)
        self._in_flight[pending.key] = pending
        self._request(backend, pending, pending.limit)

    def _request(self, backend: Backend, pending: Pending, max_new_tokens: int) -> None:
        sampling, attempt = self._sampling, pending.attempt
        greedy = sampling.temperature == 0
        params = SamplingParams(
            max_new_tokens,
            _RETRY_TEMPERATURE if attempt and greedy else sampling.temperature,
            _RETRY_TOP_P if attempt and greedy else sampling.top_p,
            sampling.seed + attempt * _RETRY_SEED,
            sampling.max_repeats,
        )
        self._running[self._next_id] = pending
        prompt_ids = [*pending.prompt_ids, *pending.output_ids] if pending.output_ids else pending.prompt_ids
        backend.engine.submit(Request(self._next_id, prompt_ids, params, len(pending.output_ids), self._policy.timeout))
        self._next_id += 1

    def _complete(self, backend: Backend, completion: Completion) -> None:
        if backend.engine.failure and not self._ending:
            raise EngineFailed(backend.engine.failure)
        pending = self._running.pop(completion.id)
        pending.output_ids = (
            [*pending.output_ids, *completion.output_ids] if pending.extended else completion.output_ids
        )
        pending.seconds += completion.seconds
        if completion.finish_reason == "error":
            # A matter of the machine and of this moment, which the store has no business to remember.
            self._answer(pending, Answer(pending.attempt, "", "error", 0, 0), completion, completion.error)
        elif completion.finish_reason == "length" and self._may_extend(backend, pending):
            self._extend(backend, pending)
        else:
            answer = Answer(
                pending.attempt,
                backend.decode(pending.output_ids),
                completion.finish_reason,
                len(pending.prompt_ids),
                len(pending.output_ids),
                pending.seconds,
            )
            self._answer(pending, answer, completion, self._fault(pending, answer))

    def _may_extend(self, backend: Backend, pending: Pending) -> bool:
        """Tell whether an answer reached our own limit, and not the user's, for the first time, and has room."""
        num_tokens = len(pending.prompt_ids) + len(pending.output_ids)
        ours = pending.limit != self._sampling.max_new_tokens
        return ours and not pending.extended and num_tokens < backend.engine.context_length

    def _extend(self, backend: Backend, pending: Pending) -> None:
        """Give an answer that reached our own limit room to end, once: it goes on where it stopped."""
        pending.extended = True
        room = backend.engine.context_length - len(pending.prompt_ids) - len(pending.output_ids)
        self._request(backend, pending, min(pending.limit, room))

    def _answer(self, pending: Pending, answer: Answer, completion: Completion, fault: str | None) -> None:
        assert self._memory is not None
        assert self._backend is not None
        if answer.finish_reason == "error":
            pending.last_attempt -= 1  # no attempt of the model's: the same is asked once more
        else:
            replaces = self._policy.refresh and not pending.num_kept
            self._memory.add(pending.key, pending.segment.text, answer, replaces=replaces)
            pending.num_kept += 1
        again = pending.attempt + (answer.finish_reason != "error")
        if fault and again <= pending.last_attempt and not self._ending:
            pending.attempt = again
            pending.output_ids, pending.extended, pending.seconds = (), False, 0.0
            self._request(self._backend, pending, pending.limit)
            return
        self._finish(pending, answer, fault, worker=completion.worker)

    def _fault(self, pending: Pending, answer: Answer) -> str | None:
        """Return what is wrong with an answer, None if it will do."""
        if answer.finish_reason == _KEPT:
            return None
        num_tokens = answer.num_output_tokens
        if answer.finish_reason == "length" and not self._is_cut(answer):
            return f"the answer did not end within {num_tokens:,} tokens"
        fault = find_fault(self._policy.checks, pending.segment.text, answer.text, answer.finish_reason)
        return f"{fault} (stopped after {num_tokens:,} tokens)" if fault and answer.finish_reason == "loop" else fault

    def _is_cut(self, answer: Answer) -> bool:
        """Tell whether an answer ends at the user's own limit, which is the user's wish."""
        limit = self._sampling.max_new_tokens
        return answer.finish_reason == "length" and limit is not None and answer.num_output_tokens >= limit

    def _finish(
        self, pending: Pending, answer: Answer, fault: str | None, *, cached: bool = False, worker: int | None = None
    ) -> None:
        kept = answer.finish_reason == _KEPT
        result = pending.result = Result(
            pending.segment,
            pending.segment.text if kept else answer.text,
            fault,
            cut=fault is None and self._is_cut(answer),
            looped=fault is not None and answer.finish_reason == "loop",
            cached=cached,
            num_prompt_tokens=answer.num_prompt_tokens or len(pending.prompt_ids),
            num_output_tokens=answer.num_output_tokens,
            key=pending.key,
            finish_reason=answer.finish_reason,
            num_attempts=answer.attempt + 1,
            seconds=answer.seconds,
            worker=worker,
        )
        pending.prompt_ids = pending.output_ids = ()
        self._report.add(result)
        self._in_flight.pop(pending.key, None)
        if len(result.answer) <= _LONGEST_REMEMBERED:
            self._remembered[pending.key] = result
            if len(self._remembered) > _MOST_REMEMBERED:
                self._remembered.popitem(last=False)
        for twin in pending.twins:
            self._repeat(twin, result)
        pending.twins = []
