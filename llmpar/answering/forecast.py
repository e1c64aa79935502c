"""What a run would do, told without a model's weights: what is kept, what is asked, and how much that is.

Knows no time and no terminal. How long answers will be is told by those that the store has of the same job, or of one
that differs from it in little.
"""

from __future__ import annotations

import json
import math
from collections import Counter
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, replace

from llmpar.answering.attempts import Policy, begin
from llmpar.answering.corrections import Corrections
from llmpar.answering.judging import KEPT, fault_of, said_by, sampling_for
from llmpar.answering.memory import Memory
from llmpar.answering.session import Session
from llmpar.store.keys import key_in
from llmpar.store.lengths import Lengths
from llmpar.store.store import Store
from llmpar.tasks.question import Question, Sampling
from llmpar.tasks.skips import leaves
from llmpar.tasks.task import Task

_MOST_COMPARED = 12  # earlier jobs that differ in the least
_NINE_OF_TEN = 1.6  # standard deviations
_FEW = 4  # answers that tell something about the length of others


@dataclass(frozen=True, slots=True)
class Forecast:
    """What a run would do.

    Args:
        num_pieces: all that there are.
        num_left: those that no model need see.
        num_repeated: those that ask the same as one before.
        num_kept: those with an answer from an earlier run.
        num_failed: those that failed in an earlier run and are not asked again.
        num_asked: the others.
        num_read: tokens of their prompts.
        num_written: how many tokens their answers may have; None if nothing tells.
        most_written: how many they have if each reaches its limit, at its first attempt; None where nobody counts.
        longest: tokens of the longest of them, prompt and answer together.
        spread: by how many tokens their answers may differ in length (standard deviation).
        doubt: by what share all that they have may be more or less, nine times of ten: few known answers tell little.
        stale: how many of those that are asked have an answer to something else, by what that differs in.
    """

    num_pieces: int
    num_left: int
    num_repeated: int
    num_kept: int
    num_failed: int
    num_asked: int
    num_read: int
    num_written: int | None
    most_written: int | None
    longest: int
    spread: float
    doubt: float
    stale: Mapping[str, int]


@dataclass(frozen=True, slots=True)
class Foreseen:
    """What becomes of one question.

    Args:
        fate: "kept", "failed", "repeated", "left" (no model need see it) or "asked".
        answer: the text that there is already, and that can stand among other answers; None if there is none.
        num_written: how many tokens its answer may have, if it is asked; None if nothing tells.
    """

    fate: str
    answer: str | None = None
    num_written: float | None = None


@dataclass(frozen=True, slots=True)
class _Other:
    """A job of an earlier run: its digest, that of its answers which no limit cut, and in what it differs from ours."""

    digest: bytes
    whole: bytes
    name: str

    def key(self, material: str) -> bytes:
        """Return the key that a question has there."""
        key = key_in(self.whole, material)
        return key if self.whole == self.digest else key_in(self.digest, key.hex())


@dataclass(frozen=True, slots=True)
class _InUse:
    task: Task
    memory: Memory
    corrections: Corrections
    lengths: Lengths
    others: tuple[_Other, ...]


