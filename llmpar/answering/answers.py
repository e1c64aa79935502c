"""Questions → results: what was answered before is taken from there, the rest is asked, checked, and asked again.

Knows no document's layout and no order: results come as they come.
"""

from __future__ import annotations

import time
from collections import OrderedDict
from collections.abc import Callable
from collections.abc import Sequence as SequenceOf
from dataclasses import dataclass, field, replace

from llmpar.answering.backend import Backend, Memory, Policy
from llmpar.documents.document import Result
from llmpar.documents.pieces import halve
from llmpar.engine.request import Completion, Request, SamplingParams
from llmpar.errors import EngineFailed, KeptDamaged, ModelUnavailable, UsageError
from llmpar.reporting.report import Report
from llmpar.store.store import Answer
from llmpar.tasks.checks import find_fault
from llmpar.tasks.question import Question, Sampling
from llmpar.tasks.skips import leaves
from llmpar.tasks.task import Task

_MOST_REMEMBERED = 10_000  # answers kept at hand for segments that come again
_LONGEST_REMEMBERED = 2_000  # characters of such an answer, which bounds their memory
# What a greedy answer is drawn with when it is asked for again: the same once more would fail once more.
_RETRY_TEMPERATURE, _RETRY_TOP_P, _RETRY_SEED = 0.7, 0.95, 1_000_003
_KEPT = "kept"  # the finish reason of what no model needs to see
_LEAST_ROOM = 16  # tokens for an answer; with less, a prompt does not fit


@dataclass(frozen=True, slots=True)
class _Asking:
    """A task as it is put to this run's model, and where its answers are kept."""

    task: Task
    memory: Memory


@dataclass(eq=False, slots=True)
class Pending:
    """A question on its way: its prompt, what has been answered so far, and in the end its result."""

    question: Question
    memory: Memory
    key: bytes
    prompt_ids: SequenceOf[int] = ()
    output_ids: SequenceOf[int] = ()
    limit: int = 0
    extended: bool = False
    seconds: float = 0.0
    attempt: int = 0
    last_attempt: int = 0
    num_kept: int = 0  # attempts added to the memory
    result: Result | None = None
    twins: list[Pending] = field(default_factory=list)  # equal questions that wait for this one's answer
    whole: Pending | None = None  # of which this is a half
    halves: list[Pending] = field(default_factory=list)
    joint: str = ""  # between the halves' answers
    started: float = field(default_factory=time.monotonic)


