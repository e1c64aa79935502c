"""What a product's generated code knows of its arguments: where weights, inputs and their numbers lie."""

from __future__ import annotations

from typing import Any

from llvmlite import ir
from numba import types

from llmpar.engine.cpu.dots import INPUT_GROUP, Dot, Weights, dot_of
from llmpar.engine.cpu.instructions import HERE
from llmpar.engine.cpu.precision import PANEL
from llmpar.engine.cpu.vector import F32, I8, I16, ArrayArgument, number, splat, widen_halves

FLOATS, INTS = HERE.floats, HERE.ints
"""The types of a vector of float32, and of int32."""
VECTOR = 4 * HERE.lanes
"""Bytes of a vector."""
VECTORS = PANEL // HERE.lanes
"""How many vectors a panel has."""
LINE = number(4 * PANEL)
"""Bytes from one word of inputs to the next, in weights and in a table of groups."""
_SHORTS, _BYTES = ir.VectorType(I16, HERE.lanes), ir.VectorType(I8, HERE.lanes)


def dot_of_weights(weights: Any) -> Dot:
    """Return the dot product of weights that have this type."""
    return dot_of(weights.instance_class)


class Operand:
    """Packed weights inside generated code (see `dots.Weights`); None for each part that they lack."""

    def __init__(self, context: Any, b: Any, type_: Any, value: Any) -> None:
        def part(name: str) -> Any:
            index = Weights._fields.index(name)
            return type_.types[index], b.extract_value(value, index)

        def array(name: str) -> Any:
            kind, found = part(name)
            return ArrayArgument(context, b, kind, found) if isinstance(kind, types.Array) else None

        self.dot = dot_of_weights(type_)
        self.weight = array("weight")
        self.factors, self.factor_units = array("factors"), array("factor_units")
        self.biases, self.bias_units = array("biases"), array("bias_units")
        self.table = array("table")
        kind, found = part("zero")
        self.zero = None if isinstance(kind, types.NoneType) else found


