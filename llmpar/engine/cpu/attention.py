"""Vector code for the inner loops of attention, written as LLVM IR so that it uses the widest registers there are.

Both functions become Numba's intrinsics and work on arrays without a check: callers keep within bounds. What an
element is follows from the arrays' types: uint16 is the bits of a bfloat16, anything else float32.

Each sum has registers of its own, and is added up in the order of its numbers. As many are kept as the processor has
room for: of several queries, and of several pages or of several vectors of a row of values.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

from llvmlite import ir
from numba import types
from numba.core import cgutils
from numba.extending import intrinsic

from llmpar.engine.cpu.instructions import HERE
from llmpar.engine.cpu.vector import F32, I16, I32, ArrayArgument, multiply_add, number, repeated, splat
from llmpar.engine.pages import PAGE

SPAN = 16
"""A row of values is a multiple of so many numbers; they are of any vector."""
_QUERIES = 4  # at most, that meet a vector of keys or values at once
_VECTORS = 4  # at most, of a row of values, or pages of keys
_LANES, _FLOATS = HERE.lanes, HERE.floats


def _widen(builder: Any, bits: Any) -> Any:
    """Turn a vector of bfloat16, as integers of 16 bits, into float32."""
    wide = builder.zext(bits, HERE.ints)
    return builder.bitcast(builder.shl(wide, repeated(wide, 16)), _FLOATS)


def _load_floats(builder: Any, array: ArrayArgument, offset: Any) -> Any:
    if array.item == 4:
        return array.at(offset, _FLOATS)
    return _widen(builder, array.at(offset, ir.VectorType(I16, _LANES)))


class _Pages:
    """Where a head's keys or values of a sequence lie in an array of all pages.

    Args:
        b: the builder.
        table: (T / PAGE,) the sequence's pages.
        size: elements of a page.
        start: of the head's within it.
    """

    def __init__(self, b: Any, table: ArrayArgument, size: Any, start: Any) -> None:
        self._b, self._table, self._size, self._start = b, table, size, start

    def at(self, page: Any) -> Any:
        """Return the first element of a page, of those of the sequence."""
        b = self._b
        found = b.sext(self._table.at(b.mul(page, self._table.strides[0]), I32), number(0).type)
        return b.add(b.mul(found, self._size), self._start)


def _in_groups(b: Any, num_queries: Any, compute: Callable[[Any, int], None]) -> None:
    """Let as many queries as meet a vector at once be computed, and then what is left, from a query on."""
    with cgutils.for_range(b, b.sdiv(num_queries, number(_QUERIES))) as loop:
        compute(b.mul(loop.index, number(_QUERIES)), _QUERIES)
    left = b.srem(num_queries, number(_QUERIES))
    for count in range(1, _QUERIES):
        with b.if_then(b.icmp_signed("==", left, number(count))):
            compute(b.sub(num_queries, number(count)), count)


def _in_steps(b: Any, begin: Any, end: Any, most: int, compute: Callable[[Any, int], None]) -> None:
    """Let so many things be computed at once, and then half as many, from one on."""
    while most:
        count = b.sdiv(b.sub(end, begin), number(most))
        with cgutils.for_range(b, count) as loop:
            compute(b.add(begin, b.mul(loop.index, number(most))), most)
        begin = b.add(begin, b.mul(count, number(most)))
        most //= 2


def _fitting(count: int) -> int:
    """Return of how many vectors, a power of two, the sums of so many queries have room."""
    return max(size for size in (1, 2, _VECTORS) if size == 1 or size * count <= HERE.attended)


@intrinsic
def score(_: Any, queries: Any, keys: Any, table: Any, size: Any, start: Any, first: Any, last: Any, out: Any) -> Any:
    """Compute the dot products of queries with the keys of some pages.

    Args:
        queries: (G, D) float32.
        keys: all of them, in one line; in a page lie (D, PAGE) of a head, a column for each key.
        table, size, start: where these are (see `_Pages`).
        first, last: the pages, from the one to before the other.
        out: (G, T) float32, a column for each position.
    """

    def generate(context: Any, b: Any, signature: Any, values: Any) -> Any:
        q, k, places, o = (ArrayArgument(context, b, signature.args[i], values[i]) for i in (0, 1, 2, 7))
        pages = _Pages(b, places, *values[3:5])

        def some(query: Any, count: int) -> None:
            rows = [b.mul(b.add(query, number(g)), q.strides[0]) for g in range(count)]
            lines = [b.mul(b.add(query, number(g)), o.strides[0]) for g in range(count)]
            _in_steps(b, values[5], values[6], _fitting(count), lambda page, size: tile(rows, lines, page, size))

        def tile(rows: list[Any], lines: list[Any], page: Any, num_pages: int) -> None:
            keys_ = [b.mul(pages.at(b.add(page, number(i))), number(k.item)) for i in range(num_pages)]
            cells = [(g, v) for g in range(len(rows)) for v in range(num_pages * PAGE // _LANES)]
            sums = {cell: cgutils.alloca_once(b, _FLOATS) for cell in cells}
            for cell in cells:
                b.store(ir.Constant(_FLOATS, None), sums[cell])
            with cgutils.for_range(b, q.shape[1]) as loop:
                at = b.mul(loop.index, number(PAGE * k.item))
                parts = [
                    _load_floats(b, k, b.add(b.add(key, at), number(_LANES * k.item * v)))
                    for key in keys_
                    for v in range(PAGE // _LANES)
                ]
                for g, row in enumerate(rows):
                    value = splat(b, q.at(b.add(row, b.mul(loop.index, number(4))), F32), _FLOATS)
                    for v, part in enumerate(parts):
                        b.store(multiply_add(b, value, part, b.load(sums[g, v])), sums[g, v])
            for g, v in cells:
                at = b.add(lines[g], b.mul(page, number(4 * PAGE)))
                b.store(b.load(sums[g, v]), o.pointer(b.add(at, number(4 * _LANES * v)), _FLOATS), align=4)

        _in_groups(b, q.shape[0], some)
        return context.get_dummy_value()

    return types.void(queries, keys, table, types.intp, types.intp, types.intp, types.intp, out), generate


@intrinsic
def weigh(_: Any, weights: Any, values: Any, table: Any, size: Any, start: Any, begin: Any, end: Any, out: Any) -> Any:
    """Set `out` to the values of some positions, added up by their weights.

    Args:
        weights: (G, T) float32, a column for each position.
        values: all of them, in one line; in a page lie (PAGE, out.shape[1]) of a head, a row for each position.
        table, size, start: where these are (see `_Pages`).
        begin, end: the positions, from the one to before the other.
        out: (G, D) float32, D a multiple of SPAN.
    """

    def generate(context: Any, b: Any, signature: Any, arguments: Any) -> Any:
        p, w, places, o = (ArrayArgument(context, b, signature.args[i], arguments[i]) for i in (0, 1, 2, 7))
        pages, (begin, end) = _Pages(b, places, *arguments[3:5]), arguments[5:7]
        page_size = number(PAGE)

        def some(query: Any, count: int) -> None:
            vectors = b.sdiv(o.shape[1], number(_LANES))
            _in_steps(b, number(0), vectors, _fitting(count), lambda first, size: tile(query, count, first, size))

        def tile(query: Any, count: int, first: Any, num_vectors: int) -> None:
            cells = [(g, v) for g in range(count) for v in range(num_vectors)]
            sums = {cell: cgutils.alloca_once(b, _FLOATS) for cell in cells}
            for cell in cells:
                b.store(ir.Constant(_FLOATS, None), sums[cell])
            queries = [b.add(query, number(g)) for g in range(count)]
            rows = [b.mul(one, p.strides[0]) for one in queries]
            column = b.mul(first, number(_LANES))
            with cgutils.for_range(
                b, b.sdiv(b.add(end, number(PAGE - 1)), page_size), b.sdiv(begin, page_size)
            ) as page:
                base = b.mul(page.index, page_size)
                here = b.add(pages.at(page.index), column)
                from_ = b.select(b.icmp_signed(">", begin, base), b.sub(begin, base), number(0))
                left = b.sub(end, base)
                until = b.select(b.icmp_signed("<", left, page_size), left, page_size)
                with cgutils.for_range(b, until, from_) as loop:
                    at = b.mul(b.add(here, b.mul(loop.index, o.shape[1])), number(w.item))
                    parts = [_load_floats(b, w, b.add(at, number(_LANES * w.item * v))) for v in range(num_vectors)]
                    for g, row in enumerate(rows):
                        place = b.add(row, b.mul(b.add(base, loop.index), number(4)))
                        weight = splat(b, p.at(place, F32), _FLOATS)
                        for v, part in enumerate(parts):
                            b.store(multiply_add(b, weight, part, b.load(sums[g, v])), sums[g, v])
            for g, v in cells:
                at = b.add(b.mul(queries[g], o.strides[0]), b.mul(b.add(column, number(_LANES * v)), number(4)))
                b.store(b.load(sums[g, v]), o.pointer(at, _FLOATS), align=4)

        _in_groups(b, o.shape[0], some)
        return context.get_dummy_value()

    return types.void(weights, values, table, types.intp, types.intp, types.intp, types.intp, out), generate
