"""What llmpar's decoder makes of some tokens, and how likely that makes others."""

from __future__ import annotations

import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt

Logits = Callable[[list[int]], npt.NDArray[np.float32]]
"""(token ids (N,)) → the logits (N, V) after each."""


def decoder_logits(path: Path, precision: Any, length: int) -> Logits:
    """Return the logits that our decoder on the CPU finds for up to `length` tokens, which divides by a page.

    Args:
        path: the model's directory or GGUF file.
        precision: what it computes in.
        length: the most tokens.
    """
    from llmpar.engine.cpu.decoder import Decoder, Pass, Tokens
    from llmpar.engine.pages import PAGE
    from llmpar.models.load import load_model

    decoder = load_model(path, "cpu", precision).models[0].decoder
    if not isinstance(decoder, Decoder):
        sys.exit(f"{path.name} runs through torch: there is no decoder whose accuracy could be told")
    tables = np.arange(length // PAGE, dtype=np.int32)[None]
    work = Pass(decoder, length, *decoder.make_pages(tables.size))

    def logits(ids: list[int]) -> npt.NDArray[np.float32]:
        places = np.arange(len(ids), dtype=np.int32)
        return work.logits(work.forward(Tokens(np.array(ids, np.int32), places, np.zeros_like(places), tables)))

    return logits


def likelihoods_of(ids: list[int], logits: npt.NDArray[np.float32]) -> npt.NDArray[np.float64]:
    """Return the logarithms (N,) of how likely tokens are by the logits (N, V) before each."""
    logits = logits - logits.max(1, keepdims=True)
    wanted = logits[np.arange(len(logits)), ids]
    return wanted - np.log(np.exp(logits).sum(1, dtype=np.float64))
