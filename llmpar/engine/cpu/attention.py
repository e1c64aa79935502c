"""Vector code for the inner loops of attention, written as LLVM IR so that it uses the widest registers there are.

Each function becomes one of Numba's intrinsics and works on arrays without a check: callers keep within bounds. What
an element is follows from the arrays' types: uint16 is the bits of a bfloat16, anything else float32.
"""

from __future__ import annotations

from typing import Any

from llvmlite import ir
from numba import types
from numba.core import cgutils
from numba.extending import intrinsic

from llmpar.engine.cpu.instructions import HERE
from llmpar.engine.cpu.vector import F32, I16, ArrayArgument, multiply_add, number, repeated, splat
from llmpar.engine.pages import PAGE

SPAN, WIDE_SPAN = 16, 64
"""Numbers of a row of values that are added up at once. A row is a multiple of SPAN, and both are of any vector."""
_LANES, _FLOATS = HERE.lanes, HERE.floats


def _widen(builder: Any, bits: Any) -> Any:
    """Turn a vector of bfloat16, as integers of 16 bits, into float32."""
    wide = builder.zext(bits, HERE.ints)
    return builder.bitcast(builder.shl(wide, repeated(wide, 16)), _FLOATS)


def _load_floats(builder: Any, array: ArrayArgument, offset: Any) -> Any:
    if array.item == 4:
        return array.at(offset, _FLOATS)
    return _widen(builder, array.at(offset, ir.VectorType(I16, _LANES)))


@intrinsic(prefer_literal=True)
def score_tile(_: Any, queries: Any, query: Any, keys: Any, key: Any, out: Any, column: Any, count: Any) -> Any:
    """Compute the dot products of `count` queries (a literal) with the keys of one page.

    Args:
        queries: (G, D) float32, rows from `query` on.
        keys: float32 or uint16; from element `key` on lie (D, PAGE), a column for each key.
        out: (G, T) float32, rows from `query` and columns from `column` on.
    """
    if not isinstance(count, types.IntegerLiteral):
        return None

    def generate(context: Any, b: Any, signature: Any, values: Any) -> Any:
        q = ArrayArgument(context, b, signature.args[0], values[0])
        k = ArrayArgument(context, b, signature.args[2], values[2])
        o = ArrayArgument(context, b, signature.args[4], values[4])
        query_, key_, column_ = values[1], values[3], values[5]
        cells = [(g, v) for g in range(count.literal_value) for v in range(PAGE // _LANES)]
        sums = {cell: cgutils.alloca_once(b, _FLOATS) for cell in cells}
        rows = [b.mul(b.add(query_, number(g)), q.strides[0]) for g in range(count.literal_value)]
        for cell in cells:
            b.store(ir.Constant(_FLOATS, None), sums[cell])
        with cgutils.for_range(b, q.shape[1]) as loop:
            at = b.mul(b.add(key_, b.mul(loop.index, number(PAGE))), number(k.item))
            parts = [_load_floats(b, k, b.add(at, number(_LANES * k.item * v))) for v in range(PAGE // _LANES)]
            for g, row in enumerate(rows):
                value = splat(b, q.at(b.add(row, b.mul(loop.index, number(4))), F32), _FLOATS)
                for v, part in enumerate(parts):
                    b.store(multiply_add(b, value, part, b.load(sums[g, v])), sums[g, v])
        for g, v in cells:
            at = b.add(b.mul(b.add(query_, number(g)), o.strides[0]), b.mul(column_, number(4)))
            b.store(b.load(sums[g, v]), o.pointer(b.add(at, number(4 * _LANES * v)), _FLOATS), align=4)
        return context.get_dummy_value()

    return types.void(queries, query, keys, key, out, column, count), generate


@intrinsic(prefer_literal=True)
def value_tile(
    _: Any,
    weights: Any,
    query: Any,
    column: Any,
    values: Any,
    value: Any,
    length: Any,
    out: Any,
    start: Any,
    count: Any,
    width: Any,
) -> Any:
    """Add to `out` the values of one page, weighted: `width` numbers of them, for `count` queries (both literals).

    Args:
        weights: (G, T) float32, rows from `query` and columns from `column` on.
        values: float32 or uint16; from element `value` on lie rows of `out.shape[1]` elements, one for each key.
        length: how many of the page's keys count.
        out: (G, D) float32, rows from `query` on, elements from `start` on.
    """
    if not isinstance(count, types.IntegerLiteral) or not isinstance(width, types.IntegerLiteral):
        return None

    def generate(context: Any, b: Any, signature: Any, arguments: Any) -> Any:
        p = ArrayArgument(context, b, signature.args[0], arguments[0])
        w = ArrayArgument(context, b, signature.args[3], arguments[3])
        o = ArrayArgument(context, b, signature.args[6], arguments[6])
        query_, column_, value_, length_, start_ = (arguments[i] for i in (1, 2, 4, 5, 7))
        vectors = range(width.literal_value // _LANES)
        cells = [(g, v) for g in range(count.literal_value) for v in vectors]
        sums = {cell: cgutils.alloca_once(b, _FLOATS) for cell in cells}

        def target(g: int, v: int) -> Any:
            place = b.mul(b.add(start_, number(_LANES * v)), number(4))
            return o.pointer(b.add(b.mul(b.add(query_, number(g)), o.strides[0]), place), _FLOATS)

        for cell in cells:
            b.store(b.load(target(*cell), align=4), sums[cell])
        rows = [b.mul(b.add(query_, number(g)), p.strides[0]) for g in range(count.literal_value)]
        with cgutils.for_range(b, length_) as loop:
            at = b.mul(b.add(b.add(value_, b.mul(loop.index, o.shape[1])), start_), number(w.item))
            parts = [_load_floats(b, w, b.add(at, number(_LANES * w.item * v))) for v in vectors]
            for g, row in enumerate(rows):
                at = b.add(row, b.mul(b.add(column_, loop.index), number(4)))
                weight = splat(b, p.at(at, F32), _FLOATS)
                for v, part in enumerate(parts):
                    b.store(multiply_add(b, weight, part, b.load(sums[g, v])), sums[g, v])
        for cell in cells:
            b.store(b.load(sums[cell]), target(*cell), align=4)
        return context.get_dummy_value()

    return types.void(weights, query, column, values, value, length, out, start, count, width), generate
