"""Matrices of floats of 8 bits with a scale for each block, row or group, or for all."""

from __future__ import annotations

import numpy as np
import numpy.typing as npt

from llmpar.engine.quantized import FLOATS_OF_4_EXPONENT_BITS, FLOATS_OF_5_EXPONENT_BITS, Floats
from llmpar.models.checkpoints.matrices import Grouped, contiguous_groups
from llmpar.models.checkpoints.tensors import EIGHT_BIT_FLOATS, FLOATS, Tensors, to_floats

POWERS = ("uint8", "float8_e8m0fnu")
"""The types of scales that are powers of two: of each there is the exponent, plus 127."""
_TABLES = {"float8_e4m3fn": FLOATS_OF_4_EXPONENT_BITS, "float8_e5m2": FLOATS_OF_5_EXPONENT_BITS}


def scaled_floats(
    tensors: Tensors, name: str, scale: str, block: tuple[int, int], kind: str, beside: tuple[str, ...] = ()
) -> Grouped:
    """Return a matrix (N, K) of floats of 8 bits. A weight is scale · float, which float32 holds.

    Args:
        tensors: the checkpoint's.
        name: the tensor's with the floats.
        scale: the tensor's with a scale for each block, of any shape that its blocks lie in.
        block: the rows and columns of a block.
        kind: what the form is called.
        beside: tensors that belong to the matrix and are not needed.

    Raises:
        ModelUnavailable: a tensor is missing, or of another type or shape.
    """
    tensors.expect(name, EIGHT_BIT_FLOATS, (None, None))
    num_rows, num_inputs = tensors.shapes[name]
    height, width = block
    grid = (-(-num_rows // height), -(-num_inputs // width))
    flat = [(grid[0],)] * (grid[1] == 1) + [()] * (grid == (1, 1))
    tensors.expect(scale, (*FLOATS, *POWERS), grid, *flat)
    table = _TABLES[tensors.dtype(name)]
    least = int(np.argmin(np.isfinite(table)))  # of the codes that stand for no number, without the sign

    def codes(rows: slice) -> npt.NDArray[np.uint8]:
        found = tensors.array(name)[rows]
        if (found & np.uint8(127)).max(initial=0) >= least:
            raise tensors.damaged(f"{name} has floats that are no finite numbers")
        return found

    def scales(rows: slice) -> Floats:
        dtype = tensors.dtype(scale)
        stored = tensors.array(scale).reshape(grid)[np.arange(rows.start, rows.stop) // height]
        return to_floats(stored, "float8_e8m0fnu" if dtype in POWERS else dtype)

    return Grouped(
        tensors,
        (name, scale, *beside),
        (num_rows, num_inputs),
        8,
        kind,
        codes=codes,
        scales=scales,
        table=table,
        groups=None if grid[1] == 1 else contiguous_groups(num_inputs, grid[1], width),
    )
