"""A group of inputs as signed bytes, written as LLVM IR: the compiler left such short loops to single numbers."""

from __future__ import annotations

from typing import Any

from llvmlite import ir
from numba import types
from numba.extending import intrinsic

from llmpar.engine.cpu.dots import INPUT_GROUP
from llmpar.engine.cpu.vector import F32, I8, I32, ArrayArgument, floats, function, ints, number, splat

_HALF = INPUT_GROUP // 2
_FLOATS, _INTS, _BYTES = floats(_HALF), ints(_HALF), ir.VectorType(I8, _HALF)
_LEVELS, _TINY = 127.0, 0x0DA24260  # the bits of 1e-30
_UNSIGNED = 0x7FFFFFFF


@intrinsic
def encode_group(_: Any, values: Any, start: Any, out: Any, row: Any) -> Any:
    """Set out[row, start : start + 32] to the whole numbers that are nearest to as many `values` of a group.

    Args:
        values: (K,) float32.
        start: the group's first.
        out: (M, K) int8.
        row: which of these.

    Returns:
        What one unit is worth, and the sums of the whole numbers of the group's two halves, as float32.
    """

    def generate(context: Any, b: Any, signature: Any, arguments: Any) -> Any:
        found, place = (ArrayArgument(context, b, signature.args[i], arguments[i]) for i in (0, 2))
        first = arguments[1]
        at = b.mul(first, number(4))
        halves = [found.at(b.add(at, number(4 * _HALF * half)), _FLOATS, align=4) for half in range(2)]
        # As integers, magnitudes are in their own order, and what is not finite is above all others.
        sizes = [b.and_(b.bitcast(half, _INTS), ir.Constant(_INTS, [_UNSIGNED] * _HALF)) for half in halves]
        most = b.select(b.icmp_signed(">", *sizes), *sizes)
        largest_of = function(b, f"llvm.vector.reduce.smax.v{_HALF}i32", I32, [_INTS])
        bits = b.call(largest_of, [most])
        tiny = ir.Constant(I32, _TINY)
        largest = b.bitcast(b.select(b.icmp_signed(">", bits, tiny), bits, tiny), F32)
        levels = ir.Constant(F32, _LEVELS)
        inverse = splat(b, b.fdiv(levels, largest), _FLOATS)
        nearest = function(b, f"llvm.rint.v{_HALF}f32", _FLOATS, [_FLOATS])
        sum_of = function(b, f"llvm.vector.reduce.add.v{_HALF}i32", I32, [_INTS])
        sums = []
        begin = b.add(b.mul(arguments[3], place.strides[0]), first)
        for index, half in enumerate(halves):
            whole = b.trunc(b.fptosi(b.call(nearest, [b.fmul(half, inverse)]), _INTS), _BYTES)
            b.store(whole, place.pointer(b.add(begin, number(_HALF * index)), _BYTES), align=1)
            sums.append(b.sitofp(b.call(sum_of, [b.sext(whole, _INTS)]), F32))
        return context.make_tuple(b, signature.return_type, [b.fdiv(largest, levels), *sums])

    return types.UniTuple(types.float32, 3)(values, types.intp, out, types.intp), generate
