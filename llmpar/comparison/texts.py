"""A comparison in words for a terminal, and as one object of JSON for programs."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import asdict

from llmpar.comparison.changes import Change
from llmpar.comparison.figures import Figures
from llmpar.errors import setting
from llmpar.visible import one_line

_SHOWN = 160  # characters of a text


def in_words(names: Sequence[str], figures: Figures, changes: Sequence[Change], num_shown: int) -> Iterator[str]:
    """Yield the lines that people read.

    Args:
        names: of the files, one or two.
        figures: what they come to.
        changes: the largest first.
        num_shown: how many of them are shown.
    """
    is_single = len(names) == 1
    for letter, name in zip("AB", names, strict=False):
        yield f"{letter}  {one_line(name)}"
    yield ""
    yield from _counts(figures, is_single=is_single)
    head = f"{'':<24}{'A':>12}" + ("" if is_single else f"{'B':>12}")
    yield head
    for name, values, verdicts in _rows(figures):
        numbers = "".join(f"{value:>12}" for value in values[: 1 if is_single else 2])
        yield f"{name:<24}{numbers}{'' if is_single else _verdicts(verdicts)}"
    shown = changes[:num_shown]
    if shown:
        yield ""
        yield "Farthest from the reference:" if is_single else "The largest changes, of A to B:"
    for change in shown:
        yield from _told(change, is_single=is_single)
    if len(changes) > len(shown):
        yield f"… and {len(changes) - len(shown):,} more ({setting('show', str(len(changes)))})"


def as_object(
    names: Sequence[str], figures: Figures, signature: str, changes: Sequence[Change], num_shown: int
) -> dict[str, object]:
    """Return what `in_words` says as plain data, with whole texts."""
    told = asdict(figures)
    told["changes"] = [change.told() for change in changes[:num_shown]]
    if signature:
        told["chrf_signature"] = signature
    if len(names) == 1:
        kept = ("num_pairs", "num_references", "sides", "changes", "chrf_signature")
        told = {name: value for name, value in told.items() if name in kept}
        told["sides"] = told["sides"][:1]
    for name in ("checks", "confidence", "exact"):
        if name in told:
            told[name] = dict(zip(("better", "worse"), told[name], strict=True))
    return {"files": list(names), **told}


def _counts(figures: Figures, *, is_single: bool) -> Iterator[str]:
    if is_single:
        yield f"{'pieces':<24}{figures.num_pairs:>12,}"
        return
    yield f"{'pieces in both':<24}{figures.num_pairs:>12,}"
    yield f"{'  same answer':<24}{figures.num_same:>12,}"
    yield f"{'  changed':<24}{figures.num_pairs - figures.num_same:>12,}"
    for name, number in (
        ("only in A", figures.num_only_first),
        ("only in B", figures.num_only_second),
        ("with another source", figures.num_other_source),
        ("answer not kept", figures.num_unknown),
    ):
        if number:
            yield f"{name:<24}{number:>12,}"
    yield ""


def _rows(figures: Figures) -> Iterator[tuple[str, list[str], tuple[int, int]]]:
    one, other = figures.sides

    def both(name: str, form: str) -> list[str] | None:
        values = [getattr(side, name) for side in (one, other)]
        return None if values == [None, None] else ["–" if value is None else format(value, form) for value in values]

    exact = f"exact, of {figures.num_references:,}"
    nothing = (0, 0)
    for title, name, form, verdicts in (
        ("failed", "num_failed", ",", figures.checks),
        ("cut at a limit", "num_cut", ",", nothing),
        ("mean confidence", "confidence", ".3f", figures.confidence),
        ("tokens written", "num_written", ",", nothing),
        (exact, "num_exact", ",", figures.exact),
        ("chrF", "chrf", ".2f", nothing),
    ):
        if values := both(name, form):
            yield title, values, verdicts


def _verdicts(verdicts: tuple[int, int]) -> str:
    better, worse = verdicts
    return f"   {better:,} better, {worse:,} worse" if better or worse else ""


def _told(change: Change, *, is_single: bool) -> Iterator[str]:
    pair = change.pair
    verdict = f" ({change.verdict})" if change.verdict and not is_single else ""
    yield f"{one_line(pair.place)}{verdict}"
    one, other = change.chrf
    told = [("A", pair.first.answer, pair.first.record.get("error"), one)]
    told += [] if is_single else [("B", pair.second.answer, pair.second.record.get("error"), other)]
    for letter, answer, error, chrf in told:
        score = "" if chrf is None else f"[{chrf:.1f}] "
        failed = f"[failed: {one_line(error)}] " if error is not None else ""
        yield f"  {letter}  {score}{failed}{'not kept' if answer is None and error is None else _short(answer or '')}"
    if pair.reference is not None:
        yield f"  =  {_short(pair.reference)}"


def _short(text: str) -> str:
    flat = one_line(" ".join(text.split()))
    return flat if len(flat) <= _SHOWN else f"{flat[: _SHOWN - 2]} …"
