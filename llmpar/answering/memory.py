"""Where answers are remembered: from run to run by a store, and the last ones of this run at hand."""

from __future__ import annotations

from collections import OrderedDict
from collections.abc import Sequence
from typing import Protocol

from llmpar.documents.document import Result
from llmpar.store.store import StoredAnswer

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
