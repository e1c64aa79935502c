"""A model's files → a decoder on a GPU whose weights have few bits: never all of them in 16."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import TYPE_CHECKING, Any

from llmpar.engine.precision_names import KVCacheName, PrecisionName
from llmpar.models.devices import has_bf16

if TYPE_CHECKING:
    from llmpar.engine.cuda.model import CudaModel
    from llmpar.models.cache import Notify

LONGER: dict[PrecisionName, tuple[PrecisionName, ...]] = {
    "fp8": ("fp8",),
    "int8": ("int8",),
    "int4": ("int4", "int8"),
}
"""What is tried where a precision is asked for; after these, 16 bits."""


def put_short(
    path: Path,
    device: str,
    precision: PrecisionName,
    notify: Notify,
    load: Callable[[Path, Any], Any],
    kv_cache: KVCacheName = "auto",
) -> CudaModel | None:
    """Return a model on a GPU in a precision, or in the next longer one that does what the model does.

    None where that is none of these, or the model has another shape than decoders know.

    Args:
        path: its directory or GGUF file.
        device: as torch calls it.
        precision: one of SHORT.
        notify: is told what was passed over, and why.
        load: returns a model of transformers with weights of some type, where they cannot be read one by one.
        kv_cache: what keys and values are kept in.

    Raises:
        ModelUnavailable: the files are damaged.
    """
    import torch

    from llmpar.engine.parts import OtherShape
    from llmpar.models.opening import open_files

    try:
        from llmpar.engine.cuda.from_transformers import TooFar, build_short_decoder
        from llmpar.engine.cuda.model import CudaModel
    except ImportError as reason:  # there is no Triton
        notify(f"weights of {path.name!r} have 16 bits: {reason}")
        return None
    skeleton = open_files(path)
    module = skeleton.module if skeleton else load(path, "auto")
    dtype = torch.bfloat16 if has_bf16() else torch.float32
    for tried in LONGER[precision]:
        try:
            return CudaModel(build_short_decoder(module, tried, torch.device(device), dtype, skeleton, kv_cache))
        except TooFar as reason:
            notify(f"{tried} is passed over for a longer one: {reason}")
        except OtherShape as reason:
            notify(f"weights of {path.name!r} have 16 bits: {reason}")
            break
    return None
