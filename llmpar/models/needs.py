"""How much memory a model takes on a CPU, told from its files' headers before any weight is read."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import fields
from functools import cache
from math import prod
from pathlib import Path

import numpy as np

from llmpar.engine.precision_names import PrecisionName
from llmpar.engine.resources import available_memory
from llmpar.errors import ModelUnavailable, setting
from llmpar.models.configuration import is_gguf
from llmpar.models.mapped import MappedWeights, OtherFiles

_BESIDE = 500_000_000  # bytes: libraries, the tokenizer, and a little room for keys and values
_EMBEDDING, _HEAD = "embed_tokens.weight", "lm_head.weight"
_PROBE = (480, 1920)  # output channels and inputs of a matrix that is packed to see how large it gets


def check_room(path: Path, precision: PrecisionName) -> None:
    """Raise ModelUnavailable if a directory's model is too large for the memory that is free.

    Args:
        path: the directory, or the GGUF file. A directory whose files are not plain safetensors is not judged.
        precision: what the weights are to be packed for.

    Raises:
        ModelUnavailable: the message says what the model needs, what there is, and what would fit.
    """
    from llmpar.engine.cpu.precision import PRECISIONS

    shapes: Mapping[str, tuple[int, ...]]
    try:
        if is_gguf(path):
            from llmpar.models.gguf.model import open_weights

            shapes = open_weights(path).shapes
        else:
            shapes = MappedWeights(sorted(path.glob("*.safetensors"))).shapes
    except OtherFiles:  # whoever loads them says what is wrong with them
        return
    free, needed = available_memory(), num_bytes(shapes, precision)
    if needed <= free:
        return
    shorter = [name for name, known in PRECISIONS.items() if known.bits < PRECISIONS[precision].bits]
    fitting = [name for name in shorter if num_bytes(shapes, name) <= free]
    remedy = f"take {setting('precision', max(fitting, key=lambda name: PRECISIONS[name].bits))}" if fitting else ""
    if not remedy:
        least = min((num_bytes(shapes, name) for name in (*shorter, precision)), default=needed)
        most = sum(map(prod, shapes.values())) * max(0, free - _BESIDE) / (least - _BESIDE)
        remedy = f"take a model of at most {most / 1e9:.2g} billion weights, or free some"
    raise ModelUnavailable(
        f"{path.name!r}: needs about {needed / 1e9:.1f} GB of memory in {precision}, and {free / 1e9:.1f} GB are free; "
        f"{remedy}"
    )


def num_bytes(shapes: Mapping[str, tuple[int, ...]], precision: PrecisionName) -> int:
    """Return about how much memory a model takes when it is packed, its keys and values left out.

    Args:
        shapes: of its weights, by their names.
        precision: the one that it is packed for.
    """
    from llmpar.engine.cpu.precision import PRECISIONS

    per_weight, total = _bytes_per_weight(precision), float(_BESIDE)
    is_tied = not any(name.endswith(_HEAD) for name in shapes)
    for name, shape in shapes.items():
        if name.endswith(_EMBEDDING):
            total += prod(shape) * np.dtype(PRECISIONS[precision].embedding).itemsize
            total += prod(shape) * per_weight if is_tied else 0
        else:
            total += prod(shape) * (per_weight if len(shape) > 1 else 4)
    return int(total)


@cache
def _bytes_per_weight(precision: PrecisionName) -> float:
    """Return what a weight takes with its share of scales; it is tried, so that a precision may pack as it likes."""
    from llmpar.engine.cpu.precision import PRECISIONS
    from llmpar.engine.cpu.projection import Projection

    packed = Projection.pack(np.ones(_PROBE, np.float32), None, PRECISIONS[precision])
    arrays = [getattr(packed, field.name) for field in fields(packed)]
    return sum(array.nbytes for array in arrays if isinstance(array, np.ndarray)) / prod(_PROBE)
