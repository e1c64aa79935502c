"""Vector code for the inner loops of attention, written as LLVM IR so that it uses the widest registers there are.

Each function becomes one of Numba's intrinsics and works on arrays without a check: callers keep within bounds. What
an element is follows from the arrays' types: uint8 and int8 are scaled integers, uint16 is the bits of a bfloat16.
"""

from __future__ import annotations

from typing import Any

import llvmlite.binding as llvm
from llvmlite import ir
from numba import config, types
from numba.core import cgutils
from numba.extending import intrinsic

LANES = 16
"""Numbers in a vector. Narrower machines compute each in two or four parts."""


def _features() -> dict[str, bool]:
    """Return what Numba will compile for: this processor, unless its variables name another."""
    if config.CPU_FEATURES is not None or config.CPU_NAME is not None:
        return {name[1:]: True for name in (config.CPU_FEATURES or "").split(",") if name.startswith("+")}
    try:
        return dict(llvm.get_host_cpu_features())
    except RuntimeError:  # LLVM cannot tell on this machine
        return {}


HOST = _features()
"""What the processor has, by LLVM's names."""
I8, I16, I32, F32 = ir.IntType(8), ir.IntType(16), ir.IntType(32), ir.FloatType()
INTS, FLOATS = ir.VectorType(I32, LANES), ir.VectorType(F32, LANES)


class ArrayArgument:
    """An array argument inside generated code: element addresses and loads."""

    def __init__(self, context: Any, builder: Any, type_: Any, value: Any) -> None:
        self._builder = builder
        self.struct = context.make_array(type_)(context, builder, value)
        self.data = builder.bitcast(self.struct.data, I8.as_pointer())
        self.item = type_.dtype.bitwidth // 8
        self.strides = cgutils.unpack_tuple(builder, self.struct.strides, type_.ndim)
        self.shape = cgutils.unpack_tuple(builder, self.struct.shape, type_.ndim)

    def at(self, offset: Any, type_: Any, align: int = 1) -> Any:
        """Load a `type_` from `offset` bytes on."""
        return self._builder.load(self.pointer(offset, type_), align=align)

    def pointer(self, offset: Any, type_: Any) -> Any:
        """Return the address `offset` bytes on, as of a `type_`."""
        return self._builder.bitcast(self._builder.gep(self.data, [offset]), type_.as_pointer())


def number(value: int) -> Any:
    """Return a constant as an index of arrays is."""
    return ir.Constant(ir.IntType(types.intp.bitwidth), value)


def splat(builder: Any, value: Any, vector: Any) -> Any:
    """Return a vector of this type with `value` in every lane."""
    undefined = ir.Constant(vector, ir.Undefined)
    first = builder.insert_element(undefined, value, ir.Constant(I32, 0))
    return builder.shuffle_vector(first, undefined, ir.Constant(ir.VectorType(I32, vector.count), [0] * vector.count))


def function(builder: Any, name: str, result: Any, arguments: list[Any]) -> Any:
    """Return a function that is not of this module, declared once: LLVM's own, mostly."""
    known = builder.module.globals.get(name)
    return known or ir.Function(builder.module, ir.FunctionType(result, arguments), name)


def multiply_add(builder: Any, x: Any, y: Any, total: Any) -> Any:
    """Return x · y + total, rounded once."""
    fma = function(builder, "llvm.fma.v16f32", FLOATS, [FLOATS] * 3)
    return builder.call(fma, [x, y, total])


def _widen(builder: Any, bits: Any) -> Any:
    """Turn 16 bfloat16, as integers of 16 bits, into float32."""
    shifted = builder.shl(builder.zext(bits, INTS), ir.Constant(INTS, [16] * LANES))
    return builder.bitcast(shifted, FLOATS)


def _load_floats(builder: Any, array: ArrayArgument, offset: Any) -> Any:
    if array.item == 4:
        return array.at(offset, FLOATS)
    return _widen(builder, array.at(offset, ir.VectorType(I16, LANES)))


