"""The numbers of a comparison, as plain data."""

from __future__ import annotations

from collections.abc import Callable, Iterable
from dataclasses import dataclass
from statistics import fmean

from llmpar.comparison.pairs import Matched, Pair, confidence_of, is_failed, said
from llmpar.comparison.references import Scorer
from llmpar.reporting.pieces import Piece


@dataclass(frozen=True, slots=True)
class Side:
    """What one run comes to, over the pieces that both have.

    Args:
        num_failed: pieces that failed.
        num_cut: answers that end at a limit.
        confidence: the mean of the answers whose confidence is known; None if there is none.
        num_written: tokens of all answers; None if that is not known.
        num_exact: answers that are the reference; None without references.
        chrf: of all answers against the references, from 0 to 100; None without references, or without the library.
    """

    num_failed: int
    num_cut: int
    confidence: float | None
    num_written: int | None
    num_exact: int | None
    chrf: float | None


@dataclass(frozen=True, slots=True)
class Figures:
    """What a comparison comes to.

    Args:
        num_pairs: pieces that both runs have.
        num_same: of these, those with the same answer.
        num_unknown: pieces of which an answer was not kept; they count for nothing else.
        num_only_first: pieces that only the first has.
        num_only_second: pieces that only the second has.
        num_other_source: pieces that stand in the same place with another text.
        checks: how many are better and how many worse in the second run, by their checks.
        confidence: the same, by the confidence of the model.
        exact: the same, by whether they are their reference.
        num_references: pieces with a reference.
        sides: what each run comes to.
    """

    num_pairs: int
    num_same: int
    num_unknown: int
    num_only_first: int
    num_only_second: int
    num_other_source: int
    checks: tuple[int, int]
    confidence: tuple[int, int]
    exact: tuple[int, int]
    num_references: int
    sides: tuple[Side, Side]


def figures_of(matched: Matched, scorer: Scorer | None) -> Figures:
    """Count what two runs come to.

    Args:
        matched: their pieces.
        scorer: compares answers with references; None for nothing but the exact match.
    """
    pairs = matched.pairs
    return Figures(
        len(pairs),
        sum(pair.is_same for pair in pairs),
        matched.num_unknown,
        matched.num_only_first,
        matched.num_only_second,
        matched.num_other_source,
        _verdicts(pair.by_checks for pair in pairs),
        _verdicts(pair.by_confidence for pair in pairs),
        _verdicts(pair.by_reference for pair in pairs),
        sum(pair.reference is not None for pair in pairs),
        (_side(pairs, lambda pair: pair.first, scorer), _side(pairs, lambda pair: pair.second, scorer)),
    )


def _verdicts(verdicts: Iterable[str]) -> tuple[int, int]:
    found = list(verdicts)
    return found.count("better"), found.count("worse")


def _side(pairs: Iterable[Pair], of: Callable[[Pair], Piece], scorer: Scorer | None) -> Side:
    pieces = [(of(pair), pair.reference) for pair in pairs]
    judged = [(said(piece), reference) for piece, reference in pieces if reference is not None]
    sure = [found for piece, _ in pieces if (found := confidence_of(piece)) is not None]
    written = [number for piece, _ in pieces if isinstance(number := piece.record.get("output_tokens"), int)]
    return Side(
        sum(is_failed(piece) for piece, _ in pieces),
        sum(piece.is_cut for piece, _ in pieces),
        fmean(sure) if sure else None,
        sum(written) if written else None,
        sum(answer.strip() == reference.strip() for answer, reference in judged) if judged else None,
        scorer.all_of(judged) if scorer and judged else None,
    )
