"""Dot products of the words of a product, in the best instructions that this processor has. Written as LLVM IR.

A word is 32 bits: several neighbouring inputs of a row, or the weights of one output channel for them. To use a new
instruction set, add a function here, and a line in the `instructions` of the dot product that it computes.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

from llvmlite import ir

from llmpar.engine.cpu.vector import FLOATS, HOST, INTS, LANES, function, multiply_add

Emit = Callable[[Any, Any, list[Any], Any], Any]
"""(builder, total, words of inputs, word of weights) → the total, to which each lane's dot product is added.

All but the builder are vectors of LANES words; each lane has the same inputs, and the weights of one channel.
"""


@dataclass(frozen=True, slots=True)
class Dot:
    """The dot product of one kind of words.

    `portable` works on any processor. `instructions` are faster ones, each under LLVM's name of the feature that a
    processor must have, the best first. `tile` is AMX's instruction for the same, None if it has none. `is_integer`
    tells whether sums are int32, which need scales; else they are float32. `input_words` is how many words of inputs
    one word of weights is multiplied with: more than one where weights are shorter than inputs.
    """

    portable: Emit
    instructions: tuple[tuple[str, Emit], ...] = ()
    tile: str | None = None
    is_integer: bool = False
    input_words: int = 1

    @property
    def is_native(self) -> bool:
        """Whether this processor has an instruction for it, or none has and the portable way is as good."""
        return not self.instructions or any(HOST.get(feature, False) for feature, _ in self.instructions)

    @property
    def emit(self) -> Emit:
        """The best way that this processor has."""
        return next((emit for feature, emit in self.instructions if HOST.get(feature, False)), self.portable)

    @property
    def sums(self) -> Any:
        """The type of a vector of sums."""
        return INTS if self.is_integer else FLOATS


def _bytes_portable(builder: Any, total: Any, x: list[Any], w: Any) -> Any:
    """Multiply and add the four unsigned bytes of `x` and the four signed bytes of `w`."""
    for byte in range(4):
        shift = ir.Constant(INTS, [8 * byte] * LANES)
        left = builder.and_(builder.lshr(x[0], shift), ir.Constant(INTS, [255] * LANES))
        up = ir.Constant(INTS, [24 - 8 * byte] * LANES)
        right = builder.ashr(builder.shl(w, up), ir.Constant(INTS, [24] * LANES))
        total = builder.add(total, builder.mul(left, right))
    return total


def _bytes_avx512(builder: Any, total: Any, x: list[Any], w: Any) -> Any:
    dot = function(builder, "llvm.x86.avx512.vpdpbusd.512", INTS, [INTS] * 3)
    return builder.call(dot, [total, x[0], w])


def _bfloats_portable(builder: Any, total: Any, x: list[Any], w: Any) -> Any:
    """Multiply and add two pairs of bfloat16, as float32."""
    shift, mask = ir.Constant(INTS, [16] * LANES), ir.Constant(INTS, [-65536] * LANES)
    low = [builder.bitcast(builder.shl(v, shift), FLOATS) for v in (x[0], w)]
    high = [builder.bitcast(builder.and_(v, mask), FLOATS) for v in (x[0], w)]
    return multiply_add(builder, high[0], high[1], multiply_add(builder, low[0], low[1], total))


def _bfloats_avx512(builder: Any, total: Any, x: list[Any], w: Any) -> Any:
    # Declared as up to LLVM 15; later ones know the old types and turn them into theirs.
    dot = function(builder, "llvm.x86.avx512bf16.dpbf16ps.512", FLOATS, [FLOATS, INTS, INTS])
    return builder.call(dot, [total, x[0], w])


def _floats(builder: Any, total: Any, x: list[Any], w: Any) -> Any:
    return multiply_add(builder, builder.bitcast(x[0], FLOATS), builder.bitcast(w, FLOATS), total)


BYTES = Dot(_bytes_portable, (("avx512vnni", _bytes_avx512),), tile="tdpbusd", is_integer=True)
BFLOATS = Dot(_bfloats_portable, (("avx512bf16", _bfloats_avx512),), tile="tdpbf16ps")
FLOAT_WORDS = Dot(_floats)
