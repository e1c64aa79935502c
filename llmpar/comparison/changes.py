"""What changed between two runs, the largest change first, with all that tells how large it is."""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from dataclasses import dataclass

from llmpar.comparison.pairs import Pair, confidence_of, said
from llmpar.comparison.references import Scorer
from llmpar.reporting.pieces import Piece

COLUMNS = (
    "place", "source", "reference", "first", "second", "first_error", "second_error", "first_confidence",
    "second_confidence", "first_chrf", "second_chrf", "first_exact", "second_exact", "change", "verdict", "same",
)  # fmt: skip
"""The names of what is told of a piece, which `pages/parts/compare.js` knows."""


@dataclass(frozen=True, slots=True)
class Change:
    """A piece that both runs have, and how its answers differ.

    Args:
        pair: the piece.
        size: how much the answers differ, from 0 to 1; where both are scored, by how far they are from each other
            against the reference.
        chrf: of each answer, from 0 to 100; None without a reference.
    """

    pair: Pair
    size: float
    chrf: tuple[float | None, float | None] = (None, None)

    @property
    def verdict(self) -> str:
        """Whether the second answer is better or worse, by checks, else by the reference, else by confidence."""
        pair, (one, other) = self.pair, self.chrf
        if found := pair.by_checks or pair.by_reference:
            return found
        if one is not None and other is not None and one != other:
            return "better" if other > one else "worse"
        return pair.by_confidence

    def told(self) -> dict[str, object]:
        """Return all that is known of it, by the names of `COLUMNS`: values that JSON knows."""
        pair = self.pair
        values = (
            pair.place, pair.first.source if pair.first.source is not None else pair.second.source, pair.reference,
            pair.first.answer, pair.second.answer, pair.first.record.get("error"), pair.second.record.get("error"),
            confidence_of(pair.first), confidence_of(pair.second), *self.chrf, _is_exact(pair, pair.first),
            _is_exact(pair, pair.second), round(self.size, 4), self.verdict, pair.is_same,
        )  # fmt: skip
        return dict(zip(COLUMNS, values, strict=True))


def changes_of(pairs: Iterable[Pair], scorer: Scorer | None) -> Iterator[Change]:
    """Yield every piece, in order, with the size of its change."""
    for pair in pairs:
        if pair.reference is None or scorer is None:
            yield Change(pair, 0.0 if pair.is_same else max(pair.change, float(bool(pair.by_checks))))
            continue
        one, other = (scorer.one_of(said(piece), pair.reference) for piece in (pair.first, pair.second))
        yield Change(pair, abs(one - other) / 100, (round(one, 2), round(other, 2)))


def largest(changes: Iterable[Change]) -> list[Change]:
    """Return what changed, the largest change first; equal ones in their order."""
    return sorted((change for change in changes if not change.pair.is_same), key=lambda change: -change.size)


def farthest(changes: Iterable[Change]) -> list[Change]:
    """Return the pieces of a single run that are not their reference, those that are farthest from it first."""
    apart = [change for change in changes if _is_exact(change.pair, change.pair.first) is False]
    return sorted(apart, key=lambda change: change.chrf[0] or 0.0)


def _is_exact(pair: Pair, piece: Piece) -> bool | None:
    return None if pair.reference is None else said(piece).strip() == pair.reference.strip()
