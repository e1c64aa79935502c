"""What a model costs, told from its files' headers: memory for its weights, and for each token on its way."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any

from llmpar.engine.precision_names import KVCacheName, PrecisionName
from llmpar.models.device_needs import device_bytes
from llmpar.models.needs import packed_bytes, shapes_of

_SIZES = {"fp32": 4, "bf16": 2}

PROGRAM = 250_000_000
"""Bytes of memory that Python and the libraries take where our kernels compute on a CPU; torch takes more.

Measured with the default model in int8 and one piece of 50 tokens: 340 MB at the most, 92 MB of which are weights.
"""


def weight_bytes(path: Path, device: str, precision: PrecisionName) -> int | None:
    """Return about how many bytes of memory a model's weights take, and nothing besides; None if that is unknown.

    Args:
        path: the directory, or the GGUF file.
        device: as torch calls it: "cpu", "cuda:0".
        precision: what it is computed in.
    """
    if device != "cpu":
        return device_bytes(path, precision)
    found = shapes_of(path, precision)
    return None if found is None else packed_bytes(found[0], precision, found[1])


def token_bytes(
    config: Mapping[str, Any], device: str, precision: PrecisionName, kv_cache: KVCacheName = "auto"
) -> int | None:
    """Return how many bytes of memory each token of a piece takes while it is worked at; None if that is unknown.

    Args:
        config: the model's configuration, as transformers has it.
        device: see `weight_bytes`.
        precision: see `weight_bytes`.
        kv_cache: what keys and values are kept in.
    """
    inner = config.get("text_config")
    told = {**config, **inner} if isinstance(inner, Mapping) else config
    layers, heads = told.get("num_hidden_layers"), told.get("num_attention_heads")
    hidden = told.get("hidden_size")
    if not (isinstance(layers, int) and isinstance(heads, int) and isinstance(hidden, int) and heads):
        return None
    kv_heads = told.get("num_key_value_heads") or heads
    width = told.get("head_dim") or hidden // heads
    each = int(width) * _cache_bytes(device, precision) if kv_cache == "auto" else int(width) + 1
    return 2 * layers * int(kv_heads) * each


def _cache_bytes(device: str, precision: PrecisionName) -> int:
    if device != "cpu":
        return _SIZES.get(precision, 2)
    import numpy as np

    from llmpar.engine.cpu.precision import PRECISIONS

    return int(np.dtype(PRECISIONS[precision].cache).itemsize)
