"""Products by the processor's matrix registers, which compute many rows at once (see `amx`)."""

from __future__ import annotations

from typing import Any

from llvmlite import ir
from numba import types
from numba.core import cgutils
from numba.extending import intrinsic

from llmpar.engine.cpu import amx
from llmpar.engine.cpu.dots import Dot
from llmpar.engine.cpu.instructions import HERE
from llmpar.engine.cpu.operands import FLOATS, LINE, VECTOR, VECTORS, Operand, ProductArguments, dot_of_weights
from llmpar.engine.cpu.vector import I32, ArrayArgument, multiply_add, number

_ROWS = HERE.tile_rows

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


def takes_tiles(dot: Dot) -> bool:
    """Tell whether products of this form are computed by tiles here."""
    return HERE.tile(dot) is not None


@intrinsic
def open_tiles(_: Any, x: Any, scales: Any, weights: Any) -> Any:
    """Prepare the processor for `product_tile` with x (M, K), scales (M, G) and packed weights (P, K/k, PANEL, k)."""
    dot = dot_of_weights(weights)

    def generate(context: Any, b: Any, signature: Any, values: Any) -> Any:
        if takes_tiles(dot):
            scales_ = ArrayArgument(context, b, signature.args[1], values[1])
            own = Operand(context, b, signature.args[2], values[2])
            num_groups = scales_.shape[1] if dot.is_integer else number(1)
            words, _, left = _words(b, own.weight, num_groups, integers=dot.is_integer)
            last = b.select(b.icmp_signed("==", left, number(0)), words, left)  # no tile may be empty
            rows, full = number(_ROWS), number(amx.WORDS)
            shapes = {_INPUTS: (rows, words), _LAST_INPUTS: (rows, last), _LAST_WEIGHTS: (last, full)}
            shapes |= dict.fromkeys(_SUMS, (rows, full)) | dict.fromkeys(_WEIGHTS, (words, full))
            amx.configure(b, [shapes[tile] for tile in range(len(shapes))])
        return context.get_dummy_value()

    return types.void(x, scales, weights), generate


@intrinsic
def close_tiles(_: Any, weights: Any) -> Any:
    """End what `open_tiles` began with packed weights (P, K/k, PANEL, k)."""

    def generate(context: Any, b: Any, _: Any, __: Any) -> Any:
        if takes_tiles(dot_of_weights(weights)):
            amx.release(b)
        return context.get_dummy_value()

    return types.void(weights), generate


def by_tiles(b: Any, product: ProductArguments) -> None:
    """Let tiles have the sums of _ROWS rows, and get them through memory: tiles know nothing but products."""
    dot, integers = product.dot, product.dot.is_integer
    num_groups = product.own.factors.shape[1] if integers else number(1)
    words, steps, left = _words(b, product.w, num_groups, integers=integers)
    room = cgutils.alloca_once(b, ir.ArrayType(HERE.sums(dot), _ROWS * VECTORS))
    totals = cgutils.alloca_once(b, ir.ArrayType(FLOATS, _ROWS * VECTORS)) if integers else room

    instruction = HERE.tile(dot) or ""

    def cell(array: Any, r: Any, v: int) -> Any:
        return b.gep(array, [number(0), b.add(b.mul(r, number(VECTORS)), number(v))], inbounds=True)

    def multiply(word: Any, inputs: int, weights: tuple[int, ...]) -> None:
        amx.load(b, inputs, product.x.pointer(product.inputs(product.row, word), I32), product.x.strides[0])
        for v in _SUMS:
            tile = weights[v % len(weights)]
            amx.load(b, tile, product.w.pointer(product.weights(word, number(v)), I32), LINE)
            amx.dot(b, instruction, v, inputs, tile)

    if integers:
        b.store(ir.Constant(totals.type.pointee, None), totals)
    with cgutils.for_range(b, num_groups) as group:
        for v in _SUMS:
            if integers:
                begin = product.of_group(product.own.biases, group.index, number(v))
                amx.load(b, v, product.own.biases.pointer(begin, I32), number(0))  # the same in each row
            else:
                amx.clear(b, v)
        first = b.mul(group.index, words)
        with cgutils.for_range(b, steps) as step:
            multiply(b.add(first, b.mul(step.index, words)), _INPUTS, _WEIGHTS)
        with b.if_then(b.icmp_signed("!=", left, number(0))):
            multiply(b.mul(steps, words), _LAST_INPUTS, (_LAST_WEIGHTS,))
        for v in _SUMS:
            amx.store(b, v, cell(room, number(0), v), number(VECTOR * VECTORS))
        if integers:
            units = [product.units(group.index, number(v)) for v in _SUMS]
            with cgutils.for_range(b, number(_ROWS)) as r:
                scale = product.scale(b.add(product.row, r.index), group.index)
                for v in _SUMS:
                    value = b.fmul(b.sitofp(b.load(cell(room, r.index, v)), FLOATS), units[v])
                    total = cell(totals, r.index, v)
                    b.store(multiply_add(b, value, scale, b.load(total)), total)
    with cgutils.for_range(b, number(_ROWS)) as r:
        row = b.add(product.row, r.index)
        product.end([(row, number(v), b.load(cell(totals, r.index, v))) for v in _SUMS])
