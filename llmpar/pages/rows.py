"""The rows of a page, as JSON that may stand in an HTML document; they wait in a temporary file until it is written."""

from __future__ import annotations

import re
import tempfile
from collections.abc import Iterator, Sequence
from itertools import islice

from llmpar.errors import WriteFailed
from llmpar.visible import json_text

_TOGETHER = 500  # rows in one element: the browser reads them one element at a time
_ACTIVE = re.compile("[<>&\u2028\u2029]")  # what means something to HTML, or to JavaScript


def script_json(value: object) -> str:
    """Return a value as JSON that no script element ends in, whatever texts are in it: `<` is written as an escape."""
    return _ACTIVE.sub(lambda match: f"\\u{ord(match[0]):04x}", json_text(value))


class Rows:
    """Rows that are added one by one, and taken out together; a temporary file holds them, and memory only one.

    Raises:
        WriteFailed: the temporary file cannot be written.
    """

    def __init__(self) -> None:
        self._number = 0
        try:
            self._file = tempfile.TemporaryFile("w+", encoding="utf-8", newline="\n")  # noqa: SIM115
        except OSError as error:
            raise _failed(error) from error

    def __len__(self) -> int:
        return self._number

    def add(self, row: Sequence[object]) -> None:
        """Keep a row: values that JSON knows, in the order of the page's columns."""
        try:
            self._file.write(f"{script_json(row)}\n")
        except OSError as error:
            raise _failed(error) from error
        self._number += 1

    def arrays(self) -> Iterator[str]:
        """Yield all rows as arrays of JSON, some hundred rows in each."""
        try:
            self._file.seek(0)
            while some := [line.rstrip("\n") for line in islice(self._file, _TOGETHER)]:
                yield f"[{','.join(some)}]"
        except OSError as error:
            raise _failed(error) from error

    def close(self) -> None:
        """Give the temporary file back."""
        self._file.close()


def _failed(error: OSError) -> WriteFailed:
    return WriteFailed(f"{tempfile.gettempdir()}: no room for the rows of a page: {error.strerror}")
