"""The store as one job sees it, and what stands for that where nothing is kept."""

from __future__ import annotations

import hashlib
from collections.abc import Sequence
from typing import TYPE_CHECKING

from llmpar.store.answer import StoredAnswer
from llmpar.store.keys import key_in

if TYPE_CHECKING:
    from llmpar.store.store import Store


class JobStore:
    """A store as one job sees it. What is added is there after `commit`.

    Args:
        store: the store.
        digest: the hash of the job's description.
        description: what is kept of it, None for nothing.
    """

    def __init__(self, store: Store, digest: bytes, description: str | None) -> None:
        self._store = store
        self._digest = digest
        self._description = description
        self._added: list[tuple[bytes, str, StoredAnswer, bool]] = []
        self._foreseen: dict[bytes, list[StoredAnswer]] = {}
        self._has_answers = False  # as far as anybody has looked

    @property
    def digest(self) -> bytes:
        """The hash of the job's description."""
        return self._digest

    def key(self, text: str) -> bytes:
        """Return the key of a text in this job."""
        return key_in(self._digest, text)

    def foresee(self, keys: Sequence[bytes]) -> None:
        """Look for keys that will be looked for next, all at once."""
        found = self._store.find(keys) if self.has_answers() else {}
        self._foreseen = {key: found.get(key, []) for key in keys}

    def has_answers(self) -> bool:
        """Tell whether any answer of the job is kept, or was; to look for one takes longer than to ask this."""
        self._has_answers = self._has_answers or self._store.has_job(self._digest)
        return self._has_answers

    def find(self, key: bytes) -> list[StoredAnswer]:
        """Return the answers kept under a key, by attempt."""
        known = self._foreseen.pop(key, None)
        return self._store.find([key]).get(key, []) if known is None else known

    def add(self, key: bytes, text: str, answer: StoredAnswer, *, replaces: bool = False) -> None:
        """Keep an answer from the next commit on; if it `replaces`, what was kept under the key goes."""
        self._added.append((key, text, answer, replaces))
        self._foreseen.pop(key, None)

    def commit(self) -> None:
        """Make what was added last, also if the process is killed the moment after."""
        if self._added:
            self._store.write(self._digest, self._description, self._added)
            self._added.clear()


class NoStore:
    """Stands for a job's store where nothing is kept.

    Args:
        job: what is another for each job.
    """

    def __init__(self, job: bytes = b"") -> None:
        self._digest = hashlib.sha256(job).digest()

    def key(self, text: str) -> bytes:
        """Return a key that equal texts share in this job."""
        return key_in(self._digest, text)

    def foresee(self, keys: Sequence[bytes]) -> None:
        """Do nothing."""

    def find(self, key: bytes) -> list[StoredAnswer]:  # noqa: ARG002
        """Return nothing."""
        return []

    def add(self, key: bytes, text: str, answer: StoredAnswer, *, replaces: bool = False) -> None:
        """Forget it."""

    def commit(self) -> None:
        """Do nothing."""
