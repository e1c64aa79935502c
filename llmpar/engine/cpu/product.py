"""Products of a few rows with packed weights: by vectors, or by the processor's matrix registers where it has some.

Written as LLVM IR (see `vector`). Both ways compute a row of int8 to the same bits.
"""

from __future__ import annotations

from typing import Any

from llvmlite import ir
from numba import types
from numba.core import cgutils
from numba.extending import intrinsic

from llmpar.engine.cpu import amx
from llmpar.engine.cpu.dots import INPUT_GROUP, Dot, Weights, dot_of
from llmpar.engine.cpu.instructions import HERE
from llmpar.engine.cpu.precision import PANEL
from llmpar.engine.cpu.vector import F32, I8, I16, I32, ArrayArgument, multiply_add, number, splat, widen_halves

TILE_ROWS, TILE_COLUMNS = HERE.tile_rows, HERE.tile_columns
"""How many rows and output channels of a product are computed at once."""
_VECTORS, _FLOATS, _INTS = HERE.vectors, HERE.floats, HERE.ints
_VECTOR = 4 * HERE.lanes  # bytes
_SHORTS, _BYTES = ir.VectorType(I16, HERE.lanes), ir.VectorType(I8, HERE.lanes)
_LINE = number(4 * PANEL)  # bytes from one word of inputs to the next, in weights and in a table of groups


def _dot_of(weights: Any) -> Dot:
    """Return the dot product of weights that have this type."""
    return dot_of(weights.instance_class)


class _Operand:
    """Packed weights inside generated code (see `dots.Weights`); None for each part that they lack."""

    def __init__(self, context: Any, b: Any, type_: Any, value: Any) -> None:
        def part(name: str) -> Any:
            index = Weights._fields.index(name)
            return type_.types[index], b.extract_value(value, index)

        def array(name: str) -> Any:
            kind, found = part(name)
            return ArrayArgument(context, b, kind, found) if isinstance(kind, types.Array) else None

        self.dot = _dot_of(type_)
        self.weight = array("weight")
        self.factors, self.factor_units = array("factors"), array("factor_units")
        self.biases, self.bias_units = array("biases"), array("bias_units")
        self.table = array("table")
        self.zero = part("zero")[1]


