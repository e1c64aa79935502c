"""Matrices of floats of 4 bits: one for the sign, two for the exponent, one for the mantissa; two to a byte."""

from __future__ import annotations

from math import prod
from typing import Any

import numpy as np
import numpy.typing as npt

from llmpar.models.checkpoints.matrices import Grouped
from llmpar.models.checkpoints.packing import unpack_bytes
from llmpar.models.checkpoints.scaled_floats import POWERS
from llmpar.models.checkpoints.tensors import EIGHT_BIT_FLOATS, Tensors, to_floats

# As the OCP Microscaling Formats specification has E2M1.
_POSITIVE = (0.0, 0.5, 1.0, 1.5, 2.0, 3.0, 4.0, 6.0)
_DOUBLED = 2 * np.array([*_POSITIVE, *(-value for value in _POSITIVE)], np.float32)
"""Twice what each code stands for, which is a whole number. Half of a scale is exact."""


def four_bit_floats(tensors: Tensors, pairs: str, scale: str, kind: str, unit: str | None = None) -> Grouped:
    """Return a matrix of floats of 4 bits in groups. One in more than two dimensions is the matrices of its rows.

    Args:
        tensors: the checkpoint's.
        pairs: the tensor's with two floats in each byte, the first in the lower half.
        scale: the tensor's with a scale for each group.
        kind: what the form is called.
        unit: the tensor's with the one number that all scales are divided by; without it scales are powers of two.

    Raises:
        ModelUnavailable: a tensor is missing, or of another type or shape.
    """
    tensors.expect(pairs, ("uint8",))
    shape = tensors.shapes[pairs]
    *rows, num_groups = tensors.shapes.get(scale, (0,))
    tensors.expect(scale, EIGHT_BIT_FLOATS if unit else POWERS, (*shape[: len(rows)], num_groups))
    num_rows = prod(rows)
    num_inputs = 2 * prod(shape) // num_rows
    if num_inputs % num_groups or len(shape) < 2:
        raise tensors.damaged(f"{scale} has {num_groups} groups, which do not divide {num_inputs} inputs")
    if unit:
        tensors.expect(unit, ("float32",), (1,), ())

    def scales(rows: slice) -> npt.NDArray[Any]:
        stored = tensors.array(scale).reshape(num_rows, num_groups)[rows]
        values = to_floats(stored, "float8_e8m0fnu" if unit is None else tensors.dtype(scale))
        if unit is not None:
            with np.errstate(all="ignore"):  # what is no number then is found by whoever asked
                values /= tensors.floats(unit).reshape(())
        values /= np.float32(2)
        return values

    return Grouped(
        tensors,
        (pairs, scale, *([unit] if unit else [])),
        (num_rows, num_inputs),
        4,
        f"{kind}, floats of 4 bits in groups of {num_inputs // num_groups}",
        codes=lambda rows: unpack_bytes(tensors.array(pairs).reshape(num_rows, num_inputs // 2)[rows], 4),
        scales=scales,
        table=_DOUBLED,
    )
