"""What a run did, piece by piece, as JSON lines for other programs: `--log` and `--errors`."""

from __future__ import annotations

import json
from collections.abc import Sequence
from pathlib import Path
from typing import BinaryIO

from llmpar.documents.document import Result
from llmpar.errors import OutputUncreatable, UsageError, WriteFailed
from llmpar.visible import one_line


class Records:
    """Writes a line for each result, at once, so that what is there is whole whenever the run ends.

    Args:
        log: takes every result; None for nowhere.
        errors: takes those that failed, with what the model said last.
        model: its name, for the records.
        others: files of this run that must not be overwritten.

    Raises:
        OutputUncreatable: a file cannot be created.
        UsageError: it is one of the others.
    """

    def __init__(self, log: Path | None, errors: Path | None, model: str, others: Sequence[Path]) -> None:
        self._model = model
        self._log = _opened("--log", log, others)
        self._errors = _opened("--errors", errors, others)
        if log and errors and log.exists() and errors.exists() and log.samefile(errors):
            raise UsageError("--log and --errors: name two files")

    def add(self, result: Result) -> None:
        """Record a result.

        Raises:
            WriteFailed: the disk is full, for instance.
        """
        if self._log:
            self._write(self._log, self._record(result))
        if self._errors and result.error is not None:
            told = {"text": result.segment.source, "answer": result.answer}
            self._write(self._errors, self._record(result) | told)

    def close(self) -> None:
        """Close the files."""
        for stream in (self._log, self._errors):
            if stream:
                stream.close()

    def _record(self, result: Result) -> dict[str, object]:
        start, end = result.segment.span
        return {
            "document": result.segment.block.document.name,
            "index": result.segment.index,
            "start": start,
            "end": end,
            "key": result.key.hex(),
            "model": self._model,
            "prompt_tokens": result.num_prompt_tokens,
            "output_tokens": result.num_output_tokens,
            "seconds": round(result.seconds, 3),
            "attempts": result.num_attempts,
            "finish_reason": result.finish_reason,
            "cached": result.cached or result.reused,
            "worker": result.worker,
            "error": result.error,
        }

    def _write(self, stream: BinaryIO, record: dict[str, object]) -> None:
        try:
            data = (json.dumps(record, ensure_ascii=False) + "\n").encode()
        except UnicodeEncodeError:  # bytes that were no text, carried through as surrogates
            data = (json.dumps(record) + "\n").encode()
        try:
            while data:
                data = data[stream.write(data) :]
        except OSError as error:
            raise WriteFailed(f"{one_line(stream.name)}: writing failed: {error.strerror}") from error


def _opened(option: str, path: Path | None, others: Sequence[Path]) -> BinaryIO | None:
    if path is None:
        return None
    for other in others:
        if path == other or (path.exists() and other.exists() and path.samefile(other)):
            raise UsageError(f"{option} {one_line(path)}: is also an input or output of this run; name another file")
    try:
        return path.open("wb", buffering=0)
    except OSError as error:
        raise OutputUncreatable(f"{option} {one_line(path)}: cannot be created: {error.strerror}") from error
