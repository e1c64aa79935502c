"""How sure a model was of an answer, as one number from 0 to 1."""

from __future__ import annotations

import math
from collections.abc import Sequence


def confidence_of(
    answer: str, mean_logprob: float | None, probabilities: Sequence[tuple[str, float]] = ()
) -> float | None:
    """Return how sure a model was of an answer; None if that is not known.

    Args:
        answer: what it said. If it is one of several choices, its probability among them is returned.
        mean_logprob: the mean of its tokens' log-probabilities, natural logarithms. Else e to that is returned: the
            geometric mean of the tokens' probabilities.
        probabilities: of all choices.
    """
    known = dict(probabilities)
    if answer in known:
        return known[answer]
    return None if mean_logprob is None else round(math.exp(mean_logprob), 6)
