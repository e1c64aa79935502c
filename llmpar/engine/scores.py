"""How likely a model finds the tokens of its answers: log-probabilities, beside the tokens themselves.

A log-probability is a natural logarithm, of the softmax of the model's own logits: before a temperature, top-p or a
mask changes what may be drawn. The token of an answer is scored by the logits that it was chosen by. One that a form
left no choice about is not scored; neither is the token that stops the answer, which is none of its tokens.
"""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import TYPE_CHECKING, TypeAlias

if TYPE_CHECKING:
    import numpy as np
    import numpy.typing as npt

    from llmpar.engine.constraint import Mask

NOT_SCORED = math.nan
"""Stands for the log-probability of a token that has none."""

Others: TypeAlias = "tuple[tuple[int, float], ...]"
"""Tokens that could have come at a place, each with its log-probability, the likeliest first."""


@dataclass(frozen=True, slots=True)
class Choice:
    """A token that was chosen: its id, its log-probability, and others at its place, where they are wanted."""

    token_id: int
    logprob: float = NOT_SCORED
    others: Others = ()


def log_total(logits: npt.NDArray[np.floating]) -> float:
    """Return the logarithm of the sum of e to each of some logits (V,), of which the largest is finite."""
    import numpy as np

    wide = logits.astype(np.float64)
    largest = float(wide.max())
    return largest + math.log(float(np.exp(wide - largest).sum()))


def likeliest_others(logits: npt.NDArray[np.floating], total: float, count: int) -> Others:
    """Return the likeliest tokens of logits (V,), at most `count`; `total` is their `log_total`."""
    import numpy as np

    count = min(count, len(logits))
    some = np.argpartition(-logits, count - 1)[:count]
    ordered = some[np.lexsort((some, -logits[some]))]
    return tuple((int(token_id), min(float(logits[token_id]) - total, 0.0)) for token_id in ordered)


def allowed_others(logits: npt.NDArray[np.floating], total: float, mask: Mask) -> Others:
    """Return the tokens that a mask (V / 32,) leaves of logits (V,); `total` is their `log_total`."""
    import numpy as np

    from llmpar.engine.constraint import unpack

    some = np.flatnonzero(unpack(mask, len(logits)))
    ordered = some[np.argsort(-logits[some], kind="stable")]
    return tuple((int(token_id), min(float(logits[token_id]) - total, 0.0)) for token_id in ordered)
