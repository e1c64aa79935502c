"""What becomes of logits that are no numbers: the one rule about it, which every runner keeps.

Of the logits of the tokens that may come (all of them, or those in a row's mask), none may be NaN or plus infinity, and
one at least must be finite. In other words: the largest is a finite number, where NaN counts as larger than all.
Minus infinity is how models and masks say "never", and breaks nothing.

A row that breaks the rule gets NO_TOKEN in place of a token, and `Sequence.append` fails it with the reason
NOT_FINITE; other rows are none of its business. A model that breaks it for a short text when it is loaded is refused
(`check_model`). What computes a row must let such numbers through to its logits: whatever rounds, clamps or compares
them on the way may turn them into ordinary ones, and then nobody can tell.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from llmpar.engine.resources import is_device_lost, is_out_of_memory
from llmpar.errors import ModelUnavailable, setting

if TYPE_CHECKING:
    import torch

NO_TOKEN = -1
"""Stands for the next token where logits break the rule."""
NOT_FINITE = "the model's logits are not finite numbers (NaN or infinity)"
_NUM_TRIED = 40  # tokens


def likeliest(logits: torch.Tensor) -> torch.Tensor:
    """Return the likeliest token (B,) of each row of `logits` (B, V), NO_TOKEN where they break the rule."""
    values, ids = logits.max(dim=-1)  # NaN is larger than all, to torch
    return ids.masked_fill(~values.isfinite(), NO_TOKEN)


def check_model(model: Any, name: str) -> None:
    """Try a model of transformers on a short text.

    Args:
        model: on its device, as it will compute. All ranks of one that is spread over several do this at once.
        name: what messages call it.

    Raises:
        ModelUnavailable: its logits break the rule, or it cannot read a text.
    """
    import torch

    config = model.config.get_text_config()
    length = min(_NUM_TRIED, getattr(config, "max_position_embeddings", None) or _NUM_TRIED)
    ids = (torch.arange(1, length + 1) * 7919 % model.get_input_embeddings().weight.shape[0]).to(model.device)[None]
    asked = {"input_ids": ids}
    if model.config.is_encoder_decoder:
        num_scored = model.get_output_embeddings().weight.shape[0]  # its decoder may read other tokens
        asked["decoder_input_ids"] = ids[:, :1] % num_scored
    try:
        with torch.inference_mode():
            logits = model(**asked, use_cache=False).logits[0]
    except Exception as error:  # whatever a model's own code raises
        if is_out_of_memory(error) or is_device_lost(error):
            raise
        said = f"{type(error).__name__}: {error}".partition("\n")[0]
        raise ModelUnavailable(f"{name}: cannot read a short text: {said}") from error
    if bool((likeliest(logits) == NO_TOKEN).any()):
        raise ModelUnavailable(
            f"{name}: {NOT_FINITE} even for a short text; its weights or its config.json are damaged, or too large for "
            f"this precision: fetch it again, or try {setting('precision', 'fp32')}"
        )