class Answers:
    """Answers questions, each in its own time. For one thread.

    Args:
        sampling: what the user said about answers.
        policy: which of them will do.
        open_task: returns a task as it is put to the model, and what keeps answers to it; called when there is a first
            question of the task.
        open_backend: makes the backend, given the first question that nobody has answered yet.
        report: counts what happens.
    """

    def __init__(
        self,
        sampling: Sampling,
        policy: Policy,
        open_task: Callable[[Task], tuple[Task, Memory]],
        open_backend: Callable[[Question], Backend],
        report: Report,
    ) -> None:
        self._sampling = sampling
        self._policy = policy
        self._open_task = open_task
        self._open_backend = open_backend
        self._report = report
        self._askings: dict[Task, _Asking] = {}
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
        """How many questions are answered at a time, 0 while that is unknown."""
        return self._backend.engine.num_slots if self._backend else 0

    def submit(self, question: Question) -> Pending:
        """Take a question in; it may have its result at once."""
        asking = self._askings.get(question.task)
        if asking is None:
            asking = self._askings[question.task] = _Asking(*self._open_task(question.task))
        pending = self._pending(replace(question, task=asking.task), asking.memory)
        self._start(pending)
        return pending

    def collect(self, timeout: float) -> None:
        """Wait up to `timeout` seconds for an answer, and take in whatever has come; it is kept before it is seen.

        Raises:
            EngineFailed: no worker is left, or what answers rest on changed. What came before is kept.
            StoreUnusable: an answer could not be kept.
        """
        if self._running:
            assert self._backend is not None
            completion = self._backend.engine.collect(timeout)
            while completion is not None:
                try:
                    self._backend.foundation.confirm()
                except KeptDamaged:
                    self._start_again(self._backend)
                    break
                self._complete(self._backend, completion)
                completion = self._backend.engine.collect(0) if self._running else None
        self.commit()

    def commit(self) -> None:
        """Keep what is known, if it is not yet kept."""
        for asking in self._askings.values():
            asking.memory.commit()

    def close(self) -> None:
        """Let the workers end."""
        if self._backend:
            self._backend.engine.close()

    def abandon(self) -> None:
        """Keep what is finished, and wait for nothing else."""
        if self._backend:
            self._ending = True
            self._backend.engine.close(timeout=0)
            holds = self._backend.foundation.holds()
            for completion in self._backend.engine.drain():
                if holds and completion.finish_reason in ("stop", "loop"):
                    self._complete(self._backend, completion)
        self.commit()

    def _start_again(self, damaged: Backend) -> None:
        """Ask all that is being asked of a backend opened anew; nothing was taken in yet from the damaged one."""
        damaged.engine.close()
        running, self._running = list(self._running.values()), {}
        self._backend = self._open_backend(running[0].question)
        for pending in running:
            self._request(self._backend, pending, pending.limit)

    def _pending(self, question: Question, memory: Memory, whole: Pending | None = None) -> Pending:
        return Pending(question, memory, memory.key(question.material), whole=whole)

    def _start(self, pending: Pending) -> None:
        segment = pending.question.segment
        if segment.fault:  # beside all that is remembered: its text is not the whole
            self._settle(pending, Result(segment, error=segment.fault, key=pending.key, finish_reason="error"))
        elif not self._is_left(pending) and not self._is_repeated(pending) and not self._is_known(pending):
            self._ask(pending)

    def _is_left(self, pending: Pending) -> bool:
        """Leave a text as it is that no model need see."""
        question = pending.question
        if question.conversation or not (leaves(question.task, question.text) or not question.text.strip()):
            return False
        self._finish(pending, Answer(0, "", _KEPT, 0, 0), None)
        return True

    def _is_repeated(self, pending: Pending) -> bool:
        """Let a question have the answer of an equal one, now or when it comes."""
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
        # Equal questions may stand in texts of their own, which is what is left of one that no model saw.
        self._settle(pending, replace(result, segment=pending.question.segment, reused=True))

    def _is_known(self, pending: Pending) -> bool:
        """Let a question have the first answer in the store that will do, or the last if it had its attempts."""
        known = [] if self._policy.refresh else pending.memory.find(pending.key)
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
        question = pending.question
        if self._backend is None:
            self._backend = self._open_backend(question)
        backend, task = self._backend, question.task
        if backend.exceeds(question, backend.engine.context_length):
            # Reading all of it could take minutes, and much memory.
            if not self._split(pending):
                self._refuse_length(backend, pending, f"more than {backend.engine.context_length:,}")
            return
        try:
            if question.form and backend.constrain:
                backend.constrain(question.form)  # one that cannot be used is said now; it is made but once
            pending.prompt_ids = backend.encode(question)
        except (ModelUnavailable, UsageError) as error:
            if question.conversation is None:
                raise
            self._finish(pending, Answer(0, "", "error", 0, 0), str(error))  # this conversation alone is refused
            return
        num_prompt_tokens = len(pending.prompt_ids)
        num_text_tokens = backend.measure(question.text)
        if num_text_tokens < task.min_text_tokens and not question.conversation:
            kept = Answer(0, "", _KEPT, num_prompt_tokens, 0)
            self._keep(pending, kept)
            self._report.num_text_tokens_read += num_prompt_tokens
            self._finish(pending, kept, None)
            return
        wanted = self._limit(backend, question, num_text_tokens)
        room = backend.engine.context_length - num_prompt_tokens
        is_long = task.max_text_tokens is not None and num_text_tokens > task.max_text_tokens
        if (is_long or room < min(wanted, _LEAST_ROOM)) and self._split(pending):
            return
        self._report.num_text_tokens_read += num_prompt_tokens
        if room < min(wanted, _LEAST_ROOM):
            self._refuse_length(backend, pending, f"{num_prompt_tokens:,}")
            return
        pending.limit = min(wanted, room)
        self._in_flight[pending.key] = pending
        self._request(backend, pending, pending.limit)

    def _refuse_length(self, backend: Backend, pending: Pending, taken: str) -> None:
        reason = (
            f"its prompt takes {taken} of the {backend.engine.context_length:,} tokens the model can read; split it "
            "smaller, or take a model with a longer context"
        )
        # Not for the store: on a larger machine it may fit.
        self._finish(pending, Answer(0, "", "error", len(pending.prompt_ids), 0), reason)

    def _limit(self, backend: Backend, question: Question, num_text_tokens: int) -> int:
        """Return how many tokens an answer may have at first."""
        if question.form and question.form.choices:
            return max(map(backend.measure, question.form.choices)) + 2
        return self._drawn(question).max_new_tokens or question.task.max_new_tokens(num_text_tokens)

    def _drawn(self, question: Question) -> Sampling:
        return question.conversation.sampling if question.conversation else self._sampling

    def _split(self, pending: Pending) -> bool:
        """Ask about each half of a text, if that can be: what is asked must make sense of a part."""
        question = pending.question
        if self._policy.overflow == "error" or question.conversation or question.form:
            return False
        halves = halve(question.text)
        if halves is None:
            return False
        first, pending.joint, second = halves
        self._in_flight[pending.key] = pending
        for text in (first, second):
            part = replace(question, segment=replace(question.segment, text=text))
            pending.halves.append(self._pending(part, pending.memory, whole=pending))
        for half in list(pending.halves):
            self._start(half)
        return True

    def _join(self, pending: Pending) -> None:
        """Make one answer of those to both halves, when they are there."""
        results = [half.result for half in pending.halves]
        found = [result for result in results if result is not None]
        if len(found) < len(results):
            return
        fault = next((result.error for result in found if result.error is not None), None)
        answer = Answer(
            0,
            pending.joint.join(result.answer for result in found),
            next((result.finish_reason for result in found if result.error is not None), "stop"),
            sum(result.num_prompt_tokens for result in found),
            sum(result.num_output_tokens for result in found),
            sum(result.seconds for result in found),
        )
        if fault is None:
            self._keep(pending, answer)
        self._finish(
            pending, answer, fault, cached=all(result.cached for result in found), is_cut=any(r.cut for r in found)
        )

    def _request(self, backend: Backend, pending: Pending, max_new_tokens: int) -> None:
        question, attempt = pending.question, pending.attempt
        sampling = self._drawn(question)
        greedy = sampling.temperature == 0
        params = SamplingParams(
            max_new_tokens,
            _RETRY_TEMPERATURE if attempt and greedy else sampling.temperature,
            _RETRY_TOP_P if attempt and greedy else sampling.top_p,
            sampling.seed + attempt * _RETRY_SEED,
            sampling.max_repeats,
        )
        prompt_ids, num_answered = pending.prompt_ids, len(pending.output_ids)
        if pending.output_ids:
            prompt_ids = [*prompt_ids, *pending.output_ids]
        constraint = None
        if question.form:
            assert backend.constrain is not None
            constraint = backend.constrain(question.form)
        self._running[self._next_id] = pending
        backend.engine.submit(
            Request(
                self._next_id,
                prompt_ids,
                params,
                num_answered,
                self._policy.timeout,
                constraint=constraint,
                ends=_ending(backend, sampling.stop, pending.output_ids) if sampling.stop else None,
            )
        )
        self._next_id += 1

    def _complete(self, backend: Backend, completion: Completion) -> None:
        if completion.finish_reason == "error" and backend.engine.failure and not self._ending:
            raise EngineFailed(backend.engine.failure)
        pending = self._running.pop(completion.id)
        pending.output_ids = (
            [*pending.output_ids, *completion.output_ids] if pending.extended else completion.output_ids
        )
        pending.seconds += completion.seconds
        if completion.finish_reason == "error":
            # A matter of the machine and of this moment, which the store has no business to remember.
            self._answer(pending, Answer(pending.attempt, "", "error", 0, 0), completion, completion.error)
            return
        if completion.finish_reason == "length" and self._is_ours(pending):
            num_tokens = len(pending.prompt_ids) + len(pending.output_ids)
            if not pending.extended and num_tokens < backend.engine.context_length:
                self._extend(backend, pending)
                return
            if num_tokens >= backend.engine.context_length and not self._ending and self._split(pending):
                self._report.num_text_tokens_read -= len(pending.prompt_ids)
                return  # no answer to the whole has room
        answer = Answer(
            pending.attempt,
            self._text(backend, pending),
            completion.finish_reason,
            len(pending.prompt_ids),
            len(pending.output_ids),
            pending.seconds,
        )
        self._answer(pending, answer, completion, self._fault(pending, answer))

    def _text(self, backend: Backend, pending: Pending) -> str:
        text = backend.decode(pending.output_ids)
        stop = self._drawn(pending.question).stop
        ends = [place for string in stop if (place := text.find(string)) >= 0]
        text = text[: min(ends)] if ends else text
        return text if pending.question.conversation else text.strip()

    def _is_ours(self, pending: Pending) -> bool:
        """Tell whether a limit is our own, and not the user's."""
        return pending.limit != self._drawn(pending.question).max_new_tokens

    def _extend(self, backend: Backend, pending: Pending) -> None:
        """Give an answer that reached our own limit room to end, once: it goes on where it stopped."""
        pending.extended = True
        room = backend.engine.context_length - len(pending.prompt_ids) - len(pending.output_ids)
        self._request(backend, pending, min(pending.limit, room))

    def _answer(self, pending: Pending, answer: Answer, completion: Completion, fault: str | None) -> None:
        assert self._backend is not None
        if answer.finish_reason == "error":
            # No attempt of the model's: the same is asked once more, unless it would cost more workers.
            pending.last_attempt = -1 if completion.deadly else pending.last_attempt - 1
        else:
            self._keep(pending, answer)
        again = pending.attempt + (answer.finish_reason != "error")
        if fault and again <= pending.last_attempt and not self._ending:
            pending.attempt = again
            pending.output_ids, pending.extended, pending.seconds = (), False, 0.0
            self._request(self._backend, pending, pending.limit)
            return
        self._finish(pending, answer, fault, worker=completion.worker)

    def _keep(self, pending: Pending, answer: Answer) -> None:
        replaces = self._policy.refresh and not pending.num_kept
        pending.memory.add(pending.key, pending.question.material, answer, replaces=replaces)
        pending.num_kept += 1

    def _fault(self, pending: Pending, answer: Answer) -> str | None:
        """Return what is wrong with an answer, None if it will do."""
        if answer.finish_reason == _KEPT:
            return None
        num_tokens, question = answer.num_output_tokens, pending.question
        if answer.finish_reason == "length" and not question.conversation and not self._is_cut(question, answer):
            return f"the answer did not end within {num_tokens:,} tokens"
        fault = find_fault(question.task.checks, question.text, answer.text, answer.finish_reason)
        return f"{fault} (stopped after {num_tokens:,} tokens)" if fault and answer.finish_reason == "loop" else fault

    def _is_cut(self, question: Question, answer: Answer) -> bool:
        """Tell whether an answer ends at the user's own limit, which is a wish; but one of a form must be whole."""
        if question.conversation:
            return answer.finish_reason == "length"
        limit = self._drawn(question).max_new_tokens
        is_reached = answer.finish_reason == "length" and limit is not None and answer.num_output_tokens >= limit
        return is_reached and question.form is None

    def _finish(
        self,
        pending: Pending,
        answer: Answer,
        fault: str | None,
        *,
        cached: bool = False,
        worker: int | None = None,
        is_cut: bool = False,
    ) -> None:
        question = pending.question
        result = Result(
            question.segment,
            question.text if answer.finish_reason == _KEPT else answer.text,
            fault,
            cut=fault is None and (is_cut or self._is_cut(question, answer)),
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
        self._in_flight.pop(pending.key, None)
        if len(result.answer) <= _LONGEST_REMEMBERED:
            self._remembered[pending.key] = result
            if len(self._remembered) > _MOST_REMEMBERED:
                self._remembered.popitem(last=False)
        twins, pending.twins = pending.twins, []
        self._settle(pending, result)
        for twin in twins:
            self._repeat(twin, result)

    def _settle(self, pending: Pending, result: Result) -> None:
        """Let a question have its result, and what it is a half of perhaps, too."""
        pending.result = result
        if pending.whole:
            self._join(pending.whole)
        else:
            self._report.add(result, time.monotonic() - pending.started)


def _ending(backend: Backend, stop: tuple[str, ...], answered: SequenceOf[int]) -> Callable[[SequenceOf[int]], bool]:
    """Return what tells whether an answer has come to one of the strings that end it."""
    # A token may be part of a character, and has one byte at least: so many of the last ones can hold the string.
    reach = max(len(string.encode("utf-8", "surrogatepass")) for string in stop) + 8

    def ends(output_ids: SequenceOf[int]) -> bool:
        last = backend.decode([*answered, *output_ids][-reach:])
        return any(string in last for string in stop)

    return ends
