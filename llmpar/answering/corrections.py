"""What people answered in a model's place: it holds for a question whichever model is asked, and however it draws."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Iterable, Sequence

from llmpar.store.answer import StoredAnswer
from llmpar.store.job import JobStore
from llmpar.store.keys import key_in
from llmpar.store.store import Store
from llmpar.tasks.task import Task


class Corrections:
    """The answers of people to the questions of a task. They are looked up as often as there are some.

    Args:
        task: what is asked, before it is put to any model.
        store: where they are kept; None for nowhere.
    """

    def __init__(self, task: Task, store: Store | None) -> None:
        self.job = job_of(task)
        """The hash of what is asked, under which they are kept."""
        self.checks = task.checks
        """What answers of the task must not be."""
        self._job = JobStore(store, self.job, None) if store and store.has_job(self.job) else None

    def key(self, material: str) -> bytes:
        """Return the key of a question, by what decides its answer besides the task."""
        return key_in(self.job, material)

    def foresee(self, keys: Sequence[bytes]) -> None:
        """Be told which keys will be looked for next: to look for all of them at once is faster."""
        if self._job:
            self._job.foresee(keys)

    def find(self, key: bytes) -> StoredAnswer | None:
        """Return a person's answer to the question with this key; None if nobody gave one."""
        found = self._job.find(key) if self._job else []
        return found[0] if found else None


def job_of(task: Task) -> bytes:
    """Return the hash of what a task asks, without what only a model's answers depend on: 32 bytes."""
    asked = {name: value for name, value in task.decisive().items() if name != "room"}
    return hashlib.sha256(json.dumps({"person": asked}, sort_keys=True).encode()).digest()


def foresee_corrections(wanted: Iterable[tuple[Corrections, bytes] | None]) -> None:
    """Look for the answers of people that will be looked for next, all of a task at once.

    Args:
        wanted: where each is kept, and its key; None for what has none.
    """
    keys: dict[Corrections, list[bytes]] = {}
    for one in wanted:
        if one:
            keys.setdefault(one[0], []).append(one[1])
    for corrections, some in keys.items():
        corrections.foresee(some)
