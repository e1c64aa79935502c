"""What answers a question, what keeps its answer, and which answers will do: what `answers` is given to work with."""

from __future__ import annotations

from collections.abc import Callable
from collections.abc import Sequence as SequenceOf
from dataclasses import dataclass, field
from typing import Literal, Protocol

from llmpar.engine.constraint import Constraint
from llmpar.engine.engine import Engine
from llmpar.integrity.foundation import Foundation
from llmpar.store.store import Answer
from llmpar.tasks.question import Question
from llmpar.tasks.task import Form

Overflow = Literal["split", "error"]


@dataclass(frozen=True, slots=True)
class Backend:
    """An engine, how a question becomes its prompt, and how an answer's ids become text.

    `measure` counts the tokens of a text. `constrain` makes what keeps an answer in its form. `exceeds` tells, without
    reading all of it, that a question's prompt has more tokens than a number, where it has far more. An answer counts
    when `foundation` has confirmed it.
    """

    engine: Engine
    encode: Callable[[Question], SequenceOf[int]]
    decode: Callable[[SequenceOf[int]], str]
    measure: Callable[[str], int] = len
    constrain: Callable[[Form], Callable[[], Constraint]] | None = None
    exceeds: Callable[[Question, int], bool] = lambda _question, _most: False
    foundation: Foundation = field(default_factory=Foundation)


@dataclass(frozen=True, slots=True)
class Policy:
    """Which answers will not do, and what happens then.

    Args:
        retries: how often a segment whose answer will not do is asked again, drawn differently.
        timeout: seconds for each answer, None for any.
        refresh: compute again what is in the store, and replace it.
        retry_failed: give segments that failed in an earlier run as many attempts again.
        overflow: what becomes of a segment that does not fit the model's context: it is split, or fails.
    """

    retries: int = 0
    timeout: float | None = None
    refresh: bool = False
    retry_failed: bool = False
    overflow: Overflow = "split"


class Memory(Protocol):
    """Where answers to the questions of a task are kept from run to run; see `store.JobStore`."""

    def key(self, text: str) -> bytes:
        """Return the key of a text."""

    def find(self, key: bytes) -> list[Answer]:
        """Return what is kept under a key, by attempt."""

    def add(self, key: bytes, text: str, answer: Answer, *, replaces: bool = False) -> None:
        """Keep an answer, from the next commit on."""

    def commit(self) -> None:
        """Make what was added last."""
