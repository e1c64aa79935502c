"""A log, read again: the lines that `records` writes, as plain data, one at a time."""

from __future__ import annotations

import json
from collections.abc import Iterator
from contextlib import closing

from llmpar.documents.source import Source
from llmpar.errors import InputError
from llmpar.visible import json_fault

_NEEDED = ("document", "index", "key", "finish_reason")  # of every line that any version wrote
_LONGEST = 1 << 26  # bytes of a line


def read_log(source: str) -> Iterator[dict[str, object]]:
    """Yield the records of a log, or of a file of failures; half a last line, which a killed run left, is left out.

    Args:
        source: a path, or "-" for stdin.

    Raises:
        InputError: it holds something else; the message names the line.
        InputUnreadable: it cannot be read.
    """
    with closing(Source(source)) as opened:
        for number, line in enumerate(_lines(opened), 1):
            if not line.strip():
                continue
            try:
                record = json.loads(line)
            except (ValueError, RecursionError) as error:
                if not line.endswith(b"\n"):
                    return
                raise InputError(f"{opened.shown}:{number}: is no line of a log: {_fault(error)}") from error
            if not isinstance(record, dict) or any(name not in record for name in _NEEDED):
                raise InputError(f"{opened.shown}:{number}: is no line of a log: it lacks some of {', '.join(_NEEDED)}")
            yield record


def _fault(error: Exception) -> str:
    return json_fault(error) if isinstance(error, json.JSONDecodeError) else str(error)


def _lines(source: Source) -> Iterator[bytes]:
    """Yield lines with their ends; the last one may have none."""
    parts: list[bytes] = []
    held = 0
    while data := source.read():
        first, *others = data.splitlines(keepends=True) if b"\n" in data else [data]
        for line in (first, *others):
            parts.append(line)
            held += len(line)
            if line.endswith(b"\n"):
                yield b"".join(parts)
                parts, held = [], 0
            elif held > _LONGEST:
                raise InputError(f"{source.shown}: is no log: a line in it has more than {_LONGEST >> 20} MiB")
    if parts:
        yield b"".join(parts)
