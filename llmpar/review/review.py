"""Results → a file for a person to look through, in order of doubt. Memory stays bounded: a file on disk sorts them."""

from __future__ import annotations

import sqlite3
from collections.abc import Callable, Iterator
from pathlib import Path

from llmpar.answering.judging import PARTS
from llmpar.documents.document import OnError, Result
from llmpar.documents.marks import find_marks
from llmpar.documents.writer import Aside, open_output
from llmpar.errors import UsageError, WriteFailed, setting
from llmpar.review import catalogue, table
from llmpar.review.doubt import doubt_of
from llmpar.review.key import RowKey, spell
from llmpar.review.row import Row
from llmpar.visible import one_line

SUFFIXES = {".csv": ",", ".tsv": "\t", ".po": ""}
"""What a review can be, by its name's end: tables with the sign between their cells, and catalogues."""
_MOST_PLACES = 3  # that a row names, of a piece that comes again
_TABLE = """
CREATE TABLE rows (number INTEGER PRIMARY KEY, question BLOB UNIQUE, rank INTEGER, confidence REAL, count INTEGER,
  place BLOB, part INTEGER, source BLOB, answer BLOB, reason BLOB, rejected BLOB, key TEXT)
"""
_ADD = """
INSERT INTO rows (question, rank, confidence, count, place, part, source, answer, reason, rejected, key)
VALUES (?, ?, ?, 1, ?, ?, ?, ?, ?, ?, ?)
ON CONFLICT (question) DO UPDATE SET count = count + 1,
  place = CASE WHEN count < ? THEN CAST(place || x'2c20' || excluded.place AS BLOB) ELSE place END
"""
_SORTED = """
SELECT place, count, part, source, answer, confidence, reason, rejected, key FROM rows
ORDER BY rank, confidence IS NULL, confidence, number
"""


class Review:
    """A file that a run's answers go into when it is complete.

    Args:
        path: the file; its name's end says what it becomes.
        on_error: what becomes of a piece that failed.
        keeps: whether the run keeps its answers in a store.
        aside: how to write to a terminal that something else is drawn on.
        wait: seconds to wait for somebody else who writes the file.
        language: the tag of the language that answers are in; "" for none.

    Raises:
        UsageError: its name says nothing.
        OutputUncreatable: it cannot be created.
        Busy: somebody else writes it.
    """

    def __init__(
        self,
        path: Path,
        on_error: OnError,
        *,
        keeps: bool,
        aside: Aside = lambda write: write(),
        wait: float = 0.0,
        language: str = "",
    ) -> None:
        self.checks: Callable[[bytes], frozenset[str]] = lambda _: frozenset()
        """Returns what answers of a task must not be, by the hash of what is asked."""
        self._suffix = suffix_of(path)
        self._name = one_line(path)
        self._on_error = on_error
        self._keeps = keeps
        self._language = language
        self._writer = open_output(path, aside, wait=wait)
        self._rows = sqlite3.connect("")  # a file without a name, which goes with the connection
        self._rows.execute(_TABLE)

    def add(self, result: Result) -> None:
        """Take a result in.

        Raises:
            WriteFailed: the disk is full, for instance.
        """
        segment = result.segment
        if not segment.text.strip():  # there is nothing to look at
            return
        doubt = doubt_of(result, self._on_error)
        job, question = (b"", b"") if segment.fault else result.asked
        answer, rejected = (result.answer, "") if result.error is None else ("", result.answer)
        known = result.key[:8] if self._keeps and _is_kept(result) else b""
        marks = min((place.mark.number for place in find_marks(segment.text, segment.marks)), default=0)
        key = RowKey(job, question, known, self.checks(job) if job else frozenset(), marks)
        told = (segment.place, segment.text, answer, doubt.reason, rejected)
        place, source, answer_bytes, reason, rejected_bytes = map(_bytes, told)
        graded = (question or None, int(doubt.rank), result.confidence, place, segment.index + 1)
        values = (*graded, source, answer_bytes, reason, rejected_bytes, spell(key, segment.text, answer), _MOST_PLACES)
        try:
            self._rows.execute(_ADD, values)
        except sqlite3.Error as error:
            raise self._failed(error) from error

    def finish(self) -> None:
        """Write the file, and give it its name."""
        rows = self._sorted()
        delimiter = SUFFIXES[self._suffix]
        try:
            for data in table.written(rows, delimiter) if delimiter else catalogue.written(rows, self._language):
                self._writer.write(data)
        except sqlite3.Error as error:
            raise self._failed(error) from error
        self._writer.close()

    def abandon(self) -> None:
        """Give up what is not finished: the file stays as it was."""
        self._rows.close()
        self._writer.abandon()

    def _failed(self, error: sqlite3.Error) -> WriteFailed:
        return WriteFailed(f"review {self._name}: its rows cannot be kept in a temporary file: {error}")

    def _sorted(self) -> Iterator[Row]:
        for place, count, part, source, answer, confidence, reason, rejected, key in self._rows.execute(_SORTED):
            others = f" and {count - _MOST_PLACES:,} more" if count > _MOST_PLACES else ""
            told = (_text(source), _text(answer), confidence, _text(reason), _text(rejected), key)
            yield Row(_text(place) + others, part, *told)


class NoReview:
    """Stands for a review where nobody wants one."""

    checks: Callable[[bytes], frozenset[str]]

    def add(self, result: Result) -> None:
        """Let a result pass."""

    def finish(self) -> None:
        """Do nothing."""

    def abandon(self) -> None:
        """Do nothing."""


def suffix_of(path: Path) -> str:
    """Return what a review becomes, by its name.

    Raises:
        UsageError: its name does not say.
    """
    suffix = path.suffix.lower()
    if suffix not in SUFFIXES:
        raise UsageError(
            f"{setting('review', one_line(path))}: its name must end in .csv or .tsv, for a spreadsheet, or in .po, "
            "for a translator's editor"
        )
    return suffix


def _is_kept(result: Result) -> bool:
    """Tell whether an answer is kept under its key, wherever answers are kept; of some others that cannot be told."""
    return result.error is None and not result.cut and result.finish_reason in ("stop", "loop", PARTS)


def _bytes(text: str) -> bytes:
    return text.encode("utf-8", "surrogatepass")


def _text(data: bytes) -> str:
    return data.decode("utf-8", "surrogatepass")
