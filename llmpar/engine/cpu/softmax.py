"""The softmax of a row of scores, written as LLVM IR.

Rows are short, and the compiler's loops leave much of them over, as they take several vectors at once.
"""

from __future__ import annotations

from typing import Any

import numpy as np
from llvmlite import ir
from numba import types
from numba.core import cgutils
from numba.extending import intrinsic

from llmpar.engine.cpu.elementary import exponential
from llmpar.engine.cpu.floats import LOWEST
from llmpar.engine.cpu.sums import joined
from llmpar.engine.cpu.vector import F32, I32, ArrayArgument, floats, function, ints, number, repeated, splat

LANES = 16
"""Scores that are computed at once; a row has room up to a multiple of these."""
_FLOATS, _INTS = floats(LANES), ints(LANES)
_UNSIGNED = 0x7FFFFFFF
_NONE = float(np.finfo(np.float32).min)


@intrinsic
def softmax(_: Any, scores: Any, row: Any, start: Any, length: Any) -> Any:
    """Set scores[row, start : start + length] to their softmax, and what fills up the last LANES to 0.

    Args:
        scores: (G, T) float32, with room for that.
        row: which of these.
        start: where it begins.
        length: how many there are, one at least.

    Returns:
        The largest magnitude of the scores (see `floats`). Where it is not finite, nothing that is left there counts.
    """

    def generate(context: Any, b: Any, signature: Any, arguments: Any) -> Any:
        array = ArrayArgument(context, b, signature.args[0], arguments[0])
        begin = b.add(b.mul(arguments[1], array.strides[0]), b.mul(arguments[2], number(4)))
        length = arguments[3]
        left = b.srem(b.sub(length, number(1)), number(LANES))  # of the last vector, less one
        last = b.sub(b.sub(length, number(1)), left)
        lanes = ir.Constant(_INTS, list(range(LANES)))
        is_there = b.icmp_signed("<=", lanes, splat(b, b.trunc(left, I32), _INTS))

        def place(vector: Any) -> Any:
            return array.pointer(b.add(begin, b.mul(vector, number(4 * LANES))), _FLOATS)

        before = b.sdiv(last, number(LANES))
        count = b.add(before, number(1))
        end = place(before)
        b.store(b.select(is_there, b.load(end, align=4), ir.Constant(_FLOATS, [_NONE] * LANES)), end, align=4)

        furthest = cgutils.alloca_once_value(b, ir.Constant(_INTS, None))
        highest = cgutils.alloca_once_value(b, ir.Constant(_INTS, [int(LOWEST)] * LANES))
        with cgutils.for_range(b, count) as loop:
            value = b.load(place(loop.index), align=4)
            bits = b.bitcast(b.fadd(value, ir.Constant(_FLOATS, None)), _INTS)
            size = b.and_(bits, repeated(bits, _UNSIGNED))
            order = b.xor(bits, b.and_(b.ashr(bits, repeated(bits, 31)), repeated(bits, _UNSIGNED)))
            for best, one in ((furthest, size), (highest, order)):
                known = b.load(best)
                b.store(b.select(b.icmp_signed(">", one, known), one, known), best)
        largest_of = function(b, f"llvm.vector.reduce.smax.v{LANES}i32", I32, [_INTS])
        top = b.call(largest_of, [b.load(highest)])
        sign = b.and_(b.ashr(top, ir.Constant(I32, 31)), ir.Constant(I32, _UNSIGNED))
        most = splat(b, b.bitcast(b.xor(top, sign), F32), _FLOATS)

        sums = cgutils.alloca_once_value(b, ir.Constant(_FLOATS, None))
        nothing, none = ir.Constant(_FLOATS, None), ir.Constant(_FLOATS, [_NONE] * LANES)
        with cgutils.for_range(b, count) as loop:
            at = place(loop.index)
            value = b.load(at, align=4)
            found = exponential(b, b.fsub(value, most))
            found = b.select(b.fcmp_ordered(">", value, none), found, nothing)
            b.store(found, at, align=4)
            b.store(b.fadd(b.load(sums), found), sums)
        share = splat(b, b.fdiv(ir.Constant(F32, 1.0), joined(b, b.load(sums))), _FLOATS)
        with cgutils.for_range(b, count) as loop:
            at = place(loop.index)
            b.store(b.fmul(b.load(at, align=4), share), at, align=4)
        return b.call(largest_of, [b.load(furthest)])

    return types.int32(scores, types.intp, types.intp, types.intp), generate
