"""Dot products of the words of a product, written as LLVM IR for vectors of any width.

A word is 32 bits: several neighbouring inputs of a row, or the weights of one output channel for them. What is here
runs on any processor; `instructions` has what some processors do faster.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

from llvmlite import ir

from llmpar.engine.cpu.vector import I8, I16, floats, function, ints, multiply_add, repeated

Emit = Callable[[Any, Any, list[Any], Any], Any]
"""(builder, total, words of inputs, word of weights) → the total, to which each lane's dot product is added.

All but the builder are vectors of equally many words; each lane has the same inputs, and the weights of one channel.
"""


@dataclass(frozen=True, slots=True)
class Dot:
    """The dot product of one kind of words.

    `portable` works on any processor. `is_integer` tells whether sums are int32, which need scales; else they are
    float32. `input_words` is how many words of inputs one word of weights is multiplied with: more than one where
    weights are shorter than inputs. `offset` is what stored weights are greater by than what they stand for; rows of
    inputs then have the sum of each group beside its scale, and that undoes it.
    """

    portable: Emit
    is_integer: bool = False
    input_words: int = 1
    offset: int = 0

    @property
    def numbers_per_group(self) -> int:
        """How many numbers of float32 tell about each group of a row of inputs: a scale, and a sum if it is needed."""
        return 2 if self.offset else 1


def _bytes_portable(builder: Any, total: Any, x: list[Any], w: Any) -> Any:
    """Multiply and add the four unsigned bytes of `x` and the four signed bytes of `w`."""
    for byte in range(4):
        left = builder.and_(builder.lshr(x[0], repeated(w, 8 * byte)), repeated(w, 255))
        right = builder.ashr(builder.shl(w, repeated(w, 24 - 8 * byte)), repeated(w, 24))
        total = builder.add(total, builder.mul(left, right))
    return total


def bytes_avx512(builder: Any, total: Any, x: list[Any], w: Any) -> Any:
    """Do the same in one instruction, on 16 lanes."""
    dot = function(builder, "llvm.x86.avx512.vpdpbusd.512", ints(16), [ints(16)] * 3)
    return builder.call(dot, [total, x[0], w])


def _halves(builder: Any, w: Any) -> tuple[Any, Any]:
    """Return the lower and the upper half of each byte, as bytes."""
    ones = repeated(w, 0x0F0F0F0F)
    return builder.and_(w, ones), builder.and_(builder.lshr(w, repeated(w, 4)), ones)


def _nibbles_portable(builder: Any, total: Any, x: list[Any], w: Any) -> Any:
    """Multiply and add eight signed bytes of `x` and the unsigned halves of four bytes of `w`, the lower four first."""
    for inputs, weights in zip(x, _halves(builder, w), strict=True):
        for byte in range(4):
            left = builder.ashr(builder.shl(inputs, repeated(w, 24 - 8 * byte)), repeated(w, 24))
            right = builder.and_(builder.lshr(weights, repeated(w, 8 * byte)), repeated(w, 15))
            total = builder.add(total, builder.mul(left, right))
    return total


def nibbles_vnni(builder: Any, total: Any, x: list[Any], w: Any) -> Any:
    """Do the same in two instructions for products, on 16 lanes."""
    for inputs, weights in zip(x, _halves(builder, w), strict=True):
        total = bytes_avx512(builder, total, [weights], inputs)  # it takes unsigned bytes first
    return total


def nibbles_avx512(builder: Any, total: Any, x: list[Any], w: Any) -> Any:
    """Do the same on 16 lanes of a processor that multiplies pairs of bytes."""
    return _nibbles_in_pairs(builder, total, x, w, ("llvm.x86.avx512.pmaddubs.w.512", "llvm.x86.avx512.pmaddw.d.512"))


def nibbles_avx2(builder: Any, total: Any, x: list[Any], w: Any) -> Any:
    """Do the same on 16 lanes, of which a register has 8."""
    names = ("llvm.x86.avx2.pmadd.ub.sw", "llvm.x86.avx2.pmadd.wd")

    def part(vector: Any, lanes: range) -> Any:
        chosen = ir.Constant(ints(len(lanes)), list(lanes))
        return builder.shuffle_vector(vector, ir.Constant(vector.type, ir.Undefined), chosen)

    found = [
        _nibbles_in_pairs(builder, part(total, lanes), [part(inputs, lanes) for inputs in x], part(w, lanes), names)
        for lanes in (range(8), range(8, 16))
    ]
    return builder.shuffle_vector(*found, ir.Constant(ints(16), list(range(16))))


def _nibbles_in_pairs(builder: Any, total: Any, x: list[Any], w: Any, names: tuple[str, str]) -> Any:
    """Add products of bytes in pairs as int16, of which four are within 7,620, and these in pairs as int32."""
    lanes = w.type.count
    bytes_, shorts = ir.VectorType(I8, 4 * lanes), ir.VectorType(I16, 2 * lanes)
    multiply = function(builder, names[0], shorts, [bytes_] * 2)
    add_pairs = function(builder, names[1], w.type, [shorts] * 2)
    pairs = [
        builder.call(multiply, [builder.bitcast(weights, bytes_), builder.bitcast(inputs, bytes_)])
        for inputs, weights in zip(x, _halves(builder, w), strict=True)
    ]
    ones = ir.Constant(shorts, [1] * (2 * lanes))
    return builder.add(total, builder.call(add_pairs, [builder.add(*pairs), ones]))


def _bfloats_portable(builder: Any, total: Any, x: list[Any], w: Any) -> Any:
    """Multiply and add two pairs of bfloat16, as float32."""
    low = [builder.bitcast(builder.shl(v, repeated(w, 16)), total.type) for v in (x[0], w)]
    high = [builder.bitcast(builder.and_(v, repeated(w, -65536)), total.type) for v in (x[0], w)]
    return multiply_add(builder, high[0], high[1], multiply_add(builder, low[0], low[1], total))


def bfloats_avx512(builder: Any, total: Any, x: list[Any], w: Any) -> Any:
    """Do the same in one instruction, on 16 lanes; it rounds otherwise."""
    # Declared as up to LLVM 15; later ones know the old types and turn them into theirs.
    dot = function(builder, "llvm.x86.avx512bf16.dpbf16ps.512", floats(16), [floats(16), ints(16), ints(16)])
    return builder.call(dot, [total, x[0], w])


def _floats(builder: Any, total: Any, x: list[Any], w: Any) -> Any:
    return multiply_add(builder, builder.bitcast(x[0], total.type), builder.bitcast(w, total.type), total)


NIBBLES = Dot(_nibbles_portable, is_integer=True, input_words=2, offset=8)
BYTES = Dot(_bytes_portable, is_integer=True)
BFLOATS = Dot(_bfloats_portable)
FLOAT_WORDS = Dot(_floats)
