"""Products of a few rows with packed weights: by vectors, or by the processor's matrix registers where it has some.

Written as LLVM IR (see `vector`). Both ways compute a row of int8 to the same bits.

A strip of a panel is multiplied with all rows before the next one is touched: it comes from memory once, and each later
tile of rows finds it in the nearest cache. Few rows wait for nothing but memory, so the strip to come is fetched while
this one is multiplied.
"""

from __future__ import annotations

from typing import Any

from llvmlite import ir
from numba import types
from numba.core import cgutils
from numba.extending import intrinsic

from llmpar.engine.cpu.instructions import HERE
from llmpar.engine.cpu.operands import FLOATS, INTS, VECTOR, VECTORS, Blocks, Operand, ProductArguments
from llmpar.engine.cpu.precision import PANEL
from llmpar.engine.cpu.tiles import by_tiles, takes_tiles
from llmpar.engine.cpu.vector import I8, I32, multiply_add, number, prefetch, splat

TILE_ROWS = HERE.tile_rows
"""How many rows of a product are computed at once."""
_STRIP = 12 << 10  # bytes of weights: with as many to come, and the inputs of a tile, they fit the least cache there is
_Cells = dict[tuple[int, int], Any]
"""Where what belongs to a row and a vector of a tile is kept."""


def _by_vectors(b: Any, product: ProductArguments, row: Any, num_rows: int, first: Any, num_vectors: int) -> None:
    """Add the sums of some rows and neighbouring vectors to their totals; registers hold the sums of a block."""
    dot, blocks = product.dot, product.blocks
    has_factors = dot.has_factors
    cells = [(r, v) for r in range(num_rows) for v in range(num_vectors)]
    totals = {cell: cgutils.alloca_once(b, FLOATS) for cell in cells}
    sums = {cell: cgutils.alloca_once(b, HERE.sums(dot)) for cell in cells} if has_factors else totals
    rows = [b.add(row, number(r)) for r in range(num_rows)]
    vectors = [b.add(first, number(v)) for v in range(num_vectors)]
    for r, v in cells:
        b.store(b.load(product.total(rows[r], vectors[v]), align=4), totals[r, v])
    group, part = (cgutils.alloca_once(b, number(0).type) for _ in range(2))
    b.store(b.sdiv(product.first, blocks.parts), group)
    b.store(b.srem(product.first, blocks.parts), part)
    ahead = _Ahead(b, product, first, num_vectors)
    with cgutils.for_range(b, product.last, product.first) as loop:
        block = loop.index
        if has_factors:
            starts = product.starts(rows, block, vectors)
            for r, v in cells:
                b.store(starts[r][v], sums[r, v])
            begin = b.mul(block, blocks.words)
            with cgutils.for_range(b, b.sdiv(blocks.words, number(dot.step))) as step:
                _step(b, product, rows, vectors, sums, b.add(begin, b.mul(step.index, number(dot.step))), ahead)
            _scale(b, product, rows, vectors, sums, totals, block, b.load(group))
            ended = b.add(b.load(part), number(1))
            is_last = b.icmp_signed("==", ended, blocks.parts)
            b.store(b.select(is_last, number(0), ended), part)
            b.store(b.add(b.load(group), b.zext(is_last, number(0).type)), group)
        else:
            _step(b, product, rows, vectors, sums, block, ahead)
    for r, v in cells:
        b.store(b.load(totals[r, v]), product.total(rows[r], vectors[v]), align=4)


def _scale(
    b: Any,
    product: ProductArguments,
    rows: list[Any],
    vectors: list[Any],
    sums: _Cells,
    totals: _Cells,
    block: Any,
    group: Any,
) -> None:
    """Add to the totals what the sums of a block are worth; it belongs to a group of weights."""
    dot = product.dot
    units = [product.units(group, v) for v in vectors]
    if dot.is_scaled:
        for (r, v), total in totals.items():
            b.store(multiply_add(b, b.load(sums[r, v]), units[v], b.load(total)), total)
        return
    offsets = [product.offsets(group, v) for v in vectors] if product.has_offsets else []
    for r, row in enumerate(rows):
        scale = product.scale(row, block)
        for v in range(len(vectors)):
            value = b.fmul(b.sitofp(b.load(sums[r, v]), FLOATS), units[v])
            if offsets:
                value = multiply_add(b, offsets[v], splat(b, product.sum(row, block), FLOATS), value)
            b.store(multiply_add(b, value, scale, b.load(totals[r, v])), totals[r, v])


