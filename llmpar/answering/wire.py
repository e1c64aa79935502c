"""What a process that asks and one that serves a part of its queries say to each other: plain data over a pipe.

Prompts and answers go as token ids, and many at a time, in columns: to make objects of them takes the time of the
engine's loop, and in columns they are but a few.
"""

from __future__ import annotations

from array import array
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, field
from typing import Literal, Protocol, get_args

from llmpar.answering.backend import Watcher
from llmpar.answering.local import LocalBackend, Manner
from llmpar.engine.request import Completion, FinishReason
from llmpar.engine.scores import NOT_SCORED, Others
from llmpar.engine.worker import WorkerStatus
from llmpar.errors import EngineFailed, KeptDamaged, ModelUnavailable, UsageError
from llmpar.frozen import quickly_made

ID = "q"  # the type code of a token's id, and of other whole numbers
KINDS = {kind.__name__: kind for kind in (UsageError, ModelUnavailable, EngineFailed, KeptDamaged)}
"""The errors that reach whoever asks as what they are; others as the nearest class above them."""


@dataclass(frozen=True, slots=True)
class Part:
    """What a process serves: a backend of its own, and what its model scores, by which whoever asks checks forms.

    Args:
        backend: answers queries.
        vocabulary: how many tokens the model scores.
        stop_ids: the tokens that end an answer.
        arithmetic: what it computes in, and whether through torch; "" for what does not compute. Those that differ
            in it may answer otherwise.
    """

    backend: LocalBackend
    vocabulary: int = 0
    stop_ids: frozenset[int] = frozenset()
    arithmetic: str = ""


class OpenPart(Protocol):
    """What opens a part, in the process that serves it. It can be pickled."""

    def __call__(self, watcher: Watcher) -> Part:
        """Return the part, ready to answer.

        Raises:
            LlmparError: there is none; what is said of it reaches whoever asks.
        """


# To the process that serves. A frame is a tuple of these.


@dataclass(frozen=True, slots=True)
class Preparing:
    """What to do while nobody knows yet what is to be opened: what takes long is imported, for instance."""

    prepare: Callable[[], None]


@dataclass(frozen=True, slots=True)
class Consulting:
    """What to find out on the machine before anybody says what is to be opened; it can be pickled."""

    find: Callable[[Watcher], str]


@dataclass(frozen=True, slots=True)
class Opening:
    """What to open, and whether messages name settings as in a shell (`errors.setting`)."""

    open: OpenPart
    in_shell: bool


@quickly_made
@dataclass(frozen=True, slots=True)
class Asked:
    """A query in token ids.

    Args:
        number: comes back with its completion.
        ids: of the prompt and, after it, of the answer that is gone on with.
        num_answered: how many of them are that answer's.
        limit: tokens that the answer may have more.
        manner: what else there is to know.
    """

    number: int
    ids: Sequence[int]
    num_answered: int
    limit: int
    manner: Manner


@dataclass(frozen=True, slots=True)
class Handed:
    """Queries in columns; `manners` are those that there are, and `kinds` tells which is whose."""

    numbers: array[int]
    lengths: array[int]
    ids: array[int]
    num_answered: array[int]
    limits: array[int]
    kinds: array[int]
    manners: tuple[Manner, ...]

    @classmethod
    def of(cls, queries: Sequence[Asked]) -> Handed:
        """Return queries as columns."""
        ids, kinds, known = array(ID), array(ID), dict[Manner, int]()
        manner, kind = None, 0
        for asked in queries:
            if type(asked.ids) is list:
                ids.fromlist(asked.ids)  # in half the time
            else:
                ids.extend(asked.ids)
            if asked.manner is not manner:  # which takes less time than its hash
                manner = asked.manner
                kind = known.setdefault(manner, len(known))
            kinds.append(kind)
        return cls(
            array(ID, [asked.number for asked in queries]),
            array(ID, [len(asked.ids) for asked in queries]),
            ids,
            array(ID, [asked.num_answered for asked in queries]),
            array(ID, [asked.limit for asked in queries]),
            kinds,
            tuple(known),
        )

    def queries(self) -> Iterator[Asked]:
        """Yield them."""
        end = 0
        for number, length, num_answered, limit, kind in zip(
            self.numbers, self.lengths, self.num_answered, self.limits, self.kinds, strict=True
        ):
            start, end = end, end + length
            yield Asked(number, self.ids[start:end], num_answered, limit, self.manners[kind])


@dataclass(frozen=True, slots=True)
class End:
    """The last message: what is finished is to be sent, and nothing else to be waited for."""


# From it. Each is a frame of its own.


