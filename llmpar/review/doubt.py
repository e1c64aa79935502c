"""How much an answer is in doubt, and why: from its result alone."""

from __future__ import annotations

from dataclasses import dataclass
from enum import IntEnum

from llmpar.answering.judging import KEPT, PARTS
from llmpar.documents.document import PERSON, OnError, Result
from llmpar.reporting.report import FATES

_LOW = 0.5  # a confidence below it is worth a look


class Rank(IntEnum):
    """Kinds of doubt, the gravest first."""

    FAILED = 0
    CUT = 1
    REPAIRED = 2
    UNSURE = 3
    UNCHANGED = 4
    NONE = 5
    CORRECTED = 6


@dataclass(frozen=True, slots=True)
class Doubt:
    """Why somebody should look at an answer; `reason` is for people, "" for no reason."""

    rank: Rank
    reason: str


def doubt_of(result: Result, on_error: OnError) -> Doubt:
    """Return how much an answer is in doubt.

    Args:
        result: the answer and what came of it.
        on_error: what became of a piece that failed.
    """
    if result.error is not None:
        return Doubt(Rank.FAILED, f"failed: {result.error}; {FATES[on_error][0]}")
    if result.finish_reason == PERSON:
        return Doubt(Rank.CORRECTED, "corrected by a person")
    reasons = []
    if result.cut:
        reasons.append((Rank.CUT, "cut at the limit"))
    if result.finish_reason == PARTS:
        reasons.append((Rank.REPAIRED, "repaired: put together from answers to what stands between its marks"))
    elif result.num_attempts > 1:
        reasons.append((Rank.REPAIRED, f"repaired: good at attempt {result.num_attempts}"))
    if result.confidence is not None and result.confidence < _LOW:
        reasons.append((Rank.UNSURE, "low confidence"))
    if result.finish_reason == KEPT:
        reasons.append((Rank.UNCHANGED, "kept as it was: no model was asked"))
    elif result.answer == result.text:
        reasons.append((Rank.UNCHANGED, "kept as it was: the answer says the same"))
    if not reasons:
        return Doubt(Rank.NONE, "")
    return Doubt(min(rank for rank, _ in reasons), "; ".join(reason for _, reason in reasons))
