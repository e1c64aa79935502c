"""A model's files → one rank's share of our own decoder, where the model has the Llama shape and kernels run."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING

from llmpar.engine.precision_names import SHORT, KVCacheName, PrecisionName
from llmpar.errors import ModelUnavailable
from llmpar.models.configuration import stop_ids
from llmpar.models.device_needs import check_device
from llmpar.models.devices import has_bf16
from llmpar.models.load import LoadedModel
from llmpar.models.on_gpu import LONGER
from llmpar.models.opening import is_ours_alone
from llmpar.models.parts import find_out
from llmpar.models.watching import watch

if TYPE_CHECKING:
    from llmpar.models.cache import Notify


def load_divided(
    path: Path,
    device: str,
    precision: PrecisionName,
    rank: int,
    size: int,
    kv_cache: KVCacheName = "auto",
    notify: Notify = lambda _: None,
) -> LoadedModel | None:
    """Load a rank's share of the weights to its device; all ranks of a process group do so at once.

    None where decoders do not do what the model does, which is so on all ranks.

    Args:
        path: see `load.load_model`.
        device: the rank's own.
        precision: what weights are to be in; those that are not short compute in it as well.
        rank: which one this is.
        size: how many there are.
        kv_cache: what keys and values are kept in.
        notify: is told why it is None, and what was passed over.

    Raises:
        ModelUnavailable: the files are damaged, the share is too large for the device, or the weights cannot be divided
            in a precision that only our own decoder has.
    """
    check_device(path, precision, device, size)
    foundation = watch(path, is_mapped=False)
    import torch

    from llmpar.engine.parts import OtherShape

    decoder, reason = None, "its weights cannot be read one by one"
    try:
        from llmpar.engine.cuda.from_transformers import TooFar, build_share
        from llmpar.engine.cuda.model import CudaModel

        if found := find_out(path, notify):
            target, is_short = torch.device(device), precision in SHORT
            # Short weights are for GPUs; on a CPU, for tests, what is beside them is exact.
            is_bf16 = target.type == "cuda" and has_bf16() if is_short else precision == "bf16"
            dtype = torch.bfloat16 if is_bf16 else torch.float32
            for tried in LONGER.get(precision, (precision,)):
                try:
                    decoder = build_share(*found, rank, size, tried, target, dtype, kv_cache)
                    break
                except TooFar as other:
                    reason = str(other)
                    notify(f"{tried} is not taken: {reason}")
    except (ImportError, OtherShape) as other:  # without Triton there are no kernels
        reason = str(other)
    if decoder:
        return LoadedModel((CudaModel(decoder),), decoder.context_length, stop_ids(path), decoder.precision, foundation)
    if precision in SHORT or kv_cache != "auto" or is_ours_alone(path):
        asked = f"precision {precision}" + (f", kv_cache {kv_cache}" if kv_cache != "auto" else "")
        raise ModelUnavailable(
            f"tensor parallel over {size} devices, {asked}: {path.name!r} cannot be divided so: {reason}; take another "
            "number of devices or another precision"
        )
    notify(f"{path.name!r} is divided by transformers, which is slower: {reason}")
    return None
