"""What a page shows of one piece, and the totals of all: from a line of the log, and the texts that belong to it."""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import dataclass
from datetime import datetime

from llmpar.pages.page import Fact
from llmpar.reporting.report import counted

COLUMNS = (
    "place",
    "source",
    "answer",
    "error",
    "reason",
    "origin",
    "cut",
    "attempts",
    "prompt_tokens",
    "output_tokens",
    "seconds",
    "worker",
    "finished",
    "key",
    "model",
    "confidence",
    "mean_logprob",
    "min_logprob",
    "probabilities",
    "reasoning",
    "others",
)
"""The names of a row's values, which `pages/parts/report.js` knows; `others` are attempts, `finished` is in seconds."""

UNSURE = 0.5
"""The confidence below which an answer is shown as unsure, until somebody says another one."""

_KEPT = "kept"


@dataclass(frozen=True, slots=True)
class Attempt:
    """What one attempt said: its number, from 0, its text, and how it ended."""

    number: int
    text: str
    finish_reason: str


@dataclass(frozen=True, slots=True)
class Piece:
    """A piece with its answer.

    Args:
        record: a line of the log.
        source: what was asked about; None if that is not kept.
        answer: what was answered last; None if that is not kept.
        others: the attempts besides the one that counts.
    """

    record: Mapping[str, object]
    source: str | None
    answer: str | None
    others: tuple[Attempt, ...] = ()

    @property
    def place(self) -> str:
        """Where it stands, for people."""
        record = self.record
        if record.get("label"):
            return str(record["label"])
        place = f"{record.get('document')}:{record['line']}" if "line" in record else None  # older logs have none
        return place or f"{record.get('document')} ({record.get('start')}-{record.get('end')})"

    @property
    def origin(self) -> str:
        """Where its answer comes from, if not from a model in this run."""
        if self.record.get("repeated"):
            return "repeated"
        return "store" if self.record.get("cached") else ""

    @property
    def is_cut(self) -> bool:
        """Whether the answer ends at a limit that the user set."""
        is_at_limit = self.record.get("finish_reason") == "length" and self.record.get("error") is None
        return bool(self.record.get("cut")) or is_at_limit

    def row(self) -> list[object]:
        """Return its values, in the order of `COLUMNS`."""
        record = self.record
        values = {
            **record,
            "place": self.place,
            "source": self.source,
            "answer": self.answer,
            "reason": record.get("finish_reason"),
            "origin": self.origin,
            "cut": self.is_cut,
            "finished": _seconds(record.get("finished")),
            "others": [[other.number, other.text, other.finish_reason] for other in self.others],
        }
        return [_finite(values.get(name)) for name in COLUMNS]


@dataclass(slots=True)
class Totals:
    """The counts of pieces, as a page shows them."""

    noun: str = "piece"
    num_pieces: int = 0
    num_failed: int = 0
    num_cut: int = 0
    num_kept: int = 0
    num_cached: int = 0
    num_repeated: int = 0
    num_retried: int = 0
    num_without_source: int = 0
    num_without_answer: int = 0
    num_prompt_tokens: int = 0
    num_output_tokens: int = 0
    num_unsure: int = 0

    def add(self, piece: Piece) -> None:
        """Count a piece."""
        record, origin = piece.record, piece.origin
        self.num_pieces += 1
        self.num_failed += record.get("error") is not None
        self.num_cut += piece.is_cut
        self.num_kept += record.get("finish_reason") == _KEPT
        self.num_cached += origin == "store"
        self.num_repeated += origin == "repeated"
        self.num_without_source += piece.source is None
        self.num_without_answer += piece.answer is None
        if not origin:
            self.num_retried += record.get("error") is None and _whole(record.get("attempts")) > 1
            self.num_prompt_tokens += _whole(record.get("prompt_tokens"))
            self.num_output_tokens += _whole(record.get("output_tokens"))
        confidence = _finite(record.get("confidence"))
        self.num_unsure += isinstance(confidence, int | float) and confidence < UNSURE

    def facts(self) -> tuple[Fact, ...]:
        """Return the totals for people; what is nought is left out, but for failures."""
        noun = f"{self.noun}s"
        facts = [Fact(noun[0].upper() + noun[1:], f"{self.num_pieces:,}")]
        facts.append(Fact("Failed", f"{self.num_failed:,}", "bad" if self.num_failed else ""))
        facts += [
            Fact(name, f"{number:,}", "poor" if is_poor else "")
            for name, number, is_poor in (
                ("Cut at the limit", self.num_cut, True),
                ("Good after another attempt", self.num_retried, False),
                ("Left as they were", self.num_kept, False),
                ("From the store", self.num_cached, False),
                ("Repeated", self.num_repeated, False),
                (f"Confidence below {UNSURE:.0%}", self.num_unsure, True),
            )
            if number
        ]
        facts.append(Fact("Tokens read", f"{self.num_prompt_tokens:,}"))
        facts.append(Fact("Tokens written", f"{self.num_output_tokens:,}"))
        return tuple(facts)

    def lacks(self) -> str:
        """Return a sentence about texts that were not kept, "" if all were."""
        parts = []
        if self.num_without_source:
            parts.append(f"of {counted(self.num_without_source, self.noun)} the source")
        if self.num_without_answer:
            parts.append(f"of {counted(self.num_without_answer, self.noun)} the answer")
        return f"{' and '.join(parts)} was not kept" if parts else ""


def _whole(number: object) -> int:
    return number if isinstance(number, int) else 0


def _seconds(date: object) -> float | None:
    """Return a date of the log in seconds since 1970, None if there is none."""
    if not isinstance(date, str):
        return None
    try:
        return round(datetime.fromisoformat(date).timestamp(), 3)
    except (ValueError, OverflowError):  # somebody else wrote it
        return None


def _finite(value: object) -> object:
    """Return a value that JSON knows: it has no infinite numbers."""
    return None if isinstance(value, float) and not math.isfinite(value) else value
