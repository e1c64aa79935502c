"""How transformers spreads a model over devices by the model's own plan: whether it can, and on which device."""

from __future__ import annotations

import os
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from llmpar.errors import ModelUnavailable, UsageError
from llmpar.models.configuration import configuration, is_gguf


def check_devices(num_shards: int, device: str, target: str) -> None:
    """Tell whether there are so many devices, and none of them taken.

    Args:
        num_shards: how many.
        device: what was asked for.
        target: the kind of device that `devices.find_devices` found for it.

    Raises:
        ModelUnavailable: there are not.
    """
    import torch

    option = f"tensor parallel over {num_shards} devices"
    if target == "cuda" and (count := torch.cuda.device_count()) < num_shards:
        raise ModelUnavailable(f"{option}: torch sees {count} CUDA devices on this machine")
    if target == "mps" or (target == "cpu" and device == "auto"):
        raise ModelUnavailable(f"{option}: torch sees no CUDA devices on this machine")
    if torch.distributed.is_initialized():
        raise ModelUnavailable(f"{option}: this process has such a model open already; close that first")


def check_plan(path: Path, num_shards: int, *, by_us: bool = False) -> None:
    """Tell whether the model of a directory can be spread over so many devices; no weights are loaded.

    Args:
        path: the directory, or the GGUF file.
        num_shards: how many.
        by_us: our own decoder may divide it, which needs no plan, and has a head of keys and values on several devices.

    Raises:
        UsageError: it cannot.
        ModelUnavailable: its configuration is damaged.
    """
    from transformers import AutoConfig

    try:
        if is_gguf(path):
            config: Any = AutoConfig.for_model(**configuration(path))
        else:
            config = AutoConfig.from_pretrained(path, local_files_only=True, trust_remote_code=False)
    except ModelUnavailable:  # a GGUF file's, which says what is wrong
        raise
    except Exception as error:  # whatever transformers makes of damaged files
        reason = (str(error).strip() or type(error).__name__).partition("\n")[0]
        raise ModelUnavailable(f"{str(path)!r}: cannot be loaded: {reason}") from error
    text = config.get_text_config()
    option = f"tensor parallel over {num_shards} devices: {path.name!r}"
    if config.is_encoder_decoder:
        raise UsageError(f"{option} is an encoder-decoder, and those are not spread over devices")
    if not by_us and not getattr(text, "base_model_tp_plan", None):
        raise UsageError(f"{option} is of a kind ({text.model_type}) that transformers has no plan for")
    for name, noun in (("num_attention_heads", "attention heads"), ("num_key_value_heads", "key and value heads")):
        found = getattr(text, name, None)
        for count in found if isinstance(found, list) else [found]:  # some have a number for each layer
            is_shared = by_us and noun.startswith("key") and isinstance(count, int) and num_shards % count == 0
            if isinstance(count, int) and count % num_shards and not is_shared:
                raise UsageError(f"{option} has {count} {noun}, which do not divide by {num_shards}")


@contextmanager
def on_device(device: str) -> Iterator[None]:
    """Let transformers load this rank's shard on a device, "cpu" or "cuda:N".

    It takes none from its caller, but the accelerator that torch was built for, and the number that torchrun gives a
    process. And it asks for accelerate, which it does not use here.
    """
    import torch
    from transformers.integrations import accelerate

    target = torch.device(device)
    with (
        _replaced(vars(torch._C), "_get_accelerator", lambda *_: torch.device(target.type)),  # noqa: SLF001
        _replaced(vars(accelerate), "is_accelerate_available", lambda *_: True),
        _replaced(os.environ, "LOCAL_RANK", str(target.index or 0)),
    ):
        yield


@contextmanager
def _replaced(place: Any, name: str, value: object) -> Iterator[None]:
    found = place.get(name)
    place[name] = value
    try:
        yield
    finally:
        if found is None:
            del place[name]
        else:
            place[name] = found
