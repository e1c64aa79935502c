"""A model's files → a decoder on a GPU, whose weights are read one by one: never all of them in memory."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import TYPE_CHECKING, Any

from llmpar.engine.precision_names import SHORT, TORCH_TYPES, KVCacheName, PrecisionName
from llmpar.models.devices import has_bf16
from llmpar.models.parts import find_out

if TYPE_CHECKING:
    from llmpar.engine.cuda.model import CudaModel
    from llmpar.models.cache import Notify

LONGER: dict[PrecisionName, tuple[PrecisionName, ...]] = {"int4": ("int4", "int8")}
"""What is tried where a precision is asked for, if that is not itself alone; after these, 16 bits."""


def put_on_gpu(
    path: Path,
    device: str,
    precision: PrecisionName,
    notify: Notify,
    load: Callable[[Path, Any], Any],
    kv_cache: KVCacheName = "auto",
) -> CudaModel | None:
    """Return a model on a GPU in a precision, or in the next longer one that does what the model does.

    None where that is none of these, or the model has another shape than decoders know, or weights that are read all at
    once. What is found out about a model is kept: the next time it is loaded without transformers.

    Args:
        path: its directory or GGUF file.
        device: as torch calls it.
        precision: what it is to be computed in.
        notify: is told what was passed over, and why.
        load: returns a model of transformers with weights of some type, where they cannot be read one by one.
        kv_cache: what keys and values are kept in.

    Raises:
        ModelUnavailable: the files are damaged.
    """
    import torch

    from llmpar.engine.parts import OtherShape, take_apart

    try:
        from llmpar.engine.cuda.from_transformers import TooFar, build_stored_decoder
        from llmpar.engine.cuda.model import CudaModel
    except ImportError as reason:  # there is no Triton
        _tell_of_16_bits(path, precision, reason, notify)
        return None
    try:
        found = find_out(path, notify)
        if found is None and precision not in SHORT:
            return None
        parts, skeleton = found or (take_apart(load(path, "auto")), None)
    except OtherShape as reason:
        _tell_of_16_bits(path, precision, reason, notify)
        return None
    native: PrecisionName = "bf16" if has_bf16() else "fp32"
    for tried in (*LONGER.get(precision, (precision,)), *([native] if precision in SHORT and skeleton else [])):
        dtype = getattr(torch, TORCH_TYPES[native if tried in SHORT else tried])
        try:
            return CudaModel(build_stored_decoder(parts, skeleton, tried, torch.device(device), dtype, kv_cache))
        except TooFar as reason:
            notify(f"{tried} is passed over for a longer one: {reason}")
        except OtherShape as reason:
            _tell_of_16_bits(path, precision, reason, notify)
            break
    return None


def _tell_of_16_bits(path: Path, precision: PrecisionName, reason: Exception, notify: Notify) -> None:
    if precision in SHORT:  # of others nothing changes
        notify(f"weights of {path.name!r} have 16 bits: {reason}")
