"""A model's files → one rank's share of our own decoder, where the model has the Llama shape and kernels run."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING

from llmpar.engine.precision_names import TORCH_TYPES, PrecisionName
from llmpar.models.configuration import stop_ids
from llmpar.models.device_needs import check_device
from llmpar.models.load import LoadedModel
from llmpar.models.opening import open_files
from llmpar.models.watching import watch

if TYPE_CHECKING:
    from llmpar.models.cache import Notify


def load_divided(
    path: Path, device: str, precision: PrecisionName, rank: int, size: int, notify: Notify = lambda _: None
) -> LoadedModel | None:
    """Load a rank's share of the weights to its device; all ranks of a process group do so at once.

    None where decoders do not do what the model does, which is so on all ranks.

    Args:
        path: see `load.load_model`.
        device: the rank's own.
        precision: bf16 or fp32.
        rank: which one this is.
        size: how many there are.
        notify: is told why it is None, or how ranks add what each computes a part of.

    Raises:
        ModelUnavailable: the files are damaged, or the share is too large for the device.
    """
    check_device(path, precision, device, size)
    foundation = watch(path, is_mapped=False)
    import torch

    from llmpar.engine.parts import OtherShape

    decoder, reason = None, "its weights cannot be read one by one"
    try:
        from llmpar.engine.cuda.from_transformers import build_share
        from llmpar.engine.cuda.model import CudaModel
        from llmpar.engine.ranks.exchange import open_exchange

        if skeleton := open_files(path):
            dtype = getattr(torch, TORCH_TYPES[precision])
            exchange, said = open_exchange(rank, size, torch.device(device), dtype)
            decoder = build_share(skeleton, rank, size, torch.device(device), dtype, exchange)
            notify(f"of what the devices add up, {said}")
    except (ImportError, OtherShape) as other:  # without Triton there are no kernels
        reason = str(other)
    if decoder is None:
        notify(f"{path.name!r} is divided by transformers, which is slower: {reason}")
        return None
    return LoadedModel((CudaModel(decoder),), decoder.context_length, stop_ids(path), decoder.precision, foundation)
