"""Tasks as data: what families change, and what a task's file may say of them."""

from __future__ import annotations

import pytest

from llmpar.errors import UsageError
from llmpar.tasks.files import find_task, list_tasks, parse_task
from llmpar.tasks.task import Task

SMALL = ("smollm2-135m", "SmolLM2-135M-Instruct", "llama")
CHUNKED = """
prompt = "Sum up {text}"
merge = "reduce"
reduce = "Join {text}"
chunk = 1000

[[family]]
match = ["smollm2-135m*"]
chunk = 250
"""


def test_a_family_has_chunks_of_its_own_size() -> None:
    task = parse_task("t", CHUNKED, "t.toml")
    assert task.for_model(SMALL).chunk == 250
    assert task.for_model(["qwen2-7b", "qwen2"]).chunk == 1000


def test_a_familys_chunk_bounds_what_is_reduced_too() -> None:
    reduction = parse_task("t", CHUNKED, "t.toml").reduction()
    assert (reduction.for_model(SMALL).chunk, reduction.for_model(SMALL).prompt) == (250, "Join {text}")
    assert reduction.for_model(["qwen2"]).chunk is None


def test_a_family_without_a_chunk_keeps_the_tasks() -> None:
    task = parse_task("t", CHUNKED.replace("chunk = 250", 'prompt = "{text}?"'), "t.toml")
    assert (task.for_model(SMALL).chunk, task.for_model(SMALL).prompt) == (1000, "{text}?")


def test_a_familys_chunk_of_nothing_is_refused_with_its_line() -> None:
    with pytest.raises(UsageError, match=r"^t\.toml:9: chunk is no whole number of 1 or more$"):
        parse_task("t", CHUNKED.replace("chunk = 250", "chunk = 0"), "t.toml")


def _builtin() -> list[Task]:
    return [find_task(file.name) for file in list_tasks() if file.is_builtin]


@pytest.mark.parametrize("task", _builtin(), ids=lambda task: task.name)
def test_a_builtin_task_shows_every_model_the_text_and_what_else_it_is_given(task: Task) -> None:
    given = {name: f"<{name}>" for name, _ in task.values if name in task.required}
    for names in (SMALL, ["qwen2"]):
        for asked in [task, task.reduction()] if task.reduce else [task]:
            messages = asked.with_values(**given).for_model(names).messages("<the text>")
            shown = "\n".join(text for _, text in messages)
            assert shown.count("<the text>") == 1
            assert [value for value in given.values() if value not in shown] == []
            assert "{" not in shown
