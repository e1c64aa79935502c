"""Which segments a task leaves as they are without asking."""

from __future__ import annotations

from llmpar.tasks.task import Task


def leaves(task: Task, text: str) -> bool:
    """Tell whether no model need see a text."""
    return False
