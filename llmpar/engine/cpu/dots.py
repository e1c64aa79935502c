"""Dot products of the words of a product, written as LLVM IR for vectors of any width.

A word is 32 bits: several neighbouring inputs of a row, or the weights of one output channel for them. What is here
runs on any processor; `instructions` has what some processors do faster, and `codes_x86` writes that.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any, NamedTuple

import numpy as np
from llvmlite import ir

from llmpar.engine.cpu.vector import F32, looked_up, looked_up_floats, multiply_add, repeated

Emit = Callable[[Any, Any, list[Any], list[Any]], Any]
"""(builder, total, words of inputs, words of weights) → the total, to which each lane's dot product is added.

All but the builder are vectors of equally many words; each lane has the same inputs, and the weights of one channel.
"""
Expand = Callable[[Any, Any, Any], list[Any]]
"""(builder, word of weights, table) → the words that inputs are multiplied with."""

INPUT_GROUP = 32
"""How many neighbouring inputs of a row share a scale where weights are codes."""


class Weights(NamedTuple):
    """Packed weights as kernels take them. What a dot product does not need is None.

    Kernels are compiled for types, so each dot product has a class of these for itself.

    Args:
        weight: (P, K/k, PANEL, k), words of 32 bits with k inputs of one channel each.
        factors: (P, G, PANEL), what one unit of a whole weight is worth: float32, uint16 for the bits of a float16, or
            int8, which is multiplied with a unit.
        factor_units: (P, G/s, PANEL), uint16 for the bits of float16.
        biases: int32, what the sum of a group begins with; else as `factors`, what is added to each weight of a group.
        bias_units: as `factor_units`, for `biases` of int8.
        table: (16,), what the codes of four bits are looked up in: bytes or float32.
        zero: float32, what is stored where a code is 0; None for 0.
    """

    weight: Any
    factors: Any = None
    factor_units: Any = None
    biases: Any = None
    bias_units: Any = None
    table: Any = None
    zero: Any = None


class FloatWords(Weights):
    """One float32 in a word."""

    __slots__ = ()


class BFloatWords(Weights):
    """Two bfloat16 in a word."""

    __slots__ = ()


class ByteWords(Weights):
    """Four signed bytes in a word, for inputs of unsigned ones."""

    __slots__ = ()


class Nibbles(Weights):
    """Eight codes of four bits in a word."""

    __slots__ = ()


class Lookups(Weights):
    """Eight codes of four bits in a word, each a place in a table."""

    __slots__ = ()


class Sixes(Weights):
    """Four codes of up to six bits in a word."""

    __slots__ = ()


class Octets(Weights):
    """Four codes of up to eight bits in a word."""

    __slots__ = ()


class FloatLookups(Weights):
    """Eight codes of four bits in a word, each a place in a table of float32."""

    __slots__ = ()


class ShortFloats(Weights):
    """Four floats of eight bits in a word, with four bits of exponent."""

    __slots__ = ()


class ShorterFloats(Weights):
    """Four floats of eight bits in a word, with five bits of exponent."""

    __slots__ = ()


def _as_it_is(_: Any, word: Any, __: Any) -> list[Any]:
    return [word]


@dataclass(frozen=True, slots=True)
class Dot:
    """One form of weights, and its dot product with inputs.

    Args:
        name: what a pack calls it.
        kind: the class that its weights have when kernels take them.
        weights: numpy's type of the elements of packed weights.
        inputs: the type of activations that are multiplied with weights: float32, uint16 for bfloat16, or uint8 or int8
            with a scale for each group (see `floats.encode`).
        portable: works on any processor.
        is_integer: whether sums are int32, which need scales; else they are float32.
        input_words: how many words of inputs one word of weights is multiplied with: more than one where weights are
            shorter than inputs.
        step: how many words of weights are multiplied at once.
        bits: of what is multiplied, where weights are codes: unsigned, with a scale for a group; inputs are int8 then.
            Else 0.
        expand: makes words of what is multiplied of a word of codes.
        is_scaled: whether codes become floats, with a scale for a group.
    """

    name: str
    kind: type[Weights]
    weights: Any
    inputs: Any
    portable: Emit
    is_integer: bool = False
    input_words: int = 1
    step: int = 1
    bits: int = 0
    expand: Expand = _as_it_is
    is_scaled: bool = False

    @property
    def has_factors(self) -> bool:
        """Whether the sums of a group are multiplied with a scale."""
        return self.is_integer or self.is_scaled

    @property
    def inputs_per_word(self) -> int:
        """How many inputs a 32-bit word of weights is multiplied with."""
        return self.input_words * int(4 // np.dtype(self.inputs).itemsize)

    @property
    def numbers_per_group(self) -> int:
        """How many numbers of float32 tell about each group of a row of inputs.

        That is its scale. Where weights are codes, there are also the sums of the group and of both halves of it.
        """
        return 4 if self.bits else int(self.is_integer)

    @property
    def middle(self) -> int:
        """What is stored for 0 where codes are signed."""
        return 1 << self.bits >> 1


def _bytes_portable(builder: Any, total: Any, x: list[Any], w: list[Any]) -> Any:
    """Multiply and add the four unsigned bytes of `x` and the four signed bytes of `w`."""
    return _codes_portable(builder, total, w, x)


def _codes_portable(builder: Any, total: Any, x: list[Any], w: list[Any]) -> Any:
    """Multiply and add the four signed bytes of each word of `x` and the four unsigned bytes of one of `w`."""
    for inputs, codes in zip(x, w, strict=True):
        for byte in range(4):
            left = builder.ashr(builder.shl(inputs, repeated(codes, 24 - 8 * byte)), repeated(codes, 24))
            right = builder.and_(builder.lshr(codes, repeated(codes, 8 * byte)), repeated(codes, 255))
            total = builder.add(total, builder.mul(left, right))
    return total


def _halves(builder: Any, w: Any, _: Any) -> list[Any]:
    """Return the lower and the upper half of each byte, as bytes."""
    ones = repeated(w, 0x0F0F0F0F)
    return [builder.and_(w, ones), builder.and_(builder.lshr(w, repeated(w, 4)), ones)]


def _looked_up(builder: Any, w: Any, table: Any) -> list[Any]:
    """Return what a table has for the lower and for the upper half of each byte, as bytes."""
    return [looked_up(builder, half, table) for half in _halves(builder, w, table)]


def _floats_of_table(builder: Any, w: Any, table: Any) -> list[Any]:
    """Return what a table of float32 has for the lower halves of the bytes, one after the other, then for the upper."""
    shifts = (0, 8, 16, 24, 4, 12, 20, 28)
    return [looked_up_floats(builder, builder.lshr(w, repeated(w, shift)), table) for shift in shifts]


def _bfloats_of(exponent: int) -> Expand:
    """Return what makes pairs of bfloat16 of floats of eight bits that have so many bits of exponent."""
    spare = 8 - exponent  # bits that the exponent of a float32 has more
    mask = (0x7F000000 >> spare) - (1 << 31)
    lift = 2.0 ** ((1 << 7) - (1 << (exponent - 1)))

    def expand(builder: Any, w: Any, _: Any) -> list[Any]:
        floats = ir.VectorType(F32, w.type.count)
        found = []
        for byte in range(4):
            # The sign goes to the highest bit, and the rest to where a float32 has it. Multiplying makes the exponent
            # right, and a number of those that have none.
            moved = builder.ashr(builder.shl(w, repeated(w, 24 - 8 * byte)), repeated(w, spare))
            small = builder.bitcast(builder.and_(moved, repeated(w, mask)), floats)
            value = builder.fmul(small, ir.Constant(floats, [lift] * w.type.count))
            found.append(builder.bitcast(value, w.type))
        return [_pair(builder, *found[:2]), _pair(builder, *found[2:])]

    return expand


def _pair(builder: Any, low: Any, high: Any) -> Any:
    """Return bfloat16 of the bits of float32 that have no more."""
    upper = builder.and_(high, repeated(high, -65536))
    return builder.or_(builder.lshr(low, repeated(low, 16)), upper)


def _bfloats_portable(builder: Any, total: Any, x: list[Any], w: list[Any]) -> Any:
    """Multiply and add pairs of bfloat16, as float32."""
    for pair in zip(x, w, strict=True):
        low = [builder.bitcast(builder.shl(v, repeated(v, 16)), total.type) for v in pair]
        high = [builder.bitcast(builder.and_(v, repeated(v, -65536)), total.type) for v in pair]
        total = multiply_add(builder, high[0], high[1], multiply_add(builder, low[0], low[1], total))
    return total


def _floats(builder: Any, total: Any, x: list[Any], w: list[Any]) -> Any:
    for pair in zip(x, w, strict=True):
        inputs, weights = (builder.bitcast(v, total.type) for v in pair)
        total = multiply_add(builder, inputs, weights, total)
    return total


FLOAT_WORDS = Dot("fp32", FloatWords, np.float32, np.float32, _floats)
BFLOATS = Dot("bf16", BFloatWords, np.uint16, np.uint16, _bfloats_portable)
BYTES = Dot("int8", ByteWords, np.int8, np.uint8, _bytes_portable, is_integer=True)
NIBBLES = Dot(
    "int4", Nibbles, np.uint8, np.int8, _codes_portable, is_integer=True, input_words=2, step=2, bits=4, expand=_halves
)
LOOKUPS = Dot(
    "int4 by table", Lookups, np.uint8, np.int8, _codes_portable,
    is_integer=True, input_words=2, step=2, bits=8, expand=_looked_up,
)  # fmt: skip
SIXES = Dot("codes of 6 bits", Sixes, np.uint8, np.int8, _codes_portable, is_integer=True, step=4, bits=6)
OCTETS = Dot("codes of 8 bits", Octets, np.uint8, np.int8, _codes_portable, is_integer=True, step=4, bits=8)

FLOAT_LOOKUPS = Dot(
    "floats by table", FloatLookups, np.uint8, np.float32, _floats,
    input_words=8, expand=_floats_of_table, is_scaled=True,
)  # fmt: skip
E4M3 = Dot(
    "floats of 8 bits", ShortFloats, np.uint8, np.uint16, _bfloats_portable,
    input_words=2, expand=_bfloats_of(4), is_scaled=True,
)  # fmt: skip
E5M2 = Dot(
    "floats of 8 bits, 5 of exponent", ShorterFloats, np.uint8, np.uint16, _bfloats_portable,
    input_words=2, expand=_bfloats_of(5), is_scaled=True,
)  # fmt: skip

CODED = (NIBBLES, LOOKUPS, SIXES, OCTETS)
"""The forms of codes that are multiplied as whole numbers."""
SCALED = (FLOAT_LOOKUPS, E4M3, E5M2)
"""Those of codes that are multiplied as floats."""
DOTS = {dot.name: dot for dot in (FLOAT_WORDS, BFLOATS, BYTES, *CODED, *SCALED)}
"""Every form of weights that kernels know, by its name."""


def dot_of(kind: Any) -> Dot:
    """Return the dot product of the weights that have this class."""
    return next(dot for dot in DOTS.values() if dot.kind is kind)
