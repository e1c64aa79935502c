"""Dots that say that something is left out: a sentence ends there before a capital, and goes on before all else."""

from __future__ import annotations

from llmpar.documents.sentences.border import Border


def opinion(border: Border) -> bool | None:
    """Return whether a sentence ends behind `..` or `…`; None behind other marks."""
    marks = border.marks
    if marks == "…" or (marks.startswith(("..", "…")) and not marks.strip(".…")):
        return border.goes_on_high
    return None
