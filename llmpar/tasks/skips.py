"""Which segments a task leaves as they are, without asking."""

from __future__ import annotations

from collections.abc import Callable

from llmpar.tasks.task import Skip, Task
from llmpar.tasks.untranslatable import has_no_words, is_translated


def leaves(task: Task, text: str) -> bool:
    """Tell whether no model need see a text."""
    return any(_SKIPS[name](task, text) for name in task.skip)


def _translated(task: Task, text: str) -> bool:
    target = task.value("to_tag")
    return bool(target) and is_translated(text, target)


_SKIPS: dict[Skip, Callable[[Task, str], bool]] = {
    "untranslatable": lambda _, text: has_no_words(text),
    "translated": _translated,
}
