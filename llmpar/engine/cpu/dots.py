"""Dot products of the words of a product, written as LLVM IR for vectors of any width.

A word is 32 bits: several neighbouring inputs of a row, or the weights of one output channel for them. What is here
runs on any processor; `instructions` has what some processors do faster, and `codes_x86` writes that.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any, NamedTuple

import numpy as np

from llmpar.engine.cpu.vector import looked_up, multiply_add, repeated

Emit = Callable[[Any, Any, list[Any], list[Any]], Any]
"""(builder, total, words of inputs, words of weights) → the total, to which each lane's dot product is added.

All but the builder are vectors of equally many words; each lane has the same inputs, and the weights of one channel.
"""
Expand = Callable[[Any, Any, Any], list[Any]]
"""(builder, word of weights, table) → the words of bytes that inputs are multiplied with."""

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
        table: (16,), what the codes of four bits are looked up in.
        zero: float32, what is stored where a code is 0.
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
        expand: makes words of bytes of a word of codes.
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


def _bfloats_portable(builder: Any, total: Any, x: list[Any], w: list[Any]) -> Any:
    """Multiply and add two pairs of bfloat16, as float32."""
    pair = (x[0], w[0])
    low = [builder.bitcast(builder.shl(v, repeated(v, 16)), total.type) for v in pair]
    high = [builder.bitcast(builder.and_(v, repeated(v, -65536)), total.type) for v in pair]
    return multiply_add(builder, high[0], high[1], multiply_add(builder, low[0], low[1], total))


def _floats(builder: Any, total: Any, x: list[Any], w: list[Any]) -> Any:
    return multiply_add(builder, builder.bitcast(x[0], total.type), builder.bitcast(w[0], total.type), total)


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

CODED = (NIBBLES, LOOKUPS, SIXES, OCTETS)
DOTS = {dot.name: dot for dot in (FLOAT_WORDS, BFLOATS, BYTES, *CODED)}
"""Every form of weights that kernels know, by its name."""


def dot_of(kind: Any) -> Dot:
    """Return the dot product of the weights that have this class."""
    return next(dot for dot in DOTS.values() if dot.kind is kind)
