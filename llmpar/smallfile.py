"""A small file of the user's, read whole: a prompt, a task, a glossary, a schema."""

from __future__ import annotations

import os
import stat
from pathlib import Path

from llmpar.errors import InputUnreadable
from llmpar.visible import one_line

_MOST = 1 << 26  # bytes of what tells no size beforehand: some devices never end


def read_whole(path: Path, *, is_found: bool = False) -> bytes:
    """Return the bytes of a small file, or of a pipe: shells give us the output of a command as one.

    Whoever opens a pipe waits for its writer; signals and the time limit end that.

    Args:
        path: the file.
        is_found: nobody named it, so that it must be a regular file.

    Raises:
        InputUnreadable: it cannot be read, is a directory, or a pipe or device that does not end.
    """
    try:
        is_regular = stat.S_ISREG(path.stat().st_mode)
        if is_found and not is_regular:
            raise InputUnreadable(f"{one_line(path)}: is no regular file; move it away")
        with path.open("rb") as file:
            if stat.S_ISREG(os.fstat(file.fileno()).st_mode):
                return file.read()
            data = file.read(_MOST + 1)
    except (OSError, ValueError) as error:
        reason = error.strerror if isinstance(error, OSError) else error
        raise InputUnreadable(f"{one_line(path)}: cannot be read: {reason}") from error
    if len(data) > _MOST:
        raise InputUnreadable(f"{one_line(path)}: is no regular file, and gives more than {_MOST >> 20} MiB")
    return data