class Forecaster:
    """Foresees what becomes of questions; tell it all of them.

    Args:
        session: whose model and store it is. Nothing is asked, and nothing written.
        sampling: what the user said about answers.
        policy: which of them will do.
    """

    def __init__(self, session: Session, sampling: Sampling, policy: Policy) -> None:
        self._session = session
        self._sampling = sampling
        self._policy = policy
        self._tasks: dict[Task, _InUse] = {}
        self._seen: set[int] = set()  # hashes of keys, as they may be many
        self._counts: Counter[str] = Counter()
        self._stale: Counter[str] = Counter()
        self._num_read = self._longest = 0
        self._num_written: float | None = 0.0
        self._asked: Counter[Task] = Counter()  # whose answers' lengths are known
        self._most_written: int | None = 0

    def add(self, questions: Iterable[Question]) -> list[Foreseen]:
        """Foresee what becomes of some questions, and return it in their order."""
        found: list[Foreseen] = []
        asked: list[tuple[_InUse, Question]] = []
        for given in questions:
            in_use = self._in_use(given.task)
            question = given.under(in_use.task)
            foreseen = self._fate(in_use, question)
            if foreseen.fate == "asked":
                asked.append((in_use, question))
                foreseen = replace(foreseen, num_written=self._weigh(in_use, question))
            found.append(foreseen)
        self._counts.update(foreseen.fate for foreseen in found)
        self._compare(asked)
        return found

    @property
    def outcome(self) -> Forecast:
        """What becomes of all questions so far."""
        counts = self._counts
        return Forecast(
            counts.total(),
            counts["left"],
            counts["repeated"],
            counts["kept"],
            counts["failed"],
            counts["asked"],
            self._num_read,
            None if self._num_written is None else round(self._num_written),
            self._most_written,
            self._longest,
            math.sqrt(self._variance() / max(1, counts["asked"])),
            _NINE_OF_TEN * math.sqrt(self._variance(is_of_mean=True)) / self._num_written if self._num_written else 0.0,
            dict(self._stale.most_common()),
        )

    def _variance(self, *, is_of_mean: bool = False) -> float:
        """Return the variance of all that is written, and with it that of what is known of its mean."""
        lengths = {in_use.task: in_use.lengths for in_use in self._tasks.values()}
        return sum(
            lengths[task].spread ** 2 * number * (1 + number / lengths[task].count * is_of_mean)
            for task, number in self._asked.items()
            if number
        )

    def _expected(self, in_use: _InUse, num_read: float, limit: int | None) -> float | None:
        """Return the same; a limit that the user gave is kept, while ours is doubled for an answer that reaches it."""
        if in_use.lengths.count < _FEW:
            return None
        return min(limit or 2 * in_use.task.max_new_tokens(round(num_read)), in_use.lengths.expected(num_read))

    def _fate(self, in_use: _InUse, question: Question) -> Foreseen:
        if question.segment.fault:
            return Foreseen("failed")
        if not question.conversation:
            if corrected := in_use.corrections.find(in_use.corrections.key(question.material)):
                return Foreseen("kept", corrected.text)
            if leaves(in_use.task, said_by(question)) or not question.text.strip():
                return Foreseen("left", question.text)
        key = in_use.memory.key(question.material)
        is_repeated = hash(key) in self._seen
        self._seen.add(hash(key))
        known = [] if self._policy.refresh else in_use.memory.find(key)
        sampling = sampling_for(question, self._sampling)
        for answer in known:
            if fault_of(question, answer, sampling) is None:
                said = question.text if answer.finish_reason == KEPT else answer.text
                return Foreseen("repeated" if is_repeated else "kept", said)
        if is_repeated:
            return Foreseen("repeated")
        if begin([(answer.attempt, answer.finish_reason) for answer in known], self._policy) is None:
            # One that is merely too long can still stand among others.
            cut = known[-1].text if known[-1].finish_reason == "length" else ""
            return Foreseen("failed", cut or None)
        short = in_use.task.min_text_tokens
        is_short = short and self._session.model.measure(question.text) < short
        return Foreseen("left", question.text) if is_short else Foreseen("asked")

    def _weigh(self, in_use: _InUse, question: Question) -> float | None:
        """Count the tokens of a question, and of the answer that it may have, which are returned if anything tells."""
        model = self._session.model
        if not model.counts_tokens:
            self._num_written = self._most_written = None
            return None
        prompt, limit = question.prompt, sampling_for(question, self._sampling).max_new_tokens
        # What is far too long is asked about in parts.
        is_long = model.exceeds(prompt, model.context_length)
        num_read = model.measure(question.text) if is_long else model.count_tokens(prompt)
        self._num_read += num_read
        most = limit or in_use.task.max_new_tokens(num_read)
        written = self._expected(in_use, num_read, limit)
        if question.form and question.form.choices:
            rooms = [model.measure(choice) + 1 for choice in question.form.choices]  # and a token that ends it
            written = min(written, max(rooms)) if written is not None else sum(rooms) / len(rooms)
        if written is None or self._num_written is None:
            self._num_written = None
        else:
            self._num_written += written
            self._asked[in_use.task] += bool(in_use.lengths.count)
        if self._most_written is not None:
            self._most_written += round(limit or in_use.task.max_new_tokens(model.measure(question.text)))
        self._longest = max(self._longest, min(model.context_length, num_read + most))
        return written

    def _compare(self, asked: list[tuple[_InUse, Question]]) -> None:
        """Count which of these have answers in jobs that differ from theirs, and in what."""
        store = self._session.store
        if store is None:
            return
        keys = [[(other.key(question.material), other.name) for other in in_use.others] for in_use, question in asked]
        known = store.known([key for one in keys for key, _ in one])
        for one in keys:
            if name := next((name for key, name in one if key in known), None):
                self._stale[name] += 1

    def _in_use(self, given: Task) -> _InUse:
        in_use = self._tasks.get(given)
        if in_use is None:
            model = self._session.model
            # A server's name for its model is not asked for, where nothing can be told of it anyway.
            task = given.for_model(model.families) if model.counts_tokens else given
            in_use = self._tasks[given] = self._opened(task, self._session.corrections(given))
        return in_use

    def _opened(self, task: Task, corrections: Corrections) -> _InUse:
        session = self._session
        memory, store = session.memory(task), session.store
        if store is None:
            return _InUse(task, memory, corrections, Lengths(), ())
        description = session.describe(task)
        digests = [job.digest for job in session.jobs(task)]
        lengths = store.lengths(digests)
        others = _nearest(digests[0], description, self._sampling.max_new_tokens, store)
        for other in others:
            if lengths.count >= _FEW:
                break
            lengths = store.lengths([other.digest])
        return _InUse(task, memory, corrections, lengths, tuple(others))


