"""A GGUF file as a model of transformers with all its weights in memory, for whoever computes with torch."""

from __future__ import annotations

from pathlib import Path
from typing import Any

from llmpar.errors import ModelUnavailable


def expand(path: Path, dtype: Any) -> Any:
    """Return a file's causal language model.

    Args:
        path: the file.
        dtype: torch's type that the weights become; None for the floats of 16 bits that most of them are, else float32.

    Raises:
        ModelUnavailable: the file is damaged, or its weights are not those of its configuration.
    """
    import torch
    from transformers import AutoConfig, AutoModelForCausalLM

    from llmpar.models.gguf.model import config, open_weights
    from llmpar.models.skeleton import OtherWeights, open_skeleton

    weights = open_weights(path)
    own = {"F16": torch.float16, "BF16": torch.bfloat16}.get(weights.main_kind, torch.float32)
    try:
        skeleton = open_skeleton(AutoModelForCausalLM, AutoConfig.for_model(**config(path)), weights)
    except OtherWeights as reason:
        raise ModelUnavailable(f"{path.name!r}: cannot be loaded: {reason}") from reason
    return skeleton.filled(dtype or own).requires_grad_(False)