@intrinsic(prefer_literal=True)
def score_tile(_: Any, queries: Any, query: Any, keys: Any, key: Any, out: Any, column: Any, count: Any) -> Any:
    """Compute the dot products of `count` queries (a literal) with the 16 keys of one page.

    Args:
        queries: (G, D) float32, rows from `query` on.
        keys: float32 or uint16; from element `key` on lie (D, 16), a column for each key.
        out: (G, T) float32, rows from `query` and columns from `column` on.
    """
    if not isinstance(count, types.IntegerLiteral):
        return None

    def generate(context: Any, b: Any, signature: Any, values: Any) -> Any:
        q = ArrayArgument(context, b, signature.args[0], values[0])
        k = ArrayArgument(context, b, signature.args[2], values[2])
        o = ArrayArgument(context, b, signature.args[4], values[4])
        query_, key_, column_ = values[1], values[3], values[5]
        sums = [cgutils.alloca_once(b, FLOATS) for _ in range(count.literal_value)]
        rows = [b.mul(b.add(query_, number(g)), q.strides[0]) for g in range(len(sums))]
        for total in sums:
            b.store(ir.Constant(FLOATS, None), total)
        with cgutils.for_range(b, q.shape[1]) as loop:
            at = b.mul(b.add(key_, b.mul(loop.index, number(LANES))), number(k.item))
            column = _load_floats(b, k, at)
            for row, total in zip(rows, sums, strict=True):
                value = splat(b, q.at(b.add(row, b.mul(loop.index, number(4))), F32), FLOATS)
                b.store(multiply_add(b, value, column, b.load(total)), total)
        for g, total in enumerate(sums):
            at = b.add(b.mul(b.add(query_, number(g)), o.strides[0]), b.mul(column_, number(4)))
            b.store(b.load(total), o.pointer(at, FLOATS), align=4)
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
    lane: Any,
    count: Any,
    vectors: Any,
) -> Any:
    """Add to `out` the values of one page, weighted, for `count` queries and `vectors` vectors (both literals).

    Args:
        weights: (G, T) float32, rows from `query` and columns from `column` on.
        values: float32 or uint16; from element `value` on lie rows of `out.shape[1]` elements, one for each key.
        length: how many of the page's keys count.
        out: (G, D) float32, rows from `query` on, elements from `lane` on.
    """
    if not isinstance(count, types.IntegerLiteral) or not isinstance(vectors, types.IntegerLiteral):
        return None

    def generate(context: Any, b: Any, signature: Any, arguments: Any) -> Any:
        p = ArrayArgument(context, b, signature.args[0], arguments[0])
        w = ArrayArgument(context, b, signature.args[3], arguments[3])
        o = ArrayArgument(context, b, signature.args[6], arguments[6])
        query_, column_, value_, length_, lane_ = (arguments[i] for i in (1, 2, 4, 5, 7))
        cells = [(g, v) for g in range(count.literal_value) for v in range(vectors.literal_value)]
        sums = {cell: cgutils.alloca_once(b, FLOATS) for cell in cells}

        def target(g: int, v: int) -> Any:
            lane = b.mul(b.add(lane_, number(LANES * v)), number(4))
            return o.pointer(b.add(b.mul(b.add(query_, number(g)), o.strides[0]), lane), FLOATS)

        for cell in cells:
            b.store(b.load(target(*cell), align=4), sums[cell])
        rows = [b.mul(b.add(query_, number(g)), p.strides[0]) for g in range(count.literal_value)]
        with cgutils.for_range(b, length_) as loop:
            at = b.mul(b.add(b.add(value_, b.mul(loop.index, o.shape[1])), lane_), number(w.item))
            parts = [_load_floats(b, w, b.add(at, number(LANES * w.item * v))) for v in range(vectors.literal_value)]
            for g, row in enumerate(rows):
                at = b.add(row, b.mul(b.add(column_, loop.index), number(4)))
                weight = splat(b, p.at(at, F32), FLOATS)
                for v, part in enumerate(parts):
                    b.store(multiply_add(b, weight, part, b.load(sums[g, v])), sums[g, v])
        for cell in cells:
            b.store(b.load(sums[cell]), target(*cell), align=4)
        return context.get_dummy_value()

    return types.void(weights, query, column, values, value, length, out, lane, count, vectors), generate


@intrinsic
def nearest(_: Any, x: Any) -> Any:
    """Return the whole number nearest to a float32, as float32; halves go to the even one."""

    def generate(context: Any, b: Any, signature: Any, values: Any) -> Any:
        return b.call(function(b, "llvm.rint.f32", F32, [F32]), [values[0]])

    return types.float32(types.float32), generate


@intrinsic
def float_of_bits(_: Any, bits: Any) -> Any:
    """Return the float32 whose bits are those of an int32."""

    def generate(context: Any, b: Any, signature: Any, values: Any) -> Any:
        return b.bitcast(values[0], F32)

    return types.float32(types.int32), generate


@intrinsic
def bits_of_float(_: Any, x: Any) -> Any:
    """Return the bits of a float32 as an int32."""

    def generate(context: Any, b: Any, signature: Any, values: Any) -> Any:
        return b.bitcast(values[0], I32)

    return types.int32(types.float32), generate
