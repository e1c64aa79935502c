"""Questions → results: what was answered before is taken from there, the rest is asked, checked, and asked again.

This joins the pieces and decides nothing by itself: `attempts` and `following` say which try comes next, `judging`
which answer will do, `splitting` what becomes of a text that does not fit. Knows no document's layout and no order:
results come as they come.
"""

from __future__ import annotations

import time
from collections.abc import Callable, Sequence
from dataclasses import replace
from functools import partial

from llmpar.answering.arrivals import Arrivals
from llmpar.answering.attempts import Attempt, Policy, Step, begin
from llmpar.answering.backend import Backend, Reply
from llmpar.answering.corrections import Corrections, foresee_corrections
from llmpar.answering.fitting import Fit, fit_of, refusal
from llmpar.answering.following import step_after
from llmpar.answering.in_use import TasksInUse
from llmpar.answering.judging import KEPT, PARTS, fault_of, lacks_confidence, result_of, said_by, sampling_for, writable
from llmpar.answering.memory import Memory, RecentResults
from llmpar.answering.pending import InFlight, Pending, Running, Split, answer_of, pend, placed, query_of
from llmpar.answering.sizing import needs_length, size_of
from llmpar.answering.splitting import Parts, halves_of, join, parts_after
from llmpar.documents.document import Result
from llmpar.errors import EngineFailed, KeptDamaged, ModelUnavailable, UsageError
from llmpar.reporting.report import Report
from llmpar.store.answer import StoredAnswer
from llmpar.tasks.question import Prompt, Question, Sampling
from llmpar.tasks.skips import leaves
from llmpar.tasks.task import Task


