"""Pieces of two runs, put side by side: what changed, and whether that is better or worse."""

from __future__ import annotations

import re
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from difflib import SequenceMatcher
from typing import Literal

from llmpar.comparison.records import field_of
from llmpar.reporting.pieces import Piece

Verdict = Literal["better", "worse", ""]
MARGIN = 0.05
"""How far apart two confidences are that tell something."""
_WORD = re.compile(r"[\u3040-\u30ff\u3400-\u9fff]|\w+|\W")
_MOST_WORDS = 400  # of a text that is compared word by word: more would take seconds


@dataclass(frozen=True, slots=True)
class Pair:
    """A piece that both runs answered.

    Args:
        first: as the first run has it.
        second: as the second run has it.
        reference: the answer that is right; None for none.
    """

    first: Piece
    second: Piece
    reference: str | None = None

    @property
    def place(self) -> str:
        """Where it stands, for people."""
        return self.first.place

    @property
    def is_same(self) -> bool:
        """Whether the same stands there after both runs: the same answer, or none."""
        fates = tuple((is_failed(piece), _is_left(piece)) for piece in (self.first, self.second))
        if fates[0] != fates[1]:
            return False
        return any(fates[0]) or self.first.answer == self.second.answer

    @property
    def is_known(self) -> bool:
        """Whether both answers are known: those of a log are only where the store has them."""
        return all(
            is_failed(piece) or _is_left(piece) or piece.answer is not None for piece in (self.first, self.second)
        )

    @property
    def by_checks(self) -> Verdict:
        """What checks say of the second one: better, if only the first failed."""
        return _verdict(is_failed(self.first), is_failed(self.second))

    @property
    def by_confidence(self) -> Verdict:
        """What the model says of the second one, if both are good and their confidences are apart."""
        one, other = confidence_of(self.first), confidence_of(self.second)
        if one is None or other is None or is_failed(self.first) or is_failed(self.second):
            return ""
        return "better" if other > one + MARGIN else "worse" if other < one - MARGIN else ""

    @property
    def by_reference(self) -> Verdict:
        """Whether the second one alone, or the first one alone, is the reference word for word."""
        if self.reference is None:
            return ""
        wanted = self.reference.strip()
        return _verdict(said(self.first).strip() != wanted, said(self.second).strip() != wanted)

    @property
    def change(self) -> float:
        """How much the answers differ, from 0 for not at all to 1 for all of it."""
        one, other = (_WORD.findall(said(piece))[:_MOST_WORDS] for piece in (self.first, self.second))
        return 0.0 if one == other else 1.0 - SequenceMatcher(None, one, other, autojunk=False).ratio()


@dataclass(frozen=True, slots=True)
class Matched:
    """What two runs have in common.

    Args:
        pairs: the pieces that both answered, in the order of the first run.
        num_unknown: others, of which an answer was not kept.
        num_only_first: pieces that only the first has.
        num_only_second: pieces that only the second has.
        num_other_source: pieces that stand in the same place with another text.
    """

    pairs: tuple[Pair, ...]
    num_unknown: int = 0
    num_only_first: int = 0
    num_only_second: int = 0
    num_other_source: int = 0


def match(first: Sequence[Piece], second: Sequence[Piece], reference: str | None = None) -> Matched:
    """Put the pieces of two runs side by side, by their documents and places; of repeated ones, the last counts.

    Where each run has one document, its name does not matter. Records are taken in their order if one of the two runs
    has no places.

    Args:
        first: of one run.
        second: of the other.
        reference: the name under which records have the answer that is right; None for none.
    """
    kind = next((name for name in ("index", "start") if all(name in p.record for p in (*first, *second))), None)
    names = kind is not None and not (_is_single(first) and _is_single(second))
    ones, others = (dict(zip(_places(run, kind, names=names), run, strict=True)) for run in (first, second))
    pairs, num_other_source = [], 0
    for place, piece in ones.items():
        other = others.get(place)
        if other is None:
            continue
        if piece.source is not None and other.source is not None and piece.source != other.source:
            num_other_source += 1
            continue
        right = None
        if reference is not None:
            right = field_of(piece, reference)
            right = field_of(other, reference) if right is None else right
        pairs.append(Pair(piece, other, right))
    known = tuple(pair for pair in pairs if pair.is_known)
    num_only_first, num_only_second = len(ones.keys() - others.keys()), len(others.keys() - ones.keys())
    return Matched(known, len(pairs) - len(known), num_only_first, num_only_second, num_other_source)


def is_failed(piece: Piece) -> bool:
    """Tell whether a piece failed its checks, or was not answered."""
    return piece.record.get("error") is not None


def said(piece: Piece) -> str:
    """Return what stands for a piece: nothing, if it failed; what it was, if no model was asked."""
    if is_failed(piece):
        return ""
    return (piece.source if piece.answer is None and _is_left(piece) else piece.answer) or ""


def confidence_of(piece: Piece) -> float | None:
    """Return how sure the model was, from 0 to 1; None if that is not known."""
    value = piece.record.get("confidence")
    return float(value) if isinstance(value, int | float) else None


def _is_left(piece: Piece) -> bool:
    return piece.record.get("finish_reason") == "kept"


def _verdict(first_is_bad: bool, second_is_bad: bool) -> Verdict:
    if first_is_bad == second_is_bad:
        return ""
    return "better" if first_is_bad else "worse"


def _is_single(pieces: Sequence[Piece]) -> bool:
    return len({piece.record.get("document") for piece in pieces}) <= 1


def _places(pieces: Sequence[Piece], kind: str | None, *, names: bool) -> Iterator[tuple[object, ...]]:
    """Yield for each piece what tells it from the others: what its record has of a kind, else its number."""
    for number, piece in enumerate(pieces):
        record = piece.record
        document = record.get("document") if names else None
        yield (document, record[kind], record.get("label")) if kind else (number,)
