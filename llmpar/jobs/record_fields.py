"""What a prompt says of the record that a segment is a field of: `{title}` stands for the record's own title."""

from __future__ import annotations

import json
from dataclasses import replace

from llmpar.documents.document import Segment
from llmpar.documents.formats.json_place import value_at
from llmpar.documents.formats.json_text import is_exact, parse_path
from llmpar.errors import UsageError
from llmpar.jobs.segmenting import Fields
from llmpar.tasks.task import PLACEHOLDER, QUESTION_FIELDS, Task, field_names
from llmpar.visible import json_text, one_line


class RecordFields:
    """The names in a task's prompts that nobody but a record can give a value to.

    Args:
        task: what is asked.
    """

    def __init__(self, task: Task) -> None:
        known = {*QUESTION_FIELDS, *(name for name, _ in task.values)}
        asked = [name for name in field_names(task.prompt) if name not in known]
        named = [*asked, *(name for name in field_names(task.system or "") if name not in known)]
        self.names = tuple(dict.fromkeys(named))
        """The names, which may be paths such as `review.title`."""
        self._unplaced = asked[0] if asked and PLACEHOLDER not in task.prompt else None
        self._were_there = False

    def of(self, segment: Segment) -> tuple[Segment, Fields]:
        """Return a segment and what its record says under these names.

        A segment whose record lacks one of them has a fault. One that has no record, as in prose, says nothing.

        Raises:
            UsageError: the first record of a run lacks one of them, so that the prompt means other records; or there
                is none, and the prompt does not say where the text goes, which it seems to have meant.
        """
        record = segment.format.record(segment) if self.names and segment.format and segment.fault is None else ""
        if not record:
            if self._unplaced and not self._were_there and segment.fault is None:
                document = one_line(segment.block.document.name)
                raise UsageError(
                    f"the prompt says {{{self._unplaced}}}, but {document} has no fields; "
                    f"write {PLACEHOLDER} where the piece shall stand"
                )
            return segment, ()
        said = json.loads(record, strict=False)
        values = []
        for name in self.names:
            try:
                value = _value(said, name)
            except LookupError:
                there = ", ".join(map(one_line, said))
                fault = f"there is no field {name!r}, which the prompt names; there are: {there}"
                if not self._were_there:
                    raise UsageError(f"{one_line(segment.place)}: {fault}") from None
                return replace(segment, fault=fault), ()
            values.append((name, value if isinstance(value, str) else "" if value is None else json_text(value)))
        self._were_there = True
        return segment, tuple(values)


def _value(record: dict[str, object], name: str) -> object:
    """Return what a field says, by its name or by its path; raise LookupError if there is none."""
    if name in record:
        return record[name]
    try:
        steps = parse_path(name)
    except UsageError:
        raise LookupError(name) from None
    if not is_exact(steps):
        raise LookupError(name)
    return value_at(record, steps)
