"""Which tasks a run asks, each as it is put to the model, and where answers to it are kept."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

from llmpar.answering.corrections import Corrections
from llmpar.answering.memory import Memory
from llmpar.tasks.task import Task


@dataclass(frozen=True, slots=True)
class TaskInUse:
    """A task as it is put to this run's model, and where its answers are kept, the model's and people's."""

    task: Task
    memory: Memory
    corrections: Corrections | None = None


class TasksInUse:
    """The tasks of a run, each opened when there is a first question of it.

    Args:
        open_task: returns a task as it is put to the model, and what keeps answers to it.
        open_corrections: returns what people answered to a task, as it was before; None: nobody answered anything.
    """

    def __init__(
        self,
        open_task: Callable[[Task], tuple[Task, Memory]],
        open_corrections: Callable[[Task], Corrections] | None = None,
    ) -> None:
        self._open_task = open_task
        self._open_corrections = open_corrections
        self._known: dict[Task, TaskInUse] = {}
        self._last: tuple[Task, TaskInUse] | None = None

    def of(self, task: Task) -> TaskInUse:
        """Return how a task is used here."""
        if self._last is not None and task is self._last[0]:  # the hash of a task takes longer than this
            return self._last[1]
        in_use = self._known.get(task)
        if in_use is None:
            corrections = self._open_corrections(task) if self._open_corrections else None
            in_use = self._known[task] = TaskInUse(*self._open_task(task), corrections)
        self._last = task, in_use
        return in_use

    def commit(self) -> None:
        """Make what was added to any memory last."""
        for in_use in self._known.values():
            in_use.memory.commit()
