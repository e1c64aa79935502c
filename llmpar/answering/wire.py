"""What a process that asks and one that serves a part of its queries say to each other: plain data over a pipe."""

from __future__ import annotations

from array import array
from collections.abc import Callable
from dataclasses import dataclass
from typing import Literal, Protocol

from llmpar.answering.backend import Query, Reply, Watcher
from llmpar.answering.local import LocalBackend
from llmpar.engine.worker import WorkerStatus
from llmpar.errors import EngineFailed, KeptDamaged, ModelUnavailable, UsageError

KINDS = {kind.__name__: kind for kind in (UsageError, ModelUnavailable, EngineFailed, KeptDamaged)}
"""The errors that reach whoever asks as what they are; others as the nearest class above them."""


@dataclass(frozen=True, slots=True)
class Part:
    """What a process serves: a backend of its own, and what its model scores, by which whoever asks checks forms.

    Args:
        backend: answers queries.
        vocabulary: how many tokens the model scores.
        stop_ids: the tokens that end an answer.
    """

    backend: LocalBackend
    vocabulary: int = 0
    stop_ids: frozenset[int] = frozenset()


class OpenPart(Protocol):
    """What opens a part, in the process that serves it. It can be pickled."""

    def __call__(self, watcher: Watcher) -> Part:
        """Return the part, ready to answer.

        Raises:
            LlmparError: there is none; what is said of it reaches whoever asks.
        """


# To the process that serves. A frame is a tuple of these.


@dataclass(frozen=True, slots=True)
class Opening:
    """The first message: what to open, and whether messages name settings as in a shell (`errors.setting`)."""

    open: OpenPart
    in_shell: bool


@dataclass(frozen=True, slots=True)
class Handed:
    """A query; `prompt_ids` are those of its prompt, where they are known, and the prompt itself is left out then."""

    query: Query
    prompt_ids: array[int] | None


@dataclass(frozen=True, slots=True)
class End:
    """The last message: what is finished is to be sent, and nothing else to be waited for."""


# From it. Each is a frame of its own.


@dataclass(frozen=True, slots=True)
class Said:
    """A message for the watcher, and which of its methods takes it."""

    kind: Literal["doing", "remark", "warn"]
    message: str


@dataclass(frozen=True, slots=True)
class Opened:
    """The part is ready; see `Part`, `Backend`. `statuses` tells how many workers it has."""

    num_slots: int
    context_length: int
    statuses: tuple[WorkerStatus, ...]
    vocabulary: int
    stop_ids: frozenset[int]


@dataclass(frozen=True, slots=True)
class Answered:
    """What happened since the last of these, perhaps nothing.

    Args:
        replies: all confirmed.
        begun: ids of queries that a worker has taken up.
        statuses: what each worker is doing.
    """

    replies: tuple[Reply, ...] = ()
    begun: tuple[int, ...] = ()
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


Message = Opening | Handed | End
Report = Said | Opened | Answered | Failed
Send = Callable[[Report], None]
