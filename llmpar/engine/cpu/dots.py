"""Dot products of the words of a product, written as LLVM IR for vectors of any width.

A word is 32 bits: several neighbouring inputs of a row, or the weights of one output channel for them. What is here
runs on any processor; `instructions` has what some processors do faster.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

from llmpar.engine.cpu.vector import floats, function, ints, multiply_add, repeated

Emit = Callable[[Any, Any, list[Any], Any], Any]
"""(builder, total, words of inputs, word of weights) → the total, to which each lane's dot product is added.

All but the builder are vectors of equally many words; each lane has the same inputs, and the weights of one channel.
"""


@dataclass(frozen=True, slots=True)
class Dot:
    """The dot product of one kind of words.

    `portable` works on any processor. `is_integer` tells whether sums are int32, which need scales; else they are
    float32. `input_words` is how many words of inputs one word of weights is multiplied with: more than one where
    weights are shorter than inputs.
    """

    portable: Emit
    is_integer: bool = False
    input_words: int = 1


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


BYTES = Dot(_bytes_portable, is_integer=True)
BFLOATS = Dot(_bfloats_portable)
FLOAT_WORDS = Dot(_floats)