class _Ahead:
    """Fetches the strip to come while this one is multiplied: line after line, as memory is read fastest.

    A tile of fewer vectors than a panel has goes through the strip several times, and fetches a part of it each time.

    Args:
        b: the builder.
        product: what is computed.
        first: vector of the panel that the tile has.
        num_vectors: how many it has.
    """

    def __init__(self, b: Any, product: ProductArguments, first: Any, num_vectors: int) -> None:
        words = product.blocks.words
        begin, end = b.mul(product.first, words), b.mul(product.last, words)
        lines = b.mul(b.sub(end, begin), first)  # of the parts of vectors before
        self._begin = b.add(product.weights(end, number(0)), b.mul(lines, number(VECTOR)))
        self._b, self._weights, self._from = b, product.w, begin
        self._num_vectors = num_vectors

    def fetch(self, word: Any) -> None:
        """Fetch as many lines as the tile has vectors, while it multiplies a word."""
        b = self._b
        lines = b.mul(b.sub(word, self._from), number(self._num_vectors * VECTOR))
        for v in range(self._num_vectors):
            prefetch(b, self._weights.pointer(b.add(b.add(self._begin, lines), number(v * VECTOR)), I8))


def _step(
    b: Any, product: ProductArguments, rows: list[Any], vectors: list[Any], sums: _Cells, word: Any, ahead: _Ahead
) -> None:
    """Add the products of a few words of weights, from `word` on, to the sums of each row and vector.

    What cannot be added up before it is 32 bits wide is multiplied word by word, which leaves most registers free.
    """
    dot = product.dot
    emit = HERE.emit(dot)
    words = [b.add(word, number(s)) if s else word for s in range(dot.step)]
    for one in words:
        ahead.fetch(one)
    # What there is less of stays in registers: the inputs of few rows, or else the weights of a few vectors.
    cells = sorted(sums, key=lambda cell: cell[::-1]) if len(rows) < len(vectors) else sorted(sums)
    for some in [[one] for one in words] if dot.bits in (0, 8) else [words]:
        weights: dict[int, list[Any]] = {}
        for r, v in cells:
            if v not in weights:
                weights[v] = [
                    part
                    for one in some
                    for part in dot.expand(b, product.w.at(product.weights(one, vectors[v]), INTS), product.own.table)
                ]
            inputs = [
                splat(b, product.x.at(product.inputs(rows[r], one, part), I32), INTS)
                for one in some
                for part in range(dot.input_words)
            ]
            b.store(emit(b, b.load(sums[r, v]), inputs, weights[v]), sums[r, v])


@intrinsic
def blocks_of(_: Any, weights: Any) -> Any:
    """Return how many blocks a panel of weights (P, K/k, PANEL, k) has, and how many all rows meet in turn.

    So many stay in the nearest cache. Tiles take all at once: they have their own way with memory.
    """

    def generate(context: Any, b: Any, signature: Any, values: Any) -> Any:
        own = Operand(context, b, signature.args[0], values[0])
        blocks = Blocks(b, own)
        together = blocks.count
        if not takes_tiles(own.dot):
            fitting = b.sdiv(number(_STRIP // (4 * PANEL)), blocks.words)
            together = b.select(b.icmp_signed("<", fitting, number(1)), number(1), fitting)
        return context.make_tuple(b, signature.return_type, [blocks.count, together])

    return types.UniTuple(types.intp, 2)(weights), generate


@intrinsic
def product_tile(
    _: Any, x: Any, row: Any, count: Any, scales: Any, weights: Any, panel: Any, first: Any, last: Any, totals: Any
) -> Any:
    """Add up to TILE_ROWS rows of `x` times some inputs of a panel to their totals, between open and close.

    Args:
        x: (M, K), elements of the dot product's `inputs`; rows from `row` on.
        count: how many of these are wanted. Up to TILE_ROWS are computed, whatever they hold.
        scales: (M, G) float32, what one unit of uint8 is worth in each group of K / G columns. Where x is int8, (M, 4G)
            has these for groups of 32, then the sum of each group, then the sums of halves of groups. Else unused.
        weights: packed weights (P, K/k, PANEL, k), see `dots.Weights`; of panel `panel` the blocks from `first` to
            `last` (see `blocks_of`).
        totals: (M, PANEL) float32, which hold what the blocks before came to.
    """
    arguments = (x, row, count, scales, weights, panel, first, last, totals)

    def generate(context: Any, b: Any, signature: Any, values: Any) -> Any:
        product = ProductArguments(context, b, signature, values)
        if takes_tiles(product.dot):
            by_tiles(b, product)
            return context.get_dummy_value()

        def compute(shapes: tuple[tuple[int, int], ...]) -> None:
            """Let the first shape that has all rows compute them, vectors after vectors."""
            (num_rows, num_vectors), *larger = shapes

            def all_vectors(row: Any) -> None:
                with cgutils.for_range(b, number(VECTORS // num_vectors)) as some:
                    _by_vectors(b, product, row, num_rows, b.mul(some.index, number(num_vectors)), num_vectors)

            if not larger:
                with cgutils.for_range(b, number(TILE_ROWS // num_rows)) as part:
                    all_vectors(b.add(product.row, b.mul(part.index, number(num_rows))))
                return
            fits = b.icmp_signed("<=", product.count, ir.Constant(product.count.type, num_rows))
            with b.if_else(fits) as (fitting, beyond):
                with fitting:
                    all_vectors(product.row)
                with beyond:
                    compute(tuple(larger))

        compute(HERE.shapes)
        return context.get_dummy_value()

    return types.void(*arguments), generate
