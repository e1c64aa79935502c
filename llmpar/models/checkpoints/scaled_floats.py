"""Matrices of floats of 8 bits with a scale for each block, row or group, or for all."""

from __future__ import annotations

import numpy as np

from llmpar.engine.quantized import Floats
from llmpar.models.checkpoints.tensors import EIGHT_BIT_FLOATS, FLOATS, Tensors, to_floats

POWERS = ("uint8", "float8_e8m0fnu")
"""The types of scales that are powers of two: of each there is the exponent, plus 127."""


class ScaledFloats:
    """A matrix (N, K) of floats of 8 bits. A weight is scale · float, which float32 holds.

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

    def __init__(
        self,
        tensors: Tensors,
        name: str,
        scale: str,
        block: tuple[int, int],
        kind: str,
        beside: tuple[str, ...] = (),
    ) -> None:
        tensors.expect(name, EIGHT_BIT_FLOATS, (None, None))
        num_rows, num_inputs = tensors.shapes[name]
        grid = (-(-num_rows // block[0]), -(-num_inputs // block[1]))
        flat = [(grid[0],)] * (grid[1] == 1) + [()] * (grid == (1, 1))
        tensors.expect(scale, (*FLOATS, *POWERS), grid, *flat)
        self._tensors, self._name, self._scale, self._block, self._grid = tensors, name, scale, block, grid
        self.parts: tuple[str, ...] = (name, scale, *beside)
        self.shape: tuple[int, ...] = (num_rows, num_inputs)
        self.kind = kind
        self.bits = 16  # no integers hold what floats of 8 bits do, and bfloat16 does

    def rows(self, rows: slice) -> Floats:
        """Return some rows (n, K).

        Raises:
            ModelUnavailable: a scale is no number that can be multiplied by.
        """
        height, width = self._block
        dtype = self._tensors.dtype(self._scale)
        stored = self._tensors.array(self._scale).reshape(self._grid)[rows.start // height : -(-rows.stop // height)]
        scales = to_floats(stored, "float8_e8m0fnu" if dtype in POWERS else dtype)
        self._tensors.expect_finite(scales, self._name)
        values = self._tensors.floats(self._name, rows)
        columns = np.arange(self.shape[1]) // width
        for index, row in enumerate(range(rows.start // height, -(-rows.stop // height))):
            start, stop = (max(0, edge - rows.start) for edge in (row * height, (row + 1) * height))
            values[start:stop] *= scales[index, columns]
        return values