class Answers:
    """Answers questions, each in its own time. For one thread.

    Args:
        sampling: what the user said about answers.
        policy: which of them will do.
        open_task: returns a task as it is put to the model, and what keeps answers to it; called when there is a first
            question of the task.
        open_backend: makes the backend, given the first question that nobody has answered yet.
        report: counts what happens.
        open_corrections: returns what people answered to a task, as it was before it was put to the model; None: nobody
            answered anything.
    """

    def __init__(
        self,
        sampling: Sampling,
        policy: Policy,
        open_task: Callable[[Task], tuple[Task, Memory]],
        open_backend: Callable[[Question], Backend],
        report: Report,
        open_corrections: Callable[[Task], Corrections] | None = None,
    ) -> None:
        self._sampling = sampling
        self._policy = policy
        self._open_backend = open_backend
        self._report = report
        self._tasks = TasksInUse(open_task, open_corrections)
        self._has_added = False  # answers that are not committed
        self._backend: Backend | None = None
        self._running: dict[int, Running] = {}
        self._arrived = Arrivals()
        self._in_flight: dict[bytes, InFlight] = {}
        self._splits: dict[Pending, Split] = {}  # by part
        self._replaced: set[Pending] = set()  # those whose answers of earlier runs have gone
        self._outdated: set[Pending] = set()  # those whose answers of earlier runs lack what a check needs
        self._recent = RecentResults()
        self._next_id = 0
        self._is_ending = False

    @property
    def running(self) -> bool:
        """Whether a result is still to come."""
        return bool(self._running)

    @property
    def num_slots(self) -> int:
        """How many questions are answered at a time, 0 while that is unknown."""
        return self._backend.num_slots if self._backend else 0

    def submit(self, question: Question) -> Pending:
        """Take a question in; it may have its result at once."""
        return self.submit_all([question])[0]

    def submit_all(self, questions: Sequence[Question]) -> list[Pending]:
        """Take questions in, as `submit` does one after another, but in less time."""
        pending = [
            pend(question.under(in_use.task), in_use.memory, in_use.corrections)
            for question, in_use in ((one, self._tasks.of(one.task)) for one in questions)
        ]
        foresee_corrections(one.correctable for one in pending)
        for memory in () if self._policy.refresh else dict.fromkeys(one.memory for one in pending):
            memory.foresee([one.key for one in pending if one.memory is memory])
        left = [(one, attempt) for one in pending if (attempt := self._start(one))]
        asked = [(one, attempt, one.question.prompt) for one, attempt in left]
        if len(asked) > 1:
            backend = self._opened(asked[0][0].question)
            measured = [one.question.text for one, _, _ in asked if needs_length(one.question, self._sampling)]
            backend.foresee([prompt for _, _, prompt in asked], measured)
        for one, attempt, prompt in asked:
            if not self._is_repeated(one):  # one of these may ask the same as another
                self._ask(one, attempt, prompt)
        return pending

    def collect(self, timeout: float) -> None:
        """Wait up to `timeout` seconds for an answer, and take in whatever has come; it is kept before it is seen.

        Raises:
            EngineFailed: no worker is left, or what answers rest on changed. What came before is kept.
            StoreUnusable: an answer could not be kept.
        """
        if self._running:
            assert self._backend is not None
            try:
                while self._running and self._arrived.receive(self._backend, timeout):
                    self._backend.confirm()
                    self._arrived.take(partial(self._take, self._backend))
                    timeout = 0
            except KeptDamaged:
                self._start_again(self._backend)
        self.commit()

    def commit(self) -> None:
        """Keep what is known, if it is not yet kept."""
        if self._has_added:
            self._tasks.commit()
            self._has_added = False

    def close(self) -> None:
        """Let the workers end."""
        if self._backend:
            self._backend.close()

    def abandon(self) -> None:
        """Keep what is finished, and wait for nothing else."""
        if self._backend:
            self._is_ending = True
            self._backend.close(timeout=0)
            if self._backend.is_confirmed():
                self._arrived.take(self._take_finished, self._backend)
        self.commit()

    def _start_again(self, damaged: Backend) -> None:
        """Ask all that is being asked of a backend opened anew; nothing was taken in yet from the damaged one."""
        damaged.close()
        self._arrived.forget()
        asked, self._running = list(self._running.values()), {}
        self._backend = self._open_backend(asked[0].pending.question)
        for running in asked:
            self._submit(self._backend, running, running.attempt.limit)

    # A question's way: it needs no model, or an equal one is being asked, or the store knows it, or it is asked.

    def _opened(self, question: Question) -> Backend:
        if self._backend is None:
            self._backend = self._open_backend(question)
        return self._backend

    def _start(self, pending: Pending) -> Attempt | None:
        """Let a question have its result, if it needs no model; else return the attempt to be made."""
        segment = pending.question.segment
        if segment.fault:  # beside all that is remembered: its text is not the whole
            self._settle(pending, Result(segment, error=segment.fault, key=pending.key, finish_reason="error"))
            return None
        if self._is_corrected(pending) or self._needs_no_model(pending) or self._is_repeated(pending):
            return None
        return self._from_store(pending)

    def _is_corrected(self, pending: Pending) -> bool:
        """Let a question have the answer that a person gave, if there is one: nothing goes before it."""
        answer = pending.correctable and pending.correctable[0].find(pending.correctable[1])
        if answer:
            self._finish(pending, answer, self._fault(pending, answer), cached=True)
        return answer is not None

    def _needs_no_model(self, pending: Pending) -> bool:
        """Leave a text as it is that no model need see."""
        question = pending.question
        if question.conversation or not (leaves(question.task, said_by(question)) or not question.text.strip()):
            return False
        self._finish(pending, StoredAnswer(0, "", KEPT, 0, 0), None)
        return True

    def _is_repeated(self, pending: Pending) -> bool:
        """Let a question have the answer of an equal one, now or when it comes."""
        if first := self._in_flight.get(pending.key):
            self._report.read_tokens(first.num_prompt_tokens)
            first.twins.append(pending)
            return True
        if result := self._recent.find(pending.key):
            self._report.read_tokens(result.num_prompt_tokens)
            self._repeat(pending, result)
            return True
        return False

    def _repeat(self, pending: Pending, result: Result) -> None:
        # Equal questions may stand in texts of their own, which is what is left of one that no model saw.
        self._settle(pending, replace(result, segment=pending.question.segment, reused=True))

    def _from_store(self, pending: Pending) -> Attempt | None:
        """Let a question have the first answer in the store that will do, or the last if it had its attempts.

        Returns:
            The attempt to be made where the store has no result; None where it has.
        """
        known = [] if self._policy.refresh else pending.memory.find(pending.key)
        if any(lacks_confidence(pending.question, answer) for answer in known):
            known = []
            self._outdated.add(pending)
        answer: StoredAnswer | None = None
        fault: str | None = None
        for answer in known:
            if (fault := self._fault(pending, answer)) is None:
                break
        if answer is None or fault is not None:
            attempt = begin([(answer.attempt, answer.finish_reason) for answer in known], self._policy)
            if attempt is not None:
                return attempt
        assert answer is not None, "without any, there is an attempt to be made"
        self._report.read_tokens(answer.num_prompt_tokens)
        if fault is None or not self._part(pending, answer):
            self._finish(pending, answer, fault, cached=True)
        return None

    def _ask(self, pending: Pending, attempt: Attempt, prompt: Prompt) -> None:
        question = pending.question
        backend = self._opened(question)
        if backend.exceeds(prompt, backend.context_length):
            # Reading all of it could take minutes, and much memory.
            if not self._split(pending, 0):
                self._refuse_length(backend, pending, attempt)
            return
        try:
            size = size_of(question, prompt, backend, self._sampling)
        except (ModelUnavailable, UsageError) as error:
            if question.conversation is None:
                raise
            # This conversation alone is refused.
            self._finish(pending, StoredAnswer(0, "", "error", 0, 0), str(error))
            return
        num_prompt_tokens = size.num_prompt_tokens
        fit = fit_of(size, question.task, is_conversation=question.conversation is not None)
        if fit in (Fit.LONG, Fit.OVERFLOW) and self._split(pending, num_prompt_tokens):
            return
        self._report.read_tokens(num_prompt_tokens)
        if fit is Fit.SHORT:
            kept = StoredAnswer(attempt.number, "", KEPT, num_prompt_tokens, 0)
            self._keep(pending, kept)
            self._finish(pending, kept, None)
        elif fit is Fit.OVERFLOW:
            self._refuse_length(backend, pending, attempt, num_prompt_tokens)
        else:
            asked = attempt.granted(size, self._drawn(question).max_new_tokens)
            self._in_flight[pending.key] = InFlight(num_prompt_tokens)
            self._submit(backend, Running(pending, prompt, asked, num_prompt_tokens), asked.limit)

    def _refuse_length(
        self, backend: Backend, pending: Pending, attempt: Attempt, num_prompt_tokens: int | None = None
    ) -> None:
        # Not for the store: on a larger machine it may fit.
        answer = StoredAnswer(attempt.number, "", "error", num_prompt_tokens or 0, 0)
        self._finish(pending, answer, refusal(backend.context_length, num_prompt_tokens))

    def _submit(self, backend: Backend, running: Running, max_new_tokens: int, continues: bytes = b"") -> None:
        self._running[self._next_id] = running
        drawn = self._drawn(running.pending.question)
        backend.submit(query_of(self._next_id, running, drawn, self._policy, max_new_tokens, continues))
        self._next_id += 1

    # An answer's way: it is gone on with, asked for again, or the result.

    def _take(self, backend: Backend, reply: Reply) -> None:
        if reply.finish_reason == "error" and backend.failure and not self._is_ending:
            raise EngineFailed(backend.failure)
        running = self._running.pop(reply.id)
        pending, attempt = running.pending, running.attempt
        answer = answer_of(running, reply)
        room = backend.context_length - answer.num_prompt_tokens - reply.num_output_tokens
        fault = reply.error if reply.finish_reason == "error" else self._fault(pending, answer)
        is_faulty, ends = fault is not None, self._is_ending
        step = step_after(
            running, reply, answer, self._sampling, self._policy, is_faulty=is_faulty, room=room, ends=ends
        )
        if step is Step.EXTEND:
            extended = replace(running, attempt=attempt.extended(), seconds=answer.seconds)
            self._submit(backend, extended, min(attempt.limit, room), reply.continuation)
            return
        if reply.finish_reason != "error":
            self._report.draw(reply.num_output_tokens, is_last=attempt.number >= attempt.last)
        if step is Step.SPLIT:
            self._report.spend_tokens(running.num_prompt_tokens)
            self._split(pending, running.num_prompt_tokens)
            return
        if reply.finish_reason != "error":  # a matter of the machine and of this moment
            self._keep(pending, answer)
        if step is Step.PART and self._part(pending, answer):
            return
        if step is Step.FINISH:
            self._finish(pending, answer, fault, worker=reply.worker)
            return
        again = attempt.following() if step is Step.RETRY else attempt.failed(deadly=reply.deadly)
        self._submit(backend, replace(running, attempt=again, seconds=0.0), attempt.limit)

    def _take_finished(self, reply: Reply) -> None:
        """Take a reply in at the end of all, if nothing would be asked over it."""
        if reply.finish_reason in ("stop", "loop"):
            assert self._backend is not None
            self._take(self._backend, reply)

    def _drawn(self, question: Question) -> Sampling:
        return sampling_for(question, self._sampling)

    def _fault(self, pending: Pending, answer: StoredAnswer) -> str | None:
        return fault_of(pending.question, answer, self._drawn(pending.question))

    def _split(self, pending: Pending, num_prompt_tokens: int) -> bool:
        """Ask about each half of a text; return whether it has halves."""
        if halves := halves_of(pending.question, self._policy.overflow):
            self._ask_parts(pending, halves, num_prompt_tokens)
        return halves is not None

    def _part(self, pending: Pending, answer: StoredAnswer) -> bool:
        """Ask about each text between marks if the last answer to all of it lost them; return whether it did."""
        if parts := parts_after(pending.question, answer):
            self._report.spend_tokens(answer.num_prompt_tokens)
            self._ask_parts(pending, parts, answer.num_prompt_tokens, answer.attempt + 1, PARTS)
        return parts is not None

    def _ask_parts(self, pending: Pending, parts: Parts, num_tokens: int, number: int = 0, end: str = "stop") -> None:
        self._in_flight.setdefault(pending.key, InFlight(num_tokens))
        asked = tuple(pend(part, pending.memory) for part in parts.questions)
        self._splits.update(dict.fromkeys(asked, Split(pending, parts.joints, asked, number, end)))
        for part in asked:
            if begun := self._start(part):
                self._ask(part, begun, part.question.prompt)

    def _join(self, split: Split) -> None:
        """Make one answer of those to all parts, when they are there."""
        results = [part.result for part in split.parts if part.result is not None]
        if len(results) < len(split.parts):
            return
        answer, fault = join(split, results)
        cached, cut = all(result.cached for result in results), any(result.cut for result in results)
        if fault is None and not cut:  # with another limit, a part that was cut says more, or less
            self._keep(split.whole, answer)
        self._finish(split.whole, answer, fault, cached=cached, cut=cut)

    def _keep(self, pending: Pending, answer: StoredAnswer) -> None:
        replaces = (self._policy.refresh or pending in self._outdated) and pending not in self._replaced
        pending.memory.add(pending.key, pending.question.material, answer, replaces=replaces)
        self._has_added = True
        if replaces:
            self._replaced.add(pending)

    def _finish(
        self,
        pending: Pending,
        answer: StoredAnswer,
        fault: str | None,
        *,
        cached: bool = False,
        worker: int | None = None,
        cut: bool = False,
    ) -> None:
        question = pending.question
        result = result_of(
            question,
            answer,
            fault,
            self._drawn(question),
            was_cut=cut,
            key=pending.key,
            cached=cached,
            worker=worker,
            finished=None if cached or answer.finish_reason == KEPT else time.time(),
            asked=pending.place,
        )
        self._replaced.discard(pending)
        self._outdated.discard(pending)
        self._recent.add(pending.key, result)
        in_flight = self._in_flight.pop(pending.key, None)
        self._settle(pending, result)
        for twin in in_flight.twins if in_flight else ():
            self._repeat(twin, result)

    def _settle(self, pending: Pending, result: Result) -> None:
        """Let a question have its result, and what it is a half of perhaps, too."""
        pending.result = result
        if split := self._splits.pop(pending, None):
            self._join(split)
        else:
            result = placed(result, pending)
            pending.result = result = writable(pending.question, result)
            self._report.add(result, time.monotonic() - pending.started)