def _nearest(digest: bytes, description: Mapping[str, object], limit: int | None, store: Store) -> list[_Other]:
    """Return the earlier jobs that differ least from one, whose digest and description these are.

    Args:
        digest: of all that ended by itself.
        description: the same.
        limit: the most tokens of an answer, if the user gave it.
        store: has the earlier jobs.
    """
    ours, found = _facts(description), []
    for other, told in store.jobs():
        theirs = _facts(told)
        is_cut = theirs.pop("max_new_tokens", "None") != "None"
        sampling = told.get("sampling")
        if is_cut and not (isinstance(sampling, dict) and sampling.get("max_new_tokens") == limit):
            continue  # what is cut elsewhere is no answer to this
        whole = other
        if is_cut and isinstance(sampling, dict):
            whole = store.job({**told, "sampling": {**sampling, "max_new_tokens": None}}).digest
        differing = sorted(name for name in {*ours, *theirs} - {"max_new_tokens"} if ours.get(name) != theirs.get(name))
        if whole != digest and (ours.get("prompt") == theirs.get("prompt") or len(differing) == 1):
            name = " and ".join(map(_said, differing))
            found.append((len(differing), _Other(other, whole, name)))
    found.sort(key=lambda one: one[0])
    return [other for _, other in found[:_MOST_COMPARED]]


def _facts(description: Mapping[str, object]) -> dict[str, str]:
    """Return what a job's description says, each by its own name."""
    plain = json.loads(json.dumps(description))  # in which lists are lists, wherever they come from
    parts = [part for part in plain.values() if isinstance(part, dict)]
    return {str(name): str(value) for part in parts for name, value in part.items()}


_SAID = {
    "version": "an earlier llmpar",
    "files": "other model files",
    "room": "other limits of the task",
    "form": "another form of answers",
    "values": "other values of the task",
    "prompt": "another prompt",
    "system": "another system prompt",
}


def _said(name: str) -> str:
    return _SAID.get(name, f"another {name.replace('_', ' ')}")
