"""What a user may not know when a run begins: that lines look like pieces, or that a model is not made for the task."""

from __future__ import annotations

from statistics import median

from llmpar.documents.layout import soft_breaks
from llmpar.models.names import DEFAULT_MODEL

_TELLING, _MOST_LINES, _FEWEST_LINES = 20_000, 100, 5
_LONGEST = 400  # characters; a longer line is a paragraph, as a rule
_MOST_WRAPPED = 0.2  # of the ends of lines


def is_of_lines(text: str) -> bool:
    """Tell whether a text looks like one short text on each line: many lines, no blank one, and nothing wrapped."""
    lines = [line.strip() for line in text[:_TELLING].split("\n")[:_MOST_LINES]]
    lines = lines[:-1] if lines and not lines[-1] else lines
    if len(lines) < _FEWEST_LINES or not all(lines) or median(map(len, lines)) > _LONGEST:
        return False
    breaks = soft_breaks(lines)
    return sum(breaks) <= _MOST_WRAPPED * len(breaks)


def warn_of_model(task: str, model: str) -> str | None:
    """Return what a person should know before a model does a task that it cannot do; None where nothing is known.

    Args:
        task: its name.
        model: as the user names it.
    """
    if task != "translate" or model != DEFAULT_MODEL:
        return None
    return (
        f"{model} is there to try things out, and does not translate well into any language; take a model made for "
        "it with -m (`llmpar help models` names some)"
    )
