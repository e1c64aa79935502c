"""Sums of many floats, in one order on every processor: 16 running sums, each of every 16th number, then in pairs.

A sum of floats depends on its order, so neither LLVM nor the width of a vector may choose it: the same answers would
not come from two processors, nor from two kernels of one. Sixteen sums are of any vector's width.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

from llvmlite import ir
from numba import types
from numba.core import cgutils
from numba.extending import intrinsic

from llmpar.engine.cpu.vector import F32, I32, ArrayArgument, floats, function, multiply_add, number

_WIDTH = 16
_SUMS = floats(_WIDTH)


def _added(b: Any, array: Any, start: Any, length: Any, add: Callable[[Any, Any], Any]) -> Any:
    """Return what `add` makes of a total, which begins as 0, and each of some numbers, in the order of this file."""
    sums = cgutils.alloca_once_value(b, ir.Constant(_SUMS, None))
    begin = b.mul(start, number(4))
    with cgutils.for_range(b, b.sdiv(length, number(_WIDTH))) as loop:
        at = b.add(begin, b.mul(loop.index, number(4 * _WIDTH)))
        b.store(add(b.load(sums), array.at(at, _SUMS, align=4)), sums)
    left = b.srem(length, number(_WIDTH))
    first = b.add(begin, b.mul(b.sub(length, left), number(4)))
    lanes = b.bitcast(sums, F32.as_pointer())
    with cgutils.for_range(b, left) as loop:
        lane = b.gep(lanes, [loop.index])
        b.store(add(b.load(lane), array.at(b.add(first, b.mul(loop.index, number(4))), F32, align=4)), lane)
    return joined(b, b.load(sums))


def joined(b: Any, total: Any) -> Any:
    """Return the sum of sixteen running sums."""
    width = _WIDTH
    while width > 1:
        width //= 2
        halves = [
            b.shuffle_vector(total, ir.Constant(total.type, ir.Undefined), ir.Constant(ir.VectorType(I32, width), part))
            for part in (list(range(width)), list(range(width, 2 * width)))
        ]
        total = b.fadd(*halves)
    return b.extract_element(total, ir.Constant(I32, 0))


@intrinsic
def sum_of(_: Any, x: Any, start: Any, length: Any) -> Any:
    """Return the sum of x[start : start + length], of an array (N,) of float32."""

    def generate(context: Any, b: Any, signature: Any, values: Any) -> Any:
        array = ArrayArgument(context, b, signature.args[0], values[0])
        return _added(b, array, values[1], values[2], b.fadd)

    return types.float32(x, types.intp, types.intp), generate


@intrinsic
def sum_of_squares(_: Any, x: Any, start: Any, length: Any) -> Any:
    """Return the sum of the squares of x[start : start + length], of an array (N,) of float32."""

    def generate(context: Any, b: Any, signature: Any, values: Any) -> Any:
        array = ArrayArgument(context, b, signature.args[0], values[0])

        def add(total: Any, value: Any) -> Any:
            if isinstance(total.type, ir.VectorType):
                return multiply_add(b, value, value, total)
            return b.call(function(b, "llvm.fma.f32", F32, [F32] * 3), [value, value, total])

        return _added(b, array, values[1], values[2], add)

    return types.float32(x, types.intp, types.intp), generate
