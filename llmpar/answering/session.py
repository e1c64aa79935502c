"""A model, a store, and what answers questions with them: what every command and the Python interface run on."""

from __future__ import annotations

import os
import sys
from collections.abc import Callable, Iterable, Iterator
from contextlib import ExitStack
from dataclasses import asdict, replace
from types import TracebackType

from llmpar.answering.answers import Answers
from llmpar.answering.attempts import Policy
from llmpar.answering.backend import Backend, Model
from llmpar.answering.corrections import Corrections
from llmpar.answering.flow import Flow
from llmpar.answering.memory import LimitedMemory, Memory
from llmpar.documents.document import DEFAULT_ON_ERROR, OnError, Result
from llmpar.errors import ModelUnavailable
from llmpar.reporting.report import Report
from llmpar.store.job import JobStore, NoStore
from llmpar.store.store import Store
from llmpar.tasks.question import Prompt, Question, Sampling
from llmpar.tasks.task import Task
from llmpar.visible import one_line

_FRAME = 64  # tokens that a chat template puts around messages, and a few that joining texts may add
_DIFFERENT = ("A", "zebra", "9", "我")  # texts with nothing in common
_ENDLESS = 1 << 40  # an echo's context
_opened_in: int | None = None  # the process that opened a model last


class Session:
    """Asks a model, and keeps what it says.

    Args:
        model: who is asked.
        store: what keeps answers; it is closed with the session. None for nothing.
        sampling: what the user said about answers.
        policy: which of them will do.
        report: counts what happens.
        on_error: what becomes of a segment that failed; "fail" ends the run.
        tick: called often, for progress.
        done: called with each result, in order.
        examples: questions that are typical, if one alone does not tell what prompts begin with.
    """

    def __init__(
        self,
        model: Model,
        store: Store | None,
        sampling: Sampling,
        policy: Policy,
        report: Report,
        *,
        on_error: OnError = DEFAULT_ON_ERROR,
        tick: Callable[[], None] = lambda: None,
        done: Callable[[Result], None] = lambda _: None,
        examples: Iterable[Question] = (),
    ) -> None:
        self.model = model
        self.store = store
        self._sampling = sampling
        self._examples = examples
        self._closing = ExitStack()
        if store:
            self._closing.callback(store.close)
        self._corrections: dict[bytes, Corrections] = {}
        answers = Answers(sampling, policy, self._open_task, self._open_backend, report, self.corrections)
        self.flow = Flow(answers, report, on_error, model.max_held, tick, done)

    def budget(self, task: Task, num_answers: int = 0) -> int:
        """Return how many tokens of text one question of a task may have: what fits the model, `task.chunk` at most.

        It follows from the model and the task alone. A question about answers has room for `num_answers` of the
        longest, if the model has, so that a tree of them is not deeper than it must be.
        """
        task = task.for_model(self.model.families)
        most = max(task.chunk or self.model.context_length, num_answers * task.max_new_tokens(0))
        if self.model.context_length >= _ENDLESS:
            return most
        around = sum(self.model.measure(text) for _, text in task.messages("")) + _FRAME
        left = self.model.context_length - around - task.max_new_tokens(0)
        return max(1, min(most, int(left / (1 + task.growth))))

    def memory(self, task: Task) -> Memory:
        """Return where answers to questions of a task are kept, which is as it is put to the model."""
        if self.store is None:
            return NoStore(repr(task.decisive()).encode())
        whole, *cut = self.jobs(task)
        limit = self._sampling.max_new_tokens
        return LimitedMemory(whole, cut[0], limit) if limit is not None else whole

    def corrections(self, task: Task) -> Corrections:
        """Return what people answered to a task, as it is before it is put to the model."""
        corrections = Corrections(task, self.store)
        self._corrections[corrections.job] = corrections
        return corrections

    def checks_of(self, job: bytes) -> frozenset[str]:
        """Return what answers must not be to a task that was asked, by the hash of what it asks."""
        return self._corrections[job].checks

    def jobs(self, task: Task) -> list[JobStore]:
        """Return the parts of the store, which there must be, that belong to a task: one more for what a limit cuts."""
        assert self.store is not None
        description = self.describe(task)
        jobs = [self.store.job(description)]
        if self._sampling.max_new_tokens is not None:
            jobs.append(self.store.job({**description, "sampling": self._decisive_sampling()}))
        return jobs

    def describe(self, task: Task) -> dict[str, object]:
        """Return all that decides an answer which ends by itself, but the text; there must be a store."""
        assert self.store is not None
        sampling = {**self._decisive_sampling(), "max_new_tokens": None}
        return {"task": task.decisive(), "sampling": sampling, "model": self._describe_model(self.store)}

    def close(self) -> None:
        """Close the store."""
        self._closing.close()

    def __enter__(self) -> Session:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.close()

    def _open_task(self, task: Task) -> tuple[Task, Memory]:
        if self.store is None:  # else nothing may be left to ask
            self.model.prepare()
        fitted = task.for_model(self.model.families)
        return fitted, self.memory(fitted)

    def _decisive_sampling(self) -> dict[str, object]:
        """Return what of the sampling decides an answer: no limit of thoughts, if the model is not known to think."""
        settings = asdict(self._sampling)
        if self._sampling.max_thinking_tokens is None or not self.model.thinks:
            del settings["max_thinking_tokens"]
        return settings

    def _describe_model(self, store: Store) -> dict[str, object]:
        """Return what of the model decides an answer, its files as a hash."""
        identity = self.model.identify()
        try:
            # Files that the store does not know are read, which may take longer than the start, and it has no answers.
            files = {"files": store.fingerprint(identity.files, self.model.prepare)} if identity.files else {}
        except OSError as error:
            raise ModelUnavailable(
                f"{one_line(error.filename or self.model.name)}: cannot be read: {error.strerror}"
            ) from error
        return {**dict(identity.facts), **files}

    def _open_backend(self, question: Question) -> Backend:
        global _opened_in
        if "torch" in sys.modules and _opened_in not in (None, os.getpid()):
            raise ModelUnavailable(
                "this process is a fork of one in which llmpar had opened a model, and torch waits for ever for "
                "threads that stayed behind there; begin processes anew (multiprocessing.get_context('spawn'))"
            )
        _opened_in = os.getpid()
        self.model.prepare()
        return self.model.open(list(self._prompts(question)))

    def _prompts(self, question: Question) -> Iterator[Prompt]:
        """Yield prompts that show what those of this run begin with."""
        for example in list(self._examples) or examples_of(question):
            prompt = example.prompt
            if example.conversation:
                if self.model.exceeds(prompt, self.model.context_length):
                    continue  # which is said when it is asked
                try:
                    self.model.count_tokens(prompt)
                except ModelUnavailable:
                    continue  # it is refused by itself, when it is asked
            yield prompt


def examples_of(question: Question) -> list[Question]:
    """Return questions that have in common what all questions of a task have: texts and fields differ."""
    if question.conversation:
        return [question]
    found = []
    for text in _DIFFERENT:
        segment = replace(question.segment, text=text, marks=())
        for name in (None, *(name for name, _ in question.fields)):
            fields = tuple((field, text if field == name else "") for field, _ in question.fields)
            found.append(replace(question, segment=segment, fields=fields))
    return found
