"""What a prompt says of the record that a segment is a field of: `{title}` stands for the record's own title."""

from __future__ import annotations

import json
from collections.abc import Sequence
from dataclasses import replace

from llmpar.documents.document import Segment
from llmpar.jobs.segmenting import Fields
from llmpar.tasks.task import QUESTION_FIELDS, Task, placeholders
from llmpar.visible import json_text, one_line


def names_in(task: Task) -> tuple[str, ...]:
    """Return the names in a task's prompts that nobody but a record can give a value to."""
    known = {*QUESTION_FIELDS, *(name for name, _ in task.values)}
    named = placeholders(task.prompt) + placeholders(task.system or "")
    return tuple(dict.fromkeys(name for name in named if name not in known))


def with_record(segment: Segment, names: Sequence[str]) -> tuple[Segment, Fields]:
    """Return a segment and what its record says under these names.

    A segment whose record lacks one of them has a fault. One that has no record, as in prose, says nothing.
    """
    record = segment.format.record(segment) if names and segment.format and segment.fault is None else ""
    if not record:
        return segment, ()
    said = json.loads(record)
    if missing := [name for name in names if name not in said]:
        there = ", ".join(map(one_line, said))
        fault = f"line {segment.line}: has no field {missing[0]!r}, which the prompt names; there are: {there}"
        return replace(segment, fault=fault), ()
    values = {name: said[name] for name in names}
    return segment, tuple(
        (name, value if isinstance(value, str) else "" if value is None else json_text(value))
        for name, value in values.items()
    )