class ProductArguments:
    """The arguments of `product_tile` inside generated code, and where things lie in them."""

    def __init__(self, context: Any, b: Any, signature: Any, values: Any) -> None:
        arrays: list[Any] = [
            ArrayArgument(context, b, type_, value) if isinstance(type_, types.Array) else value
            for type_, value in zip(signature.args, values, strict=True)
        ]
        self.x, self.row, self.count, self.scales, _, self.panel, self.first, self.last = arrays[:8]
        self._totals, self._out, self._column, self._adds = arrays[8:]
        self.own = Operand(context, b, signature.args[4], values[4])
        self.dot, self.w = self.own.dot, self.own.weight
        self.blocks = Blocks(b, self.own)
        self._b = b
        self.is_whole = HERE.meets_whole_panels(self.dot)
        self.has_offsets = bool(self.dot.bits) and self.own.biases is not None
        if self.dot.bits:
            input_groups = b.sdiv(self.scales.shape[1], number(self.dot.numbers_per_group))
            self._sums = b.add(input_groups, b.mul(self.blocks.half, input_groups))

    def weights(self, word: Any, vector: Any) -> Any:
        """Where the weights of a vector lie for the inputs of a word, in bytes."""
        b = self._b
        shift = b.mul(vector, number(VECTOR))
        return b.add(b.add(b.mul(self.panel, self.w.strides[0]), shift), b.mul(word, LINE))

    def of_group(self, table: ArrayArgument, group: Any, vector: Any) -> Any:
        """Where a group's numbers for a vector lie in a table of groups, in bytes."""
        b = self._b
        return b.add(
            b.add(b.mul(self.panel, table.strides[0]), b.mul(group, table.strides[1])),
            b.mul(vector, number(table.item * HERE.lanes)),
        )

    def inputs(self, row: Any, word: Any, part: int = 0) -> Any:
        """Where the first word of inputs for a word of weights lies in `x`, or one of the next, in bytes."""
        b, size = self._b, 4 * self.dot.input_words
        at = b.add(b.mul(row, self.x.strides[0]), b.mul(word, number(size)))
        return b.add(at, number(4 * part)) if part else at

    def units(self, group: Any, vector: Any) -> Any:
        """Return what the sums of a group are worth, for a vector."""
        return self._floats_of(self.own.factors, self.own.factor_units, group, vector)

    def offsets(self, group: Any, vector: Any) -> Any:
        """Return what is added to each weight of a group, for a vector."""
        return self._floats_of(self.own.biases, self.own.bias_units, group, vector)

    def _floats_of(self, table: ArrayArgument, units: ArrayArgument | None, group: Any, vector: Any) -> Any:
        """Return a group's numbers, which are float32, the bits of float16, or whole numbers of a unit."""
        b, place = self._b, self.of_group(table, group, vector)
        if table.item == 4:
            return table.at(place, FLOATS)
        if units is None:
            return widen_halves(b, table.at(place, _SHORTS))
        ratio = b.sdiv(table.shape[1], units.shape[1])  # a power of two
        found = self._floats_of(units, None, b.lshr(group, b.cttz(ratio, ir.Constant(ir.IntType(1), 0))), vector)
        return b.fmul(b.sitofp(table.at(place, _BYTES), FLOATS), found)

    def scale(self, row: Any, block: Any) -> Any:
        """Return what a row's inputs in a block are worth, in every lane."""
        group = self._b.lshr(block, self.blocks.half) if self.dot.bits else block
        return splat(self._b, self._number(row, group), FLOATS)

    def sum(self, row: Any, block: Any) -> Any:
        """Return the sum of a row's inputs in a block, as a float32."""
        return self._number(row, self._b.add(self._sums, block))

    def _number(self, row: Any, place: Any) -> Any:
        b = self._b
        return self.scales.at(b.add(b.mul(row, self.scales.strides[0]), b.mul(place, number(4))), F32)

    def starts(self, rows: list[Any], block: Any, vectors: list[Any]) -> list[list[Any]]:
        """Return what the sums of a block begin with, for each row and vector."""
        b, is_signed = self._b, HERE.is_signed(self.dot)
        if not self.dot.is_integer:
            return [[ir.Constant(FLOATS, None)] * len(vectors) for _ in rows]
        if self.dot.bits:
            # Whole numbers this small are exact.
            factor = ir.Constant(F32, self.dot.middle if is_signed else 0)
            if self.own.zero is not None:
                factor = b.fsub(factor, self.own.zero)
            elif not is_signed:
                return [[ir.Constant(INTS, None)] * len(vectors) for _ in rows]
            factors = splat(b, factor, FLOATS)
            undone = [b.fptosi(b.fmul(splat(b, self.sum(row, block), FLOATS), factors), INTS) for row in rows]
            return [[start] * len(vectors) for start in undone]
        if is_signed:
            return [[ir.Constant(INTS, None)] * len(vectors) for _ in rows]
        biases = self.own.biases
        return [[biases.at(self.of_group(biases, block, v), INTS) for v in vectors]] * len(rows)

    def begin(self, row: Any, vector: Any) -> Any:
        """Return what the blocks before came to, for a row and a vector."""
        b, nothing = self._b, ir.Constant(FLOATS, None)
        if self.is_whole:
            return nothing
        is_first = b.icmp_signed("==", self.first, number(0))
        return b.select(is_first, nothing, b.load(self._place(self._totals, row, vector), align=4))

    def end(self, totals: list[tuple[Any, Any, Any]]) -> None:
        """Keep totals, each with its row and its vector: the last blocks' are what was asked for."""
        b = self._b

        def finish() -> None:
            for row, vector, total in totals:
                place = self._place(self._out, row, vector, self._column)
                sum_ = b.fadd(b.load(place, align=4), total)
                b.store(b.select(self._adds, sum_, total), place, align=4)

        if self.is_whole:
            finish()
            return
        with b.if_else(b.icmp_signed("==", self.last, self.blocks.count)) as (last, earlier):
            with last:
                finish()
            with earlier:
                for row, vector, total in totals:
                    b.store(total, self._place(self._totals, row, vector), align=4)

    def _place(self, array: ArrayArgument, row: Any, vector: Any, column: Any = None) -> Any:
        b = self._b
        at = b.add(b.mul(row, array.strides[0]), b.mul(vector, number(VECTOR)))
        return array.pointer(at if column is None else b.add(at, b.mul(column, number(4))), FLOATS)


class Blocks:
    """What of packed weights is summed at once: a group, or the part of it whose inputs share a scale.

    Args:
        b: the builder.
        own: the weights.

    Attributes:
        words: of weights in a block. Where no group has a scale, a block is one word.
        parts: how many blocks make a group.
        half: 1 where a group of weights is half as long as one of inputs, else 0.
        count: how many blocks a panel has.
    """

    def __init__(self, b: Any, own: Operand) -> None:
        self.parts, self.half, all_words = number(1), number(0), own.weight.shape[1]
        self.words = number(1)
        if own.dot.has_factors:
            self.words = b.sdiv(all_words, own.factors.shape[1])
        if own.dot.bits:
            most = number(INPUT_GROUP // own.dot.inputs_per_word)
            is_short = b.icmp_signed("<", self.words, most)
            self.half = b.select(is_short, number(1), number(0))
            self.parts = b.select(is_short, number(1), b.sdiv(self.words, most))
            self.words = b.select(is_short, self.words, most)
        self.count = b.sdiv(all_words, self.words)
