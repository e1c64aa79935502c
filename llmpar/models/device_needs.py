"""How much memory a model's weights take on a GPU, told from its files' headers before any weight is read."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from math import prod
from pathlib import Path

from llmpar.engine.precision_names import SHORT, PrecisionName
from llmpar.engine.quantized import Quantized, has_groups
from llmpar.engine.source import WeightSource
from llmpar.errors import ModelUnavailable, setting
from llmpar.models.devices import has_fp8, memory_sizes
from llmpar.models.mapped import MappedWeights, OtherFiles
from llmpar.models.opening import is_ours_alone, open_source

_WEIGHT: dict[PrecisionName, float] = {"fp32": 4, "bf16": 2, "fp8": 1, "int8": 1 + 4 / 64, "int4": 0.5 + 2 / 32}
"""Bytes of a weight with its share of scales, by precision."""
_BITS: dict[PrecisionName, int] = {"int8": 8, "int4": 4}
_HEAD: dict[PrecisionName, PrecisionName] = {"fp8": "bf16", "int4": "int8"}
"""What the layer that scores the tokens is in, where it is in something else."""
_SCALE = 0.08  # bytes of scales and offsets that a kept weight has, at most as a rule
_BESIDE = 800_000_000  # bytes: a pass, and a little room for keys and values
_EMBEDDING, _SCORES = "embed_tokens.weight", "lm_head.weight"


class DeviceTooSmall(ModelUnavailable):
    """A model is too large for what is free on a GPU."""


def check_device(path: Path, precision: PrecisionName, device: str, num_shares: int = 1) -> None:
    """Raise DeviceTooSmall if a model is too large for what is free on a GPU; other devices are not looked at.

    Args:
        path: the directory, or the GGUF file. One whose headers do not tell is not judged.
        precision: what its weights are to be in.
        device: as torch calls it.
        num_shares: how many GPUs it is spread over, of which this is one.

    Raises:
        DeviceTooSmall: the message says what the model needs, what there is, and what would fit.
    """
    if not device.startswith("cuda"):
        return
    import torch

    from llmpar.engine.resources import free_memory

    whole = device_bytes(path, precision)
    free = free_memory(torch.device(device))
    if whole is None or whole // num_shares + _BESIDE <= free:
        return
    offered = [name for name in _WEIGHT if name != "fp8" or has_fp8((device,))]
    sizes = {name: device_bytes(path, name) or 0 for name in offered}
    fitting = [name for name in offered if sizes[name] < whole and sizes[name] // num_shares + _BESIDE <= free]
    remedy = f"take {setting('precision', max(fitting, key=lambda name: sizes[name]))}, " if fitting else ""
    if num_shares > 1:
        raise DeviceTooSmall(
            f"{path.name!r}: each of {num_shares} shares needs about {(whole // num_shares + _BESIDE) / 1e9:.1f} GB of "
            f"memory in {precision}, and {free / 1e9:.1f} GB are free on {device}; {remedy}spread it over more devices "
            f"({setting('tensor_parallel')}), or take a smaller model"
        )
    raise DeviceTooSmall(
        f"{path.name!r}: needs about {(whole + _BESIDE) / 1e9:.1f} GB of memory on {device} in {precision}, and "
        f"{free / 1e9:.1f} GB are free; {remedy or 'take a smaller model, '}name another device, or spread it over "
        f"several ({setting('tensor_parallel')})"
    )


def suits(path: Path, precision: PrecisionName, devices: Sequence[str]) -> bool:
    """Tell whether a model's weights, and some room beside them, are fewer bytes than each of some GPUs has in all.

    Unlike what is free, that is the same in each run. Where nobody tells, it is taken to be so.
    """
    needed, sizes = device_bytes(path, precision), memory_sizes()
    if needed is None or sizes is None:
        return True
    return all(needed + _BESIDE <= sizes[int(name.partition(":")[2] or 0)] for name in devices)


def device_bytes(path: Path, precision: PrecisionName) -> int | None:
    """Return about how many bytes a model's weights take on a GPU; None if its headers do not tell.

    Args:
        path: the directory, or the GGUF file.
        precision: what they are to be in.
    """
    try:
        source = open_source(path) if is_ours_alone(path) else None
        shapes = source.shapes if source else MappedWeights(sorted(path.glob("*.safetensors"))).shapes
    except (OtherFiles, ModelUnavailable, OSError):  # whoever loads them says what is wrong with them
        return None
    return count_bytes(shapes, precision, source)


def count_bytes(
    shapes: Mapping[str, tuple[int, ...]], precision: PrecisionName, source: WeightSource | None = None
) -> int:
    """Return about how many bytes weights take on a GPU.

    Args:
        shapes: of the weights, by their names.
        precision: what they are to be in.
        source: has them, where they may be codes that are kept as they are.
    """
    total = 0.0
    plain = precision if precision not in SHORT else "bf16"
    for name, shape in shapes.items():
        own = plain if name.endswith(_EMBEDDING) else precision
        own = _HEAD.get(own, own) if name.endswith(_SCORES) else own
        each = _WEIGHT[own] if len(shape) > 1 else 4
        if source and own in _BITS and len(shape) > 1:
            sample = source.rows(name, slice(0, 1))
            if isinstance(sample, Quantized) and has_groups(sample, _BITS[own]):
                each = (0.5 if sample.bits <= 4 else 1) + _SCALE
        total += prod(shape) * each
    return int(total)
