"""Where answers are remembered: from run to run by a store, and the last ones of this run at hand."""

from __future__ import annotations

from collections import OrderedDict
from collections.abc import Sequence
from typing import Protocol

from llmpar.documents.document import Result
from llmpar.store.answer import StoredAnswer

_MOST_REMEMBERED = 10_000  # answers kept at hand for segments that come again
_LONGEST_REMEMBERED = 2_000  # characters of such an answer, which bounds their memory


class Memory(Protocol):
    """Where answers to the questions of a task are kept from run to run; see `store.JobStore`."""

    def key(self, text: str) -> bytes:
        """Return the key of a text."""

    def foresee(self, keys: Sequence[bytes]) -> None:
        """Be told which keys will be looked for next: to look for all of them at once is faster."""

    def find(self, key: bytes) -> list[StoredAnswer]:
        """Return what is kept under a key, by attempt."""

    def add(self, key: bytes, text: str, answer: StoredAnswer, *, replaces: bool = False) -> None:
        """Keep an answer, from the next commit on."""

    def commit(self) -> None:
        """Make what was added last."""


class Job(Memory, Protocol):
    """A memory that knows whether it is empty."""

    def has_answers(self) -> bool:
        """Tell whether it may hold any answer."""


class LimitedMemory:
    """Where answers are remembered that the user limits: an answer that ended by itself is the same with any limit.

    So only answers that were cut depend on the limit, and only these are kept apart for each limit. A question whose
    answer ended within the new limit is not asked again, nor does an answer get lost that a further attempt mended.

    Args:
        whole: keeps the answers that ended by themselves.
        cut: keeps those that were cut at this limit, each under a key that is made of its question's key.
        limit: the most tokens of an answer.
    """

    def __init__(self, whole: Memory, cut: Job, limit: int) -> None:
        self._whole = whole
        self._cut = cut
        self._limit = limit
        self._uncut: set[bytes] = set()  # keys that will be looked for next, under which no cut answer is

    def key(self, text: str) -> bytes:
        """Return the key of a text, which is the same for all limits."""
        return self._whole.key(text)

    def foresee(self, keys: Sequence[bytes]) -> None:
        """Be told which keys will be looked for next."""
        self._whole.foresee(keys)
        has_cut = self._cut.has_answers()  # most runs cut none
        self._uncut = set() if has_cut else set(keys)
        if has_cut:
            self._cut.foresee([self._cut.key(key.hex()) for key in keys])

    def find(self, key: bytes) -> list[StoredAnswer]:
        """Return what is kept under a key and holds with this limit, by attempt."""
        found: dict[int, StoredAnswer] = {}
        if key in self._uncut:
            self._uncut.remove(key)
        else:
            found = {answer.attempt: answer for answer in self._cut.find(self._cut.key(key.hex()))}
        for answer in self._whole.find(key):
            if answer.finish_reason != "length" and answer.num_output_tokens <= self._limit:
                found[answer.attempt] = answer
        return [found[attempt] for attempt in sorted(found)]

    def add(self, key: bytes, text: str, answer: StoredAnswer, *, replaces: bool = False) -> None:
        """Keep an answer, from the next commit on."""
        if answer.finish_reason == "length":
            self._uncut.discard(key)
            self._cut.add(self._cut.key(key.hex()), key.hex(), answer, replaces=replaces)
        else:
            self._whole.add(key, text, answer, replaces=replaces)

    def commit(self) -> None:
        """Make what was added last."""
        self._whole.commit()
        self._cut.commit()


class RecentResults:
    """The last results of a run, by key; long ones are not kept."""

    def __init__(self) -> None:
        self._results: OrderedDict[bytes, Result] = OrderedDict()

    def find(self, key: bytes) -> Result | None:
        """Return a result that is still known."""
        result = self._results.get(key)
        if result is not None:
            self._results.move_to_end(key)
        return result

    def add(self, key: bytes, result: Result) -> None:
        """Remember a result, in the place of the one that was not asked for longest."""
        if len(result.answer) <= _LONGEST_REMEMBERED:
            self._results[key] = result
            if len(self._results) > _MOST_REMEMBERED:
                self._results.popitem(last=False)
