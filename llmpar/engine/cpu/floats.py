"""Floats as the kernels keep them: widened, narrowed to bfloat16, or as whole numbers with a scale for a group.

What is not finite must reach a row's logits, where it fails the row (see `finite`), and a comparison with NaN finds
nothing. So where floats would be clamped, compared or turned into whole numbers, kernels look at their `magnitude`: as
integers, infinity is INFINITE, NaN is more, and all others are less, in their own order. LLVM also finds the largest of
many integers by vectors, and of floats one by one: which of two equal ones it takes may matter to who compares floats.
"""

from __future__ import annotations

from typing import Any

import numpy as np
import numpy.typing as npt
from numba import types
from numba.extending import overload

from llmpar.engine.cpu.compiled import inlined, kernel
from llmpar.engine.cpu.dots import INPUT_GROUP
from llmpar.engine.cpu.signed_inputs import encode_group
from llmpar.engine.cpu.vector import bits_of_float, float_of_bits, nearest

INFINITE, NAN = np.int32(0x7F800000), np.int32(0x7FC00000)
_UNSIGNED = np.int32(0x7FFFFFFF)
LOWEST = np.int32(-0x7F7FFFFF - 1)
"""The least of what `ordered` makes of finite numbers."""
_ZERO, _LEVELS, _MIDDLE, _TINY = (np.float32(x) for x in (0, 127, 128, 1e-30))


@inlined
def magnitude(x):
    """Return the bits of a float32 without its sign."""
    return np.int32(bits_of_float(x) & _UNSIGNED)


@inlined
def ordered(x):
    """Return an int32 that is larger where a float32 is; 0 and -0 are the same."""
    bits = bits_of_float(x + _ZERO)
    return np.int32(bits ^ ((bits >> np.int32(31)) & _UNSIGNED))


@inlined
def float_of_ordered(order):
    """Return the float32 that `ordered` made this of."""
    return float_of_bits(np.int32(order ^ ((order >> np.int32(31)) & _UNSIGNED)))


def narrowed(x: Any, like: Any) -> Any:
    """Return `x` as an element of the array `like`: float32, or bfloat16's bits, rounded to the nearest even."""


@overload(narrowed, strict=False, inline="always")
def _narrow_for(x: Any, like: Any) -> Any:
    if like.dtype == types.float32:
        return lambda x, like: x

    def narrow(x, like):
        bits = bits_of_float(x)
        odd = (bits >> np.int32(16)) & np.int32(1)
        # What is not finite is cut: rounded up, a NaN may become 0.
        half = (np.int32(32767) + odd) * np.int32(magnitude(x) < INFINITE)
        return np.uint16(np.int32(bits + half) >> np.int32(16))

    return narrow


def widened(x: Any) -> Any:
    """Return an element of weights as float32."""


@overload(widened, strict=False, inline="always")
def _wide_for(x: Any) -> Any:
    if x == types.float32:
        return lambda x: x
    return lambda x: float_of_bits(np.int32(x) << np.int32(16))


def encode(values: Any, out: Any, row: Any, scales: Any) -> None:
    """Store one row of float32 as the next product takes it.

    That is as it is, as bfloat16, or as whole numbers with a scale for each group: uint8, with 128 added; or int8, and
    `scales` then has the scales of all groups, and behind them the sums of their whole numbers, and those of their
    halves.
    """


@overload(encode, strict=False, inline="always")
def _encode_for(values: Any, out: Any, row: Any, scales: Any) -> Any:
    if out.dtype not in (types.uint8, types.int8):

        def encode(values, out, row, scales):
            for k in range(out.shape[1]):
                out[row, k] = narrowed(values[k], out)

        return encode

    if out.dtype == types.int8:

        def quantize_signed(values, out, row, scales):
            num_groups = scales.shape[1] >> 2
            for group in range(num_groups):
                unit, first, second = encode_group(values, group * INPUT_GROUP, out, row)
                scales[row, group] = unit
                scales[row, num_groups + group] = first + second  # whole numbers this small are exact
                scales[row, 2 * (num_groups + group)] = first
                scales[row, 2 * (num_groups + group) + 1] = second

        return quantize_signed

    def quantize(values, out, row, scales):
        size = out.shape[1] // scales.shape[1]
        for group in range(scales.shape[1]):
            start = group * size
            largest = _largest(values, start, size)
            scales[row, group] = largest / _LEVELS
            inverse = _LEVELS / largest
            for k in range(size):
                out[row, start + k] = np.uint8(np.int32(nearest(values[start + k] * inverse) + _MIDDLE))

    return quantize


@inlined
def _largest(values, start, size):
    """Return the largest magnitude of a group; it is as little finite as what is in the group."""
    most = bits_of_float(_TINY)
    for k in range(size):
        most = max(most, magnitude(values[start + k]))
    return float_of_bits(most)


@kernel
def narrow(values, out):
    """Set `out` (N,) to the float32 `values` (N,) as its own elements, in one pass where numpy takes four."""
    for k in range(len(values)):
        out[k] = narrowed(values[k], out)


def to_bf16(values: npt.NDArray[np.float32]) -> npt.NDArray[np.uint16]:
    """Return the bits of the nearest bfloat16, in the same shape."""
    bits = np.empty(values.shape, np.uint16)
    narrow(np.ascontiguousarray(values, np.float32).reshape(-1), bits.reshape(-1))
    return bits


def stored(values: npt.NDArray[np.float32], kind: Any) -> npt.NDArray[Any]:
    """Return float32 as elements of this type, float32 or uint16 for bfloat16, in the same shape."""
    return values if kind == np.float32 else to_bf16(values)
