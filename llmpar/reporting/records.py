"""What a run did, piece by piece, as JSON lines for other programs: of every piece, and of those that failed."""

from __future__ import annotations

import json
import os
import time
from datetime import datetime, timezone
from pathlib import Path
from typing import BinaryIO

from llmpar.documents.document import Block, Result, Segment, count_lines
from llmpar.documents.writer import goes_on, open_as_it_is
from llmpar.errors import OutputUncreatable, WriteFailed
from llmpar.visible import json_text, one_line

_BEGINNINGS = (b'{"date": ', b'{"document": ')  # of the first record; earlier versions wrote the latter


class Records:
    """Writes a line for each result, at once, so that what is there is whole whenever the run ends.

    Args:
        log: takes every result; None for nowhere.
        errors: takes those that failed, with what the model said last; where lines are added, none that is there
            already and was not asked about again.
        model: its name, for the records.
        appends: whether lines go behind those that are there; else a file begins anew.

    Raises:
        OutputUncreatable: a file cannot be created, or holds something else than such lines.
    """

    def __init__(self, log: Path | None, errors: Path | None, model: str, *, appends: bool = False) -> None:
        self._recorder = Recorder(model)
        self._streams: dict[str, BinaryIO] = {}
        self._told: set[int] = set()  # hashes of the failures that are recorded already
        self._places = {name: place for name, place in (("log", log), ("errors", errors)) if place}
        try:
            for name, place in self._places.items():
                is_torn = _look_at(place, name)
                if appends and name == "errors":
                    self._told = _told_in(place)
                self._streams[name] = open_as_it_is(place, buffering=0, appends=appends)
                if appends and is_torn:  # a run that was killed left half a line
                    self._streams[name].write(b"\n")
        except OSError as error:
            self.close()
            reason = f"{name} {one_line(place)}: cannot be created: {error.strerror}"
            raise OutputUncreatable(reason) from error

    def add(self, result: Result) -> None:
        """Record a result.

        Raises:
            WriteFailed: the disk is full, for instance.
        """
        if "log" in self._streams:
            self._write("log", self._recorder.record(result))
        if "errors" in self._streams and result.error is not None:
            record = self._recorder.record(result) | {"text": result.segment.source, "answer": result.answer}
            if not (result.cached and _identity(record) in self._told):
                self._write("errors", record)

    def close(self) -> None:
        """Close the files."""
        for stream in self._streams.values():
            stream.close()

    def _write(self, name: str, record: dict[str, object]) -> None:
        data = f"{json_text(record)}\n".encode()
        try:
            while data:
                data = data[self._streams[name].write(data) :]
        except OSError as error:
            raise WriteFailed(f"{one_line(self._places[name])}: writing failed: {error.strerror}") from error


class Recorder:
    """Makes records of results.

    Args:
        model: its name.
    """

    def __init__(self, model: str) -> None:
        self._model = model
        self._block: Block | None = None
        self._at = self._num_lines = 0  # lines of the block that end before this place in it

    def record(self, result: Result) -> dict[str, object]:
        """Return what a log says of a result: plain data, and of texts only what a model wrote for itself."""
        return _record_of(result, self._model, self._line(result.segment))

    def _line(self, segment: Segment) -> int:
        """Return the line that a segment begins in, from 1, counted from the segment before."""
        if segment.block is not self._block or segment.start < self._at:
            self._block, self._at, self._num_lines = segment.block, 0, 0
        self._num_lines += count_lines(segment.block.text, segment.start, self._at)
        self._at = segment.start
        return 1 + segment.block.line + self._num_lines


def _record_of(result: Result, model: str, line: int) -> dict[str, object]:
    segment = result.segment
    start, end = segment.span
    record: dict[str, object] = {
        "date": _date(time.time(), "seconds"),
        "document": segment.block.document.name,
        "index": segment.index,
        "start": start,
        "end": end,
        "line": line,
        "key": result.key.hex(),
        "model": model,
        "prompt_tokens": result.num_prompt_tokens,
        "output_tokens": result.num_output_tokens,
        "seconds": round(result.seconds, 3),
        "attempts": result.num_attempts,
        "finish_reason": result.finish_reason,
        "cached": result.cached or result.reused,
        "worker": result.worker,
        "error": result.error,
    }
    if segment.label:
        record["label"] = segment.label
    if result.cut:
        record["cut"] = True
    if result.reused:
        record["repeated"] = True
    if result.finished is not None and not result.reused:
        record["finished"] = _date(result.finished, "milliseconds")
    if result.num_reasoning_tokens:
        record |= {"reasoning": result.reasoning, "reasoning_tokens": result.num_reasoning_tokens}
    return record | result.scores


def _date(seconds: float, precision: str) -> str:
    return datetime.fromtimestamp(seconds, timezone.utc).astimezone().isoformat(timespec=precision)


def _identity(record: dict[str, object]) -> int:
    """Return by what the record of a failure is known again: its document and its key."""
    return hash((record.get("document"), record.get("key")))


def _told_in(place: Path) -> set[int]:
    """Return which failures a file records; what a run that was killed left half-written counts for nothing.

    Raises:
        OSError: it cannot be read.
    """
    if goes_on(place) or not place.is_file() or not os.access(place, os.R_OK):
        return set()
    found: set[int] = set()
    with place.open(encoding="utf-8", errors="replace") as file:
        for line in file:
            try:
                record = json.loads(line)
            except ValueError:
                continue
            if isinstance(record, dict):
                found.add(_identity(record))
    return found


def _look_at(place: Path, name: str) -> bool:
    """Refuse a file that holds something else than records; return whether its last line has no end.

    Raises:
        OutputUncreatable: it does; somebody may have named it by mistake.
        OSError: it cannot be read.
    """
    if goes_on(place):  # what is there is its owner's affair
        return False
    if not place.is_file() or not place.stat().st_size or not os.access(place, os.R_OK):
        return False
    with place.open("rb") as file:
        first = file.read(len(max(_BEGINNINGS, key=len)))
        file.seek(-1, os.SEEK_END)
        last = file.read(1)
    if not first.startswith(_BEGINNINGS):
        raise OutputUncreatable(
            f"{name} {one_line(place)}: holds something else than records of llmpar, and is left as it is; name "
            "another file, or move it away"
        )
    return last != b"\n"
