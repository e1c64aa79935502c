"""Vector code for the inner loops, written as LLVM IR so that it uses the widest registers and dot products there are.

Each function becomes one of Numba's intrinsics and works on arrays without a check: callers keep within bounds. What
an element is follows from the arrays' types: uint8 and int8 are scaled integers, uint16 is the bits of a bfloat16.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import llvmlite.binding as llvm
from llvmlite import ir
from numba import config, types
from numba.core import cgutils
from numba.extending import intrinsic

LANES = 16
"""Numbers in a vector. Narrower machines compute each in two or four parts."""
PANEL = 48
"""Output channels that lie together in packed weights: three vectors."""


def _features() -> dict[str, bool]:
    """Return what Numba will compile for: this processor, unless its variables name another."""
    if config.CPU_FEATURES is not None or config.CPU_NAME is not None:
        return {name[1:]: True for name in (config.CPU_FEATURES or "").split(",") if name.startswith("+")}
    try:
        return dict(llvm.get_host_cpu_features())
    except RuntimeError:  # LLVM cannot tell on this machine
        return {}


_HOST = _features()
WIDE = _HOST.get("avx512f", False)
HAS_INT8_DOT = _HOST.get("avx512vnni", False)
"""Whether the processor multiplies and adds four pairs of bytes in one lane and one instruction."""
HAS_BF16_DOT = _HOST.get("avx512bf16", False)
"""Whether it does so with two pairs of bfloat16."""

# As many sums as leave registers for what is added: 24 of 32, or 8 of 16 half as wide.
TILE_ROWS, TILE_VECTORS = (8, 3) if WIDE else (4, 1)

_I8, _I16, _I32, _F32 = ir.IntType(8), ir.IntType(16), ir.IntType(32), ir.FloatType()
_INTS, _FLOATS = ir.VectorType(_I32, LANES), ir.VectorType(_F32, LANES)


class _Array:
    """An array argument inside generated code: element addresses and loads."""

    def __init__(self, context: Any, builder: Any, type_: Any, value: Any) -> None:
        self._builder = builder
        self.struct = context.make_array(type_)(context, builder, value)
        self.data = builder.bitcast(self.struct.data, _I8.as_pointer())
        self.item = type_.dtype.bitwidth // 8
        self.strides = cgutils.unpack_tuple(builder, self.struct.strides, type_.ndim)
        self.shape = cgutils.unpack_tuple(builder, self.struct.shape, type_.ndim)

    def at(self, offset: Any, type_: Any, align: int = 1) -> Any:
        """Load a `type_` from `offset` bytes on."""
        return self._builder.load(self.pointer(offset, type_), align=align)

    def pointer(self, offset: Any, type_: Any) -> Any:
        return self._builder.bitcast(self._builder.gep(self.data, [offset]), type_.as_pointer())


def _size(number: int) -> Any:
    return ir.Constant(ir.IntType(types.intp.bitwidth), number)


def _splat(builder: Any, value: Any, vector: Any) -> Any:
    undefined = ir.Constant(vector, ir.Undefined)
    first = builder.insert_element(undefined, value, ir.Constant(_I32, 0))
    return builder.shuffle_vector(first, undefined, ir.Constant(ir.VectorType(_I32, vector.count), [0] * vector.count))


def _function(builder: Any, name: str, result: Any, arguments: list[Any]) -> Any:
    known = builder.module.globals.get(name)
    return known or ir.Function(builder.module, ir.FunctionType(result, arguments), name)


def _multiply_add(builder: Any, x: Any, y: Any, total: Any) -> Any:
    fma = _function(builder, "llvm.fma.v16f32", _FLOATS, [_FLOATS] * 3)
    return builder.call(fma, [x, y, total])


def _widen(builder: Any, bits: Any) -> Any:
    """Turn 16 bfloat16, as integers of 16 bits, into float32."""
    shifted = builder.shl(builder.zext(bits, _INTS), ir.Constant(_INTS, [16] * LANES))
    return builder.bitcast(shifted, _FLOATS)


def _load_floats(builder: Any, array: _Array, offset: Any) -> Any:
    if array.item == 4:
        return array.at(offset, _FLOATS)
    return _widen(builder, array.at(offset, ir.VectorType(_I16, LANES)))


# Dot products: total (16 lanes) + Σ over the elements of one 32-bit word of x · the same of each of 16 words of w.


def _dot_int8(builder: Any, total: Any, x: Any, w: Any) -> Any:
    """Unsigned bytes of `x`, signed bytes of `w`."""
    if HAS_INT8_DOT:
        dot = _function(builder, "llvm.x86.avx512.vpdpbusd.512", _INTS, [_INTS] * 3)
        return builder.call(dot, [total, x, w])
    for byte in range(4):
        shift = ir.Constant(_INTS, [8 * byte] * LANES)
        left = builder.and_(builder.lshr(x, shift), ir.Constant(_INTS, [255] * LANES))
        up = ir.Constant(_INTS, [24 - 8 * byte] * LANES)
        right = builder.ashr(builder.shl(w, up), ir.Constant(_INTS, [24] * LANES))
        total = builder.add(total, builder.mul(left, right))
    return total


def _dot_bf16(builder: Any, total: Any, x: Any, w: Any) -> Any:
    if HAS_BF16_DOT:
        # Declared as up to LLVM 15; later ones know the old types and turn them into theirs.
        dot = _function(builder, "llvm.x86.avx512bf16.dpbf16ps.512", _FLOATS, [_FLOATS, _INTS, _INTS])
        return builder.call(dot, [total, x, w])
    shift, mask = ir.Constant(_INTS, [16] * LANES), ir.Constant(_INTS, [-65536] * LANES)
    low = [builder.bitcast(builder.shl(v, shift), _FLOATS) for v in (x, w)]
    high = [builder.bitcast(builder.and_(v, mask), _FLOATS) for v in (x, w)]
    return _multiply_add(builder, high[0], high[1], _multiply_add(builder, low[0], low[1], total))


def _dot_fp32(builder: Any, total: Any, x: Any, w: Any) -> Any:
    return _multiply_add(builder, builder.bitcast(x, _FLOATS), builder.bitcast(w, _FLOATS), total)


_DOTS: dict[int, Callable[..., Any]] = {1: _dot_int8, 2: _dot_bf16, 4: _dot_fp32}


@intrinsic
def product_tile(
    _: Any,
    x: Any,
    row: Any,
    scales: Any,
    w: Any,
    panel: Any,
    vector: Any,
    biases: Any,
    factors: Any,
    out: Any,
    column: Any,
    add: Any,
) -> Any:
    """Compute TILE_ROWS rows of `x` times TILE_VECTORS vectors of output channels.

    Args:
        x: (M, K) uint8, uint16 or float32; rows from `row` on.
        scales: (M, G) float32, what one unit of uint8 is worth in each group of K / G columns; else unused.
        w: (P, K/k, PANEL, k), k elements in 32 bits; of panel `panel` the vectors from `vector` on.
        biases: (P, G, PANEL) int32, where sums of bytes begin (they undo that x is stored with 128 added); else unused.
        factors: (P, G, PANEL) float32, what one unit of an int8 weight is worth; else unused.
        out: (M, N) float32; columns from `column` on.
        add: whether to add to what `out` holds.
    """
    arguments = (x, row, scales, w, panel, vector, biases, factors, out, column, add)
    integers = x.dtype.bitwidth == 8
    dot = _DOTS[x.dtype.bitwidth // 8]

    def generate(context: Any, b: Any, signature: Any, values: Any) -> Any:
        arrays = {i: _Array(context, b, t, v) for i, (t, v) in enumerate(zip(signature.args, values, strict=True))
                  if isinstance(t, types.Array)}  # fmt: skip
        x_, scales_, w_, biases_, factors_, out_ = (arrays[i] for i in (0, 2, 3, 6, 7, 8))
        row_, panel_, vector_, column_, add_ = (values[i] for i in (1, 4, 5, 9, 10))
        cells = [(r, v) for r in range(TILE_ROWS) for v in range(TILE_VECTORS)]
        sums = {cell: cgutils.alloca_once(b, _INTS if integers else _FLOATS) for cell in cells}
        totals = {cell: cgutils.alloca_once(b, _FLOATS) for cell in cells} if integers else sums
        rows = [b.mul(b.add(row_, _size(r)), x_.strides[0]) for r in range(TILE_ROWS)]
        shift = b.mul(vector_, _size(4 * LANES))
        start = b.add(b.mul(panel_, w_.strides[0]), shift)
        groups = scales_.shape[1] if integers else _size(1)
        steps = b.sdiv(w_.shape[1], groups)
        for cell in cells:
            b.store(ir.Constant(_FLOATS, None), totals[cell])
        with cgutils.for_range(b, groups) as group:
            if integers:
                begin = b.add(b.add(b.mul(panel_, biases_.strides[0]), b.mul(group.index, biases_.strides[1])), shift)
                for r, v in cells:
                    b.store(biases_.at(b.add(begin, _size(4 * LANES * v)), _INTS), sums[r, v])
            first = b.mul(group.index, steps)
            with cgutils.for_range(b, steps) as step:
                k = b.add(first, step.index)
                at = b.add(start, b.mul(k, _size(4 * PANEL)))
                words = [w_.at(b.add(at, _size(4 * LANES * v)), _INTS) for v in range(TILE_VECTORS)]
                for r in range(TILE_ROWS):
                    word = _splat(b, x_.at(b.add(rows[r], b.mul(k, _size(4))), _I32), _INTS)
                    for v in range(TILE_VECTORS):
                        b.store(dot(b, b.load(sums[r, v]), word, words[v]), sums[r, v])
            if integers:
                begin = b.add(b.add(b.mul(panel_, factors_.strides[0]), b.mul(group.index, factors_.strides[1])), shift)
                units = [factors_.at(b.add(begin, _size(4 * LANES * v)), _FLOATS) for v in range(TILE_VECTORS)]
                for r in range(TILE_ROWS):
                    at = b.add(b.mul(b.add(row_, _size(r)), scales_.strides[0]), b.mul(group.index, _size(4)))
                    scale = _splat(b, scales_.at(at, _F32), _FLOATS)
                    for v in range(TILE_VECTORS):
                        value = b.fmul(b.sitofp(b.load(sums[r, v]), _FLOATS), units[v])
                        b.store(_multiply_add(b, value, scale, b.load(totals[r, v])), totals[r, v])
        keep = b.icmp_signed("!=", add_, ir.Constant(add_.type, 0))
        for r, v in cells:
            at = b.mul(b.add(row_, _size(r)), out_.strides[0])
            target = out_.pointer(b.add(at, b.mul(b.add(column_, _size(LANES * v)), _size(4))), _FLOATS)
            result = b.load(totals[r, v])
            with b.if_else(keep) as (adding, setting):
                with adding:
                    b.store(b.fadd(b.load(target, align=4), result), target, align=4)
                with setting:
                    b.store(result, target, align=4)
        return context.get_dummy_value()

    return types.void(*arguments), generate


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
        q = _Array(context, b, signature.args[0], values[0])
        k = _Array(context, b, signature.args[2], values[2])
        o = _Array(context, b, signature.args[4], values[4])
        query_, key_, column_ = values[1], values[3], values[5]
        sums = [cgutils.alloca_once(b, _FLOATS) for _ in range(count.literal_value)]
        rows = [b.mul(b.add(query_, _size(g)), q.strides[0]) for g in range(len(sums))]
        for total in sums:
            b.store(ir.Constant(_FLOATS, None), total)
        with cgutils.for_range(b, q.shape[1]) as loop:
            at = b.mul(b.add(key_, b.mul(loop.index, _size(LANES))), _size(k.item))
            column = _load_floats(b, k, at)
            for row, total in zip(rows, sums, strict=True):
                value = _splat(b, q.at(b.add(row, b.mul(loop.index, _size(4))), _F32), _FLOATS)
                b.store(_multiply_add(b, value, column, b.load(total)), total)
        for g, total in enumerate(sums):
            at = b.add(b.mul(b.add(query_, _size(g)), o.strides[0]), b.mul(column_, _size(4)))
            b.store(b.load(total), o.pointer(at, _FLOATS), align=4)
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
        p = _Array(context, b, signature.args[0], arguments[0])
        w = _Array(context, b, signature.args[3], arguments[3])
        o = _Array(context, b, signature.args[6], arguments[6])
        query_, column_, value_, length_, lane_ = (arguments[i] for i in (1, 2, 4, 5, 7))
        cells = [(g, v) for g in range(count.literal_value) for v in range(vectors.literal_value)]
        sums = {cell: cgutils.alloca_once(b, _FLOATS) for cell in cells}

        def target(g: int, v: int) -> Any:
            lane = b.mul(b.add(lane_, _size(LANES * v)), _size(4))
            return o.pointer(b.add(b.mul(b.add(query_, _size(g)), o.strides[0]), lane), _FLOATS)

        for cell in cells:
            b.store(b.load(target(*cell), align=4), sums[cell])
        rows = [b.mul(b.add(query_, _size(g)), p.strides[0]) for g in range(count.literal_value)]
        with cgutils.for_range(b, length_) as loop:
            at = b.mul(b.add(b.add(value_, b.mul(loop.index, o.shape[1])), lane_), _size(w.item))
            parts = [_load_floats(b, w, b.add(at, _size(LANES * w.item * v))) for v in range(vectors.literal_value)]
            for g, row in enumerate(rows):
                at = b.add(row, b.mul(b.add(column_, loop.index), _size(4)))
                weight = _splat(b, p.at(at, _F32), _FLOATS)
                for v, part in enumerate(parts):
                    b.store(_multiply_add(b, weight, part, b.load(sums[g, v])), sums[g, v])
        for cell in cells:
            b.store(b.load(sums[cell]), target(*cell), align=4)
        return context.get_dummy_value()

    return types.void(weights, query, column, values, value, length, out, lane, count, vectors), generate


@intrinsic
def nearest(_: Any, x: Any) -> Any:
    """Return the whole number nearest to a float32, as float32; halves go to the even one."""

    def generate(context: Any, b: Any, signature: Any, values: Any) -> Any:
        return b.call(_function(b, "llvm.rint.f32", _F32, [_F32]), [values[0]])

    return types.float32(types.float32), generate


@intrinsic
def float_of_bits(_: Any, bits: Any) -> Any:
    """Return the float32 whose bits are those of an int32."""

    def generate(context: Any, b: Any, signature: Any, values: Any) -> Any:
        return b.bitcast(values[0], _F32)

    return types.float32(types.int32), generate


@intrinsic
def bits_of_float(_: Any, x: Any) -> Any:
    """Return the bits of a float32 as an int32."""

    def generate(context: Any, b: Any, signature: Any, values: Any) -> Any:
        return b.bitcast(values[0], _I32)

    return types.int32(types.float32), generate
