"""Products of a few rows with packed weights: by vectors, or by the processor's matrix registers where it has some.

Written as LLVM IR (see `vector`). Both ways compute a row of int8 to the same bits.

On some processors a strip of a panel is multiplied with all rows before the next one is touched: it comes from memory
once, and each later tile of rows finds it in the nearest cache. Few rows wait for nothing but memory, so the strip to
come is fetched while this one is multiplied (see `InstructionSet.strip`).
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

from llvmlite import ir
from numba import types
from numba.core import cgutils
from numba.extending import intrinsic

from llmpar.engine.cpu.dots import Dot
from llmpar.engine.cpu.instructions import HERE
from llmpar.engine.cpu.matrices_arm import in_rows, in_squares
from llmpar.engine.cpu.operands import FLOATS, INTS, VECTOR, VECTORS, Blocks, Operand, ProductArguments
from llmpar.engine.cpu.precision import PANEL
from llmpar.engine.cpu.tiles import by_tiles, takes_tiles
from llmpar.engine.cpu.vector import I8, I32, I64, ints, multiply_add, number, prefetch, splat

TILE_ROWS = HERE.tile_rows
"""How many rows of a product one call computes at most."""
_NEGATIVE_ZEROS = -0x7FFF8000  # 0x80008000, two of bfloat16
_Cells = dict[tuple[int, int], Any]
"""Where what belongs to a row and a vector of a tile is kept."""


def rows_at_once(dot: Dot) -> int:
    """Return how many of the rows of a product (M, N) are computed in the time of one.

    Matrix registers, which not all forms of weights have, compute the most.
    """
    return TILE_ROWS if takes_tiles(dot) else HERE.shapes[-1][0]


def _by_vectors(b: Any, product: ProductArguments, row: Any, num_rows: int, first: Any, num_vectors: int) -> None:
    """Add the sums of some rows and neighbouring vectors to their totals; registers hold the sums of a block."""
    dot, blocks = product.dot, product.blocks
    has_factors, widen = dot.has_factors, HERE.widen(dot)
    cells = [(r, v) for r in range(num_rows) for v in range(num_vectors)]
    totals = {cell: cgutils.alloca_once(b, FLOATS) for cell in cells}
    sums = {cell: cgutils.alloca_once(b, HERE.sums(dot)) for cell in cells} if has_factors else totals
    rows = [b.add(row, number(r)) for r in range(num_rows)]
    vectors = [b.add(first, number(v)) for v in range(num_vectors)]
    for r, v in cells:
        b.store(product.begin(rows[r], vectors[v]), totals[r, v])
    group, part = (cgutils.alloca_once(b, number(0).type) for _ in range(2))
    b.store(b.sdiv(product.first, blocks.parts), group)
    b.store(b.srem(product.first, blocks.parts), part)
    steps = _Steps(b, product, rows, vectors, _Ahead(b, product, first, num_vectors) if HERE.strip else None)
    if has_factors:
        with cgutils.for_range(b, product.last, product.first) as loop:
            block = loop.index
            if widen:  # with nothing, so that all registers are free for the sums of pairs
                for place in sums.values():
                    b.store(ir.Constant(INTS, None), place)
            else:
                starts = product.starts(rows, block, vectors)
                for (r, v), place in sums.items():
                    b.store(starts[r][v], place)
            steps.add(sums, b.mul(block, blocks.words), blocks.words)
            if widen:
                starts = product.starts(rows, block, vectors)
                for (r, v), place in sums.items():
                    b.store(b.add(widen(b, b.load(place)), starts[r][v]), place)
            _scale(b, product, rows, vectors, sums, totals, block, b.load(group))
            ended = b.add(b.load(part), number(1))
            is_last = b.icmp_signed("==", ended, blocks.parts)
            b.store(b.select(is_last, number(0), ended), part)
            b.store(b.add(b.load(group), b.zext(is_last, number(0).type)), group)
    else:
        steps.add(totals, product.first, b.sub(product.last, product.first))
    product.end([(rows[r], vectors[v], b.load(totals[r, v])) for r, v in cells])


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


class _Steps:
    """Multiplies some rows with neighbouring vectors, a few words of weights at a time.

    Where the processor multiplies two rows at once, their sums lie in squares meanwhile (see `matrices_arm`).

    Args:
        b: the builder.
        product: what is computed.
        rows: which rows.
        vectors: which vectors of the panel.
        ahead: fetches what comes next; None where the processor does.
    """

    def __init__(
        self, b: Any, product: ProductArguments, rows: list[Any], vectors: list[Any], ahead: _Ahead | None
    ) -> None:
        self._b, self._product, self._rows, self._vectors, self._ahead = b, product, rows, vectors, ahead
        self._matrix = HERE.matrix(product.dot) if len(rows) % 2 == 0 else None

    def add(self, sums: _Cells, begin: Any, count: Any) -> None:
        """Add the products of `count` words, from `begin` on, to the sums of each row and vector."""
        b, dot = self._b, self._product.dot
        if not self._matrix:
            num_words = 1 if HERE.widen(dot) else dot.step
            with cgutils.for_range(b, b.sdiv(count, number(num_words))) as step:
                self._by_rows(sums, b.add(begin, b.mul(step.index, number(num_words))), num_words)
            return
        self._convert(sums, in_squares)
        num_words = max(dot.step, 2 // dot.input_words)
        with cgutils.for_range(b, b.sdiv(count, number(num_words))) as step:
            self._by_squares(sums, b.add(begin, b.mul(step.index, number(num_words))), num_words)
        if num_words > dot.step:
            left = b.srem(count, number(num_words))
            with b.if_then(b.icmp_signed("!=", left, number(0))):
                self._by_squares(sums, b.sub(b.add(begin, count), left), 1)
        self._convert(sums, in_rows)

    def _by_rows(self, sums: _Cells, word: Any, num_words: int) -> None:
        """Multiply each row by itself.

        What cannot be added up before it is 32 bits wide is multiplied word by word, which leaves most registers free.
        """
        b, product, dot = self._b, self._product, self._product.dot
        emit = HERE.emit(dot)
        words = self._words(word, num_words)
        # What there is less of stays in registers: the inputs of few rows, or else the weights of a few vectors.
        few_rows = len(self._rows) < len(self._vectors)
        cells = sorted(sums, key=lambda cell: cell[::-1]) if few_rows else sorted(sums)
        for some in [[one] for one in words] if dot.bits in (0, 8) else [words]:
            weights: dict[int, list[Any]] = {}
            for r, v in cells:
                if v not in weights:
                    weights[v] = self._weights(some, v)
                inputs = [
                    splat(b, product.x.at(product.inputs(self._rows[r], one, part), I32), INTS)
                    for one in some
                    for part in range(dot.input_words)
                ]
                b.store(emit(b, b.load(sums[r, v]), inputs, weights[v]), sums[r, v])

    def _by_squares(self, sums: _Cells, word: Any, num_words: int) -> None:
        """Multiply two rows at once, two words of inputs after another; the last may be one by itself."""
        b, product, dot = self._b, self._product, self._product.dot
        assert self._matrix
        words = self._words(word, num_words)
        parts = [(one, part) for one in words for part in range(dot.input_words)]
        # What is added for a word that is not there leaves even a sum of -0 as it is.
        nothing = ir.Constant(INTS, None if dot.is_integer else [_NEGATIVE_ZEROS] * HERE.lanes)
        for v in range(len(self._vectors)):
            weights = self._weights(words, v)
            for first in range(0, len(parts), 2):
                type_ = I64 if first + 1 < len(parts) else I32
                w, after = [*weights, nothing][first : first + 2]
                for r in range(0, len(self._rows), 2):
                    inputs = ir.Constant(ir.VectorType(I64, 2), ir.Undefined)
                    for row in range(2):
                        at = product.inputs(self._rows[r + row], *parts[first])
                        found = product.x.at(at, type_)
                        found = found if type_ is I64 else b.zext(found, I64)
                        inputs = b.insert_element(inputs, found, ir.Constant(I32, row))
                    pair = sums[r, v], sums[r + 1, v]
                    both = b.load(pair[0]), b.load(pair[1])
                    for total, place in zip(
                        self._matrix(b, both, b.bitcast(inputs, ints(4)), w, after), pair, strict=True
                    ):
                        b.store(total, place)

    def _words(self, word: Any, count: int) -> list[Any]:
        """Return where so many words are, and fetch as many of those to come."""
        words = [self._b.add(word, number(one)) if one else word for one in range(count)]
        if self._ahead:
            for one in words:
                self._ahead.fetch(one)
        return words

    def _weights(self, words: list[Any], v: int) -> list[Any]:
        """Return what inputs are multiplied with, of some words of a vector."""
        b, product = self._b, self._product
        return [
            part
            for one in words
            for part in product.dot.expand(
                b, product.w.at(product.weights(one, self._vectors[v]), INTS), product.own.table
            )
        ]

    def _convert(self, sums: _Cells, converted: Callable[[Any, Any, Any], tuple[Any, Any]]) -> None:
        b = self._b
        for r in range(0, len(self._rows), 2):
            for v in range(len(self._vectors)):
                pair = sums[r, v], sums[r + 1, v]
                for total, place in zip(converted(b, b.load(pair[0]), b.load(pair[1])), pair, strict=True):
                    b.store(total, place)


def _num_parts(b: Any, count: Any, num_rows: int) -> Any:
    """Return how often so many rows are computed, until all of a tile that are wanted have been."""
    if num_rows == TILE_ROWS:
        return number(1)
    most, wanted = number(TILE_ROWS // num_rows), b.sdiv(b.add(count, number(num_rows - 1)), number(num_rows))
    return b.select(b.icmp_signed("<", wanted, most), wanted, most)


@intrinsic
def blocks_of(_: Any, weights: Any) -> Any:
    """Return how many blocks a panel of weights (P, K/k, PANEL, k) has, and how many all rows meet in turn."""

    def generate(context: Any, b: Any, signature: Any, values: Any) -> Any:
        own = Operand(context, b, signature.args[0], values[0])
        blocks = Blocks(b, own)
        together = blocks.count
        if HERE.strip and not HERE.meets_whole_panels(own.dot):
            fitting = b.sdiv(number(HERE.strip // (4 * PANEL)), blocks.words)
            together = b.select(b.icmp_signed("<", fitting, number(1)), number(1), fitting)
        return context.make_tuple(b, signature.return_type, [blocks.count, together])

    return types.UniTuple(types.intp, 2)(weights), generate


@intrinsic
def product_tile(
    _: Any,
    x: Any,
    row: Any,
    count: Any,
    scales: Any,
    weights: Any,
    panel: Any,
    first: Any,
    last: Any,
    totals: Any,
    out: Any,
    column: Any,
    adds: Any,
) -> Any:
    """Add up to TILE_ROWS rows of `x` times some inputs of a panel to their totals, between open and close.

    Args:
        x: (M, K), elements of the dot product's `inputs`; rows from `row` on.
        count: how many of these are wanted, of which TILE_ROWS are computed at most. So are those behind them up to a
            multiple of `rows_at_once`, whatever they hold.
        scales: (M, G) float32, what one unit of uint8 is worth in each group of K / G columns. Where x is int8, (M, 4G)
            has these for groups of 32, then the sum of each group, then the sums of halves of groups. Else unused.
        weights: packed weights (P, K/k, PANEL, k), see `dots.Weights`; of panel `panel` the blocks from `first` to
            `last` (see `blocks_of`).
        totals: (M, PANEL) float32, which hold what the blocks before came to; the last blocks leave them as they are.
        out: (M, N) float32. The last blocks set it to the totals, or add these to it, from a column on.
        adds: whether they add.
    """
    arguments = (x, row, count, scales, weights, panel, first, last, totals, out, column, adds)

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
                with cgutils.for_range(b, _num_parts(b, product.count, num_rows)) as part:
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