@dataclass(frozen=True, slots=True)
class Said:
    """A message for the watcher, and which of its methods takes it."""

    kind: Literal["doing", "remark", "warn"]
    message: str

    def teller(self, watcher: Watcher) -> Callable[[str], None]:
        """Return the method of a watcher that takes it."""
        return {"doing": watcher.doing, "remark": watcher.remark, "warn": watcher.warn}[self.kind]


@dataclass(frozen=True, slots=True)
class Found:
    """What was found out; see `Consulting`."""

    answer: str


@dataclass(frozen=True, slots=True)
class Opened:
    """The part is ready; see `Part`, `Backend`. `statuses` tells how many workers it has."""

    num_slots: int
    context_length: int
    statuses: tuple[WorkerStatus, ...]
    vocabulary: int
    stop_ids: frozenset[int]
    arithmetic: str


@dataclass(frozen=True, slots=True)
class Ended:
    """Completions in columns; `errors` are those of the ones that have one, by their place, and whether it is deadly.

    A worker is -1 where nobody took the query up. `logprobs` are those of the ids, and `others` what is told of other
    tokens, by the place of the completion (see `engine.request.Completion`).
    """

    numbers: array[int] = field(default_factory=lambda: array(ID))
    reasons: bytes = b""
    lengths: array[int] = field(default_factory=lambda: array(ID))
    ids: array[int] = field(default_factory=lambda: array(ID))
    workers: array[int] = field(default_factory=lambda: array(ID))
    seconds: array[float] = field(default_factory=lambda: array("d"))
    errors: tuple[tuple[int, str | None, bool], ...] = ()
    logprobs: array[float] = field(default_factory=lambda: array("f"))
    others: tuple[tuple[int, tuple[Others, ...]], ...] = ()

    @classmethod
    def of(cls, completions: Sequence[Completion]) -> Ended:
        """Return completions as columns."""
        ids, logprobs = array(ID), array("f")
        for completion in completions:
            ids.extend(completion.output_ids)
            logprobs.extend(completion.logprobs)
            if len(logprobs) < len(ids):
                logprobs.extend([NOT_SCORED] * (len(ids) - len(logprobs)))
        return cls(
            array(ID, [completion.id for completion in completions]),
            bytes([_REASONS.index(completion.finish_reason) for completion in completions]),
            array(ID, [len(completion.output_ids) for completion in completions]),
            ids,
            array(ID, [-1 if completion.worker is None else completion.worker for completion in completions]),
            array("d", [completion.seconds for completion in completions]),
            tuple(
                (place, completion.error, completion.deadly)
                for place, completion in enumerate(completions)
                if completion.finish_reason == "error"
            ),
            logprobs,
            tuple((place, tuple(one.others)) for place, one in enumerate(completions) if one.others),
        )

    def completions(self) -> Iterator[Completion]:
        """Yield them."""
        errors = {place: (error, deadly) for place, error, deadly in self.errors}
        others = dict(self.others)
        ids, logprobs, end = self.ids.tolist(), self.logprobs.tolist(), 0
        for place, (number, reason, length, worker, seconds) in enumerate(
            zip(self.numbers, self.reasons, self.lengths, self.workers, self.seconds, strict=True)
        ):
            start, end = end, end + length
            error, deadly = errors.get(place, (None, False))
            yield Completion(
                number,
                ids[start:end],
                _REASONS[reason],
                error,
                None if worker < 0 else worker,
                seconds,
                deadly,
                logprobs[start:end],
                others.get(place, ()),
            )


@dataclass(frozen=True, slots=True)
class Answered:
    """What happened since the last of these, perhaps nothing.

    Args:
        ended: what came of queries, all confirmed.
        received: numbers of queries that have come here.
        begun: numbers of queries that a worker has taken up.
        statuses: what each worker is doing.
    """

    ended: Ended = field(default_factory=Ended)
    received: array[int] = field(default_factory=lambda: array(ID))
    begun: array[int] = field(default_factory=lambda: array(ID))
    statuses: tuple[WorkerStatus, ...] = ()


@dataclass(frozen=True, slots=True)
class Failed:
    """The part cannot be opened, or answers nothing any more; the process ends.

    Args:
        kind: which of KINDS it is; "" for none, which nobody foresaw.
        message: what went wrong.
        fact: the same in a few words, without a remedy; "" if nobody has put it so.
    """

    kind: str
    message: str
    fact: str = ""


_REASONS: tuple[FinishReason, ...] = get_args(FinishReason)
Message = Preparing | Consulting | Opening | Handed | End
Report = Said | Found | Opened | Answered | Failed
