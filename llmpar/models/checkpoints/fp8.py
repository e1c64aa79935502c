"""FP8 as DeepSeek and others write it: floats of 8 bits with a scale for each block, row, or matrix."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from llmpar.models.checkpoints.matrices import Matrix
from llmpar.models.checkpoints.scaled_floats import scaled_floats
from llmpar.models.checkpoints.tensors import EIGHT_BIT_FLOATS, Tensors

_SCALES = ("weight_scale_inv", "weight_scale")
"""The first is called an inverse, and is multiplied by all the same."""


def find(tensors: Tensors, options: Mapping[str, Any]) -> dict[str, Matrix]:
    """Return the quantised weights of a checkpoint (see `opening.Find`)."""
    block = options.get("weight_block_size")
    if block is not None and not (
        isinstance(block, list) and len(block) == 2 and all(isinstance(size, int) and size > 0 for size in block)
    ):
        raise tensors.unknown(f"FP8 in blocks of {block!r}")
    found: dict[str, Matrix] = {}
    for suffix in _SCALES:
        for module in tensors.ending(f".{suffix}"):
            weight = f"{module}.weight"
            tensors.expect(weight, EIGHT_BIT_FLOATS, (None, None))
            shape = tensors.shapes[f"{module}.{suffix}"]
            num_rows, num_inputs = tensors.shapes[weight]
            if shape in ((), (1,), (1, 1)):
                size, kind = (num_rows, num_inputs), "FP8 with one scale"
            elif block is None:
                size, kind = (1, num_inputs), "FP8 in rows"
            else:
                size, kind = (block[0], block[1]), f"FP8 in blocks of {block[0]} × {block[1]}"
            found[weight] = scaled_floats(tensors, weight, f"{module}.{suffix}", size, kind)
    return found
