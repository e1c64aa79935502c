"""A model of transformers whose weights are read from a `WeightSource`, all of them at once, in one type of floats."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import numpy as np

from llmpar.engine.quantized import Quantized
from llmpar.errors import ModelUnavailable

if TYPE_CHECKING:
    import torch

    from llmpar.models.source import WeightSource

_WEIGHTS = 1 << 24  # that are floats of 32 bits at a time, beside those of the model


def filled_model(config: dict[str, Any], source: WeightSource, dtype: torch.dtype, name: str) -> Any:
    """Return a causal language model with the weights of a source, for whoever computes with torch.

    Args:
        config: the model's configuration.
        source: its weights, each of which is given back when it has been read.
        dtype: what the weights become.
        name: of the model, for messages.

    Raises:
        ModelUnavailable: a weight is missing or has another shape, or there is no such model.
    """
    import torch
    from torch import nn
    from transformers import AutoConfig, AutoModelForCausalLM

    from llmpar.models.mapped import without_memory

    try:
        with without_memory():
            model: Any = AutoModelForCausalLM.from_config(  # type: ignore[no-untyped-call]
                AutoConfig.for_model(**config), dtype=dtype
            )
    except Exception as error:  # whatever a model's own code makes of a damaged configuration
        reason = (str(error).strip() or type(error).__name__).partition("\n")[0]
        raise ModelUnavailable(f"{name!r}: cannot be loaded: {reason}") from error
    shapes = source.shapes
    wanted = dict(model.named_parameters())
    if missing := sorted(set(wanted) - set(shapes)):
        raise ModelUnavailable(f"{name!r}: has no weights for {missing[0]} ({len(missing)} missing)")
    for own, parameter in wanted.items():
        if tuple(parameter.shape) != shapes[own]:
            raise ModelUnavailable(f"{name!r}: {own} is of shape {shapes[own]}, not {tuple(parameter.shape)}")
        values = torch.empty(shapes[own], dtype=dtype)
        step = max(1, _WEIGHTS // int(np.prod(shapes[own][1:])))
        for first in range(0, len(values), step):
            rows = slice(first, min(first + step, len(values)))
            found = source.rows(own, rows)
            floats = found.weights() if isinstance(found, Quantized) else np.ascontiguousarray(found)
            values[rows] = torch.from_numpy(floats).to(dtype)
        source.give_back(own)
        place, _, last = own.rpartition(".")
        setattr(model.get_submodule(place), last, nn.Parameter(values, requires_grad=False))
    model.tie_weights()
    return model.eval()
