"""What an answer must be: one of some choices, or JSON of a schema. It is tried before any model is loaded."""

from __future__ import annotations

import json
from collections.abc import Sequence
from dataclasses import replace

from llmpar.errors import UsageError
from llmpar.tasks.task import Form, Task


def with_form(
    task: Task, choices: Sequence[str] | None = None, schema: object = None, schema_name: str = "the schema"
) -> Task:
    """Return a task whose answers have the form that the user wants; its own, if the user names none.

    Args:
        task: what is asked.
        choices: every answer is one of these; None for any answer.
        schema: every answer is JSON of this JSON Schema; None for any answer.
        schema_name: what messages call the schema.

    Raises:
        UsageError: there are choices and a schema, or no answer can be held to them.
    """
    if choices is None and schema is None and not (task.form and task.form.schema):
        return task  # and numpy, which grammars need, is not imported
    if choices is not None and schema is not None:
        raise UsageError("choices and a schema exclude each other: an answer has one form")
    from llmpar.models.grammar import choices_rule, schema_rule

    if choices is not None:
        choices_rule(choices)
        return replace(task, form=Form(choices=tuple(choices)))
    if schema is not None:
        schema_rule(schema, schema_name)
        return replace(task, form=Form(schema=json.dumps(schema)))
    if task.form and task.form.schema:
        schema_rule(json.loads(task.form.schema), f"task {task.name}: its schema")
    return task