class _Product:
    """The arguments of `product_tile` inside generated code, and where things lie in them."""

    def __init__(self, context: Any, b: Any, signature: Any, values: Any) -> None:
        arrays: list[Any] = [
            ArrayArgument(context, b, type_, value) if isinstance(type_, types.Array) else value
            for type_, value in zip(signature.args, values, strict=True)
        ]
        self.x, self.row, self.count, self.scales, _, self.panel, channel, self._out, self._column, add = arrays
        self.own = _Operand(context, b, signature.args[4], values[4])
        self.dot, self.w = self.own.dot, self.own.weight
        self._b = b
        self._channel = channel
        self._add = b.icmp_signed("!=", add, ir.Constant(add.type, 0))
        self.num_groups = self.own.factors.shape[1] if self.dot.has_factors else number(1)
        self.has_offsets = bool(self.dot.bits) and self.own.biases is not None
        self._set_blocks()

    def _set_blocks(self) -> None:
        """Find what is summed at once: a group of weights, or the part of it whose inputs share a scale.

        `block_words` are its words of weights, of which `parts` make a group. Where a group of weights is half as long
        as one of inputs, `_half` is 1.
        """
        b = self._b
        self.block_words, self.parts = b.sdiv(self.w.shape[1], self.num_groups), number(1)
        if not self.dot.bits:
            return
        most = number(INPUT_GROUP // self.dot.inputs_per_word)
        is_short = b.icmp_signed("<", self.block_words, most)
        self._half = b.select(is_short, number(1), number(0))
        self.parts = b.select(is_short, number(1), b.sdiv(self.block_words, most))
        self.block_words = b.select(is_short, self.block_words, most)
        input_groups = b.sdiv(self.scales.shape[1], number(self.dot.numbers_per_group))
        self._sums = b.add(input_groups, b.mul(self._half, input_groups))

    def weights(self, word: Any) -> Any:
        """Where the weights of the first vector lie for the inputs of a word, in bytes."""
        b = self._b
        shift = b.mul(self._channel, number(4))
        return b.add(b.add(b.mul(self.panel, self.w.strides[0]), shift), b.mul(word, _LINE))

    def of_group(self, table: ArrayArgument, group: Any) -> Any:
        """Where a group's numbers for the first vector lie in a table of groups, in bytes."""
        b = self._b
        return b.add(
            b.add(b.mul(self.panel, table.strides[0]), b.mul(group, table.strides[1])),
            b.mul(self._channel, number(table.item)),
        )

    def inputs(self, row: Any, word: Any, part: int = 0) -> Any:
        """Where the first word of inputs for a word of weights lies in `x`, or one of the next, in bytes."""
        b, size = self._b, 4 * self.dot.input_words
        at = b.add(b.mul(row, self.x.strides[0]), b.mul(word, number(size)))
        return b.add(at, number(4 * part)) if part else at

    def units(self, group: Any) -> list[Any]:
        """Return what the sums of a group are worth, for each vector."""
        return self._floats_of(self.own.factors, self.own.factor_units, group)

    def offsets(self, group: Any) -> list[Any]:
        """Return what is added to each weight of a group, for each vector."""
        return self._floats_of(self.own.biases, self.own.bias_units, group)

    def _floats_of(self, table: ArrayArgument, units: ArrayArgument | None, group: Any) -> list[Any]:
        """Return a group's numbers, which are float32, the bits of float16, or whole numbers of a unit."""
        b, begin, size = self._b, self.of_group(table, group), HERE.lanes * table.item
        places = [b.add(begin, number(size * v)) for v in range(_VECTORS)]
        if table.item == 4:
            return [table.at(place, _FLOATS) for place in places]
        if units is None:
            return [widen_halves(b, table.at(place, _SHORTS)) for place in places]
        ratio = b.sdiv(table.shape[1], units.shape[1])  # a power of two
        found = self._floats_of(units, None, b.lshr(group, b.cttz(ratio, ir.Constant(ir.IntType(1), 0))))
        whole = [b.sitofp(table.at(place, _BYTES), _FLOATS) for place in places]
        return [b.fmul(*pair) for pair in zip(whole, found, strict=True)]

    def scale(self, row: Any, block: Any) -> Any:
        """Return what a row's inputs in a block are worth, in every lane."""
        group = self._b.lshr(block, self._half) if self.dot.bits else block
        return splat(self._b, self._number(row, group), _FLOATS)

    def sum(self, row: Any, block: Any) -> Any:
        """Return the sum of a row's inputs in a block, as a float32."""
        return self._number(row, self._b.add(self._sums, block))

    def _number(self, row: Any, place: Any) -> Any:
        b = self._b
        return self.scales.at(b.add(b.mul(row, self.scales.strides[0]), b.mul(place, number(4))), F32)

    def starts(self, rows: list[Any], block: Any) -> list[list[Any]]:
        """Return what the sums of a block begin with, for each row and vector."""
        b, is_signed = self._b, HERE.is_signed(self.dot)
        if not self.dot.is_integer:
            return [[ir.Constant(_FLOATS, None)] * _VECTORS for _ in rows]
        if self.dot.bits:
            # Whole numbers this small are exact.
            factor = b.fsub(ir.Constant(F32, self.dot.middle if is_signed else 0), self.own.zero)
            undone = [splat(b, b.fptosi(b.fmul(self.sum(row, block), factor), I32), _INTS) for row in rows]
            return [[start] * _VECTORS for start in undone]
        if is_signed:
            return [[ir.Constant(_INTS, None)] * _VECTORS for _ in rows]
        begin, biases = self.of_group(self.own.biases, block), self.own.biases
        return [[biases.at(b.add(begin, number(_VECTOR * v)), _INTS) for v in range(_VECTORS)]] * len(rows)

    def put(self, row: Any, v: int, result: Any) -> None:
        """Store a vector of results, or add it to what is there."""
        b = self._b
        at = b.add(b.mul(row, self._out.strides[0]), b.mul(self._column, number(4)))
        target = self._out.pointer(b.add(at, number(_VECTOR * v)), _FLOATS)
        with b.if_else(self._add) as (adding, setting):
            with adding:
                b.store(b.fadd(b.load(target, align=4), result), target, align=4)
            with setting:
                b.store(result, target, align=4)


def _by_vectors(b: Any, product: _Product, row: Any, num_rows: int = HERE.rows) -> None:
    """Keep the sums of some rows in registers: as many as the processor has room for, or fewer."""
    dot, has_factors = product.dot, product.dot.has_factors
    cells = [(r, v) for r in range(num_rows) for v in range(_VECTORS)]
    sums = {cell: cgutils.alloca_once(b, HERE.sums(dot)) for cell in cells}
    totals = {cell: cgutils.alloca_once(b, _FLOATS) for cell in cells} if has_factors else sums
    rows = [b.add(row, number(r)) for r in range(num_rows)]
    for cell in cells:
        b.store(ir.Constant(_FLOATS, None), totals[cell])
    with (
        cgutils.for_range(b, product.num_groups) as group,
        cgutils.for_range(b, product.parts) as part,
    ):
        block = b.add(b.mul(group.index, product.parts), part.index)
        if has_factors:
            starts = product.starts(rows, block)
            for r, v in cells:
                b.store(starts[r][v], sums[r, v])
        first = b.mul(block, product.block_words)
        with cgutils.for_range(b, b.sdiv(product.block_words, number(dot.step))) as step:
            _step(b, product, rows, sums, b.add(first, b.mul(step.index, number(dot.step))))
        if has_factors:
            units = product.units(group.index)
        if dot.is_scaled:
            for r, v in cells:
                b.store(multiply_add(b, b.load(sums[r, v]), units[v], b.load(totals[r, v])), totals[r, v])
        elif has_factors:
            offsets = product.offsets(group.index) if product.has_offsets else []
            for r in range(num_rows):
                scale = product.scale(rows[r], block)
                for v in range(_VECTORS):
                    value = b.fmul(b.sitofp(b.load(sums[r, v]), _FLOATS), units[v])
                    if offsets:
                        inputs_sum = splat(b, product.sum(rows[r], block), _FLOATS)
                        value = multiply_add(b, offsets[v], inputs_sum, value)
                    b.store(multiply_add(b, value, scale, b.load(totals[r, v])), totals[r, v])
    for r, v in cells:
        product.put(rows[r], v, b.load(totals[r, v]))


def _step(b: Any, product: _Product, rows: list[Any], sums: dict[tuple[int, int], Any], word: Any) -> None:
    """Add the products of a few words of weights, from `word` on, to the sums of each row and vector."""
    dot = product.dot
    emit = HERE.emit(dot)
    words = [b.add(word, number(s)) if s else word for s in range(dot.step)]
    weights: list[list[Any]] = [[] for _ in range(_VECTORS)]
    for one in words:
        at = product.weights(one)
        for v in range(_VECTORS):
            packed = product.w.at(b.add(at, number(_VECTOR * v)), _INTS)
            weights[v] += dot.expand(b, packed, product.own.table)
    for r, row in enumerate(rows):
        inputs = [
            splat(b, product.x.at(product.inputs(row, one, part), I32), _INTS)
            for one in words
            for part in range(dot.input_words)
        ]
        for v in range(_VECTORS):
            b.store(emit(b, b.load(sums[r, v]), inputs, weights[v]), sums[r, v])


# The tiles: three of sums, then what they are products of. Two of weights take turns; where words of inputs are no
# multiple of a tile's, the last have tiles of their own.
_SUMS, _INPUTS, _WEIGHTS, _LAST_WEIGHTS, _LAST_INPUTS = (0, 1, 2), 3, (4, 5), 6, 7


def _words(b: Any, w: ArrayArgument, num_groups: Any, *, integers: bool) -> tuple[Any, Any, Any]:
    """Return how many words of inputs a tile takes, how often in a group, and how many are left then.

    A group of integers is one tile, as it has a scale of its own (see `precision.group_size`).
    """
    if integers:
        return b.sdiv(w.shape[1], num_groups), number(1), number(0)
    most = number(amx.WORDS)
    words = b.select(b.icmp_signed("<", w.shape[1], most), w.shape[1], most)
    steps = b.sdiv(w.shape[1], words)
    return words, steps, b.sub(w.shape[1], b.mul(steps, words))


def _by_tiles(b: Any, product: _Product) -> None:
    """Let tiles have the sums of TILE_ROWS rows, and get them through memory: tiles know nothing but products."""
    dot, integers = product.dot, product.dot.is_integer
    words, steps, left = _words(b, product.w, product.num_groups, integers=integers)
    room = cgutils.alloca_once(b, ir.ArrayType(HERE.sums(dot), TILE_ROWS * _VECTORS))
    totals = cgutils.alloca_once(b, ir.ArrayType(_FLOATS, TILE_ROWS * _VECTORS)) if integers else room

    instruction = HERE.tile(dot) or ""

    def cell(array: Any, r: Any, v: int) -> Any:
        return b.gep(array, [number(0), b.add(b.mul(r, number(_VECTORS)), number(v))], inbounds=True)

    def multiply(word: Any, inputs: int, weights: tuple[int, ...]) -> None:
        amx.load(b, inputs, product.x.pointer(product.inputs(product.row, word), I32), product.x.strides[0])
        at = product.weights(word)
        for v in _SUMS:
            tile = weights[v % len(weights)]
            amx.load(b, tile, product.w.pointer(b.add(at, number(_VECTOR * v)), I32), _LINE)
            amx.dot(b, instruction, v, inputs, tile)

    if integers:
        b.store(ir.Constant(totals.type.pointee, None), totals)
    with cgutils.for_range(b, product.num_groups) as group:
        for v in _SUMS:
            if integers:
                begin = b.add(product.of_group(product.own.biases, group.index), number(_VECTOR * v))
                amx.load(b, v, product.own.biases.pointer(begin, I32), number(0))  # the same in each row
            else:
                amx.clear(b, v)
        first = b.mul(group.index, words)
        with cgutils.for_range(b, steps) as step:
            multiply(b.add(first, b.mul(step.index, words)), _INPUTS, _WEIGHTS)
        with b.if_then(b.icmp_signed("!=", left, number(0))):
            multiply(b.mul(steps, words), _LAST_INPUTS, (_LAST_WEIGHTS,))
        for v in _SUMS:
            amx.store(b, v, cell(room, number(0), v), number(_VECTOR * _VECTORS))
        if integers:
            units = product.units(group.index)
            with cgutils.for_range(b, number(TILE_ROWS)) as r:
                scale = product.scale(b.add(product.row, r.index), group.index)
                for v in _SUMS:
                    value = b.fmul(b.sitofp(b.load(cell(room, r.index, v)), _FLOATS), units[v])
                    total = cell(totals, r.index, v)
                    b.store(multiply_add(b, value, scale, b.load(total)), total)
    with cgutils.for_range(b, number(TILE_ROWS)) as r:
        for v in _SUMS:
            product.put(b.add(product.row, r.index), v, b.load(cell(totals, r.index, v)))


def _takes_tiles(dot: Dot) -> bool:
    return HERE.tile(dot) is not None


@intrinsic
def open_tiles(_: Any, x: Any, scales: Any, weights: Any) -> Any:
    """Prepare the processor for `product_tile` with x (M, K), scales (M, G) and packed weights (P, K/k, PANEL, k)."""
    dot = _dot_of(weights)

    def generate(context: Any, b: Any, signature: Any, values: Any) -> Any:
        if _takes_tiles(dot):
            scales_ = ArrayArgument(context, b, signature.args[1], values[1])
            own = _Operand(context, b, signature.args[2], values[2])
            num_groups = scales_.shape[1] if dot.is_integer else number(1)
            words, _, left = _words(b, own.weight, num_groups, integers=dot.is_integer)
            last = b.select(b.icmp_signed("==", left, number(0)), words, left)  # no tile may be empty
            rows, full = number(TILE_ROWS), number(amx.WORDS)
            shapes = {_INPUTS: (rows, words), _LAST_INPUTS: (rows, last), _LAST_WEIGHTS: (last, full)}
            shapes |= dict.fromkeys(_SUMS, (rows, full)) | dict.fromkeys(_WEIGHTS, (words, full))
            amx.configure(b, [shapes[tile] for tile in range(len(shapes))])
        return context.get_dummy_value()

    return types.void(x, scales, weights), generate


@intrinsic
def close_tiles(_: Any, weights: Any) -> Any:
    """End what `open_tiles` began with packed weights (P, K/k, PANEL, k)."""

    def generate(context: Any, b: Any, _: Any, __: Any) -> Any:
        if _takes_tiles(_dot_of(weights)):
            amx.release(b)
        return context.get_dummy_value()

    return types.void(weights), generate


@intrinsic
def product_tile(
    _: Any,
    x: Any,
    row: Any,
    count: Any,
    scales: Any,
    weights: Any,
    panel: Any,
    channel: Any,
    out: Any,
    column: Any,
    add: Any,
) -> Any:
    """Compute TILE_ROWS rows of `x` times TILE_COLUMNS output channels, between open and close.

    Args:
        x: (M, K), elements of the dot product's `inputs`; rows from `row` on.
        count: how many of these are wanted; one alone is computed alone.
        scales: (M, G) float32, what one unit of uint8 is worth in each group of K / G columns. Where x is int8, (M, 4G)
            has these for groups of 32, then the sum of each group, then the sums of halves of groups. Else unused.
        weights: packed weights (P, K/k, PANEL, k), see `dots.Weights`; of panel `panel` the channels from `channel` on.
        out: (M, N) float32; columns from `column` on.
        add: whether to add to what `out` holds.
    """
    arguments = (x, row, count, scales, weights, panel, channel, out, column, add)

    def generate(context: Any, b: Any, signature: Any, values: Any) -> Any:
        product = _Product(context, b, signature, values)
        if _takes_tiles(product.dot):
            _by_tiles(b, product)
        else:
            is_alone = b.icmp_signed("==", product.count, ir.Constant(product.count.type, 1))
            with b.if_else(is_alone) as (alone, together):
                with alone:
                    _by_vectors(b, product, product.row, 1)
                with together, cgutils.for_range(b, number(TILE_ROWS // HERE.rows)) as part:
                    _by_vectors(b, product, b.add(product.row, b.mul(part.index, number(HERE.rows))))
        return context.get_dummy_value()

    return types.void(*arguments), generate
