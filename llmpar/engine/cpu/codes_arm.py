"""Dot products by the instructions of ARM processors, as LLVM IR: bytes with dotprod, pairs of bfloat16 with bf16.

A register has four words, so a vector of 16 is computed in four parts. SDOT multiplies signed bytes with signed ones
and cuts nothing. Bytes that are stored with 128 added have their highest bit flipped before, and are then what they
stand for. `matrices_arm` has what multiplies two rows at once.

Source: Arm Architecture Reference Manual for A-profile, C7.2 (SDOT, BFDOT).
"""

from __future__ import annotations

from typing import Any

from llvmlite import ir

from llmpar.engine.cpu.vector import I8, flipped, floats, function, in_parts, ints

WORDS = 4
"""Words of a register."""
SIXTEEN_BYTES = ir.VectorType(I8, 16)
"""The type of a register of bytes."""


def codes_dotprod(builder: Any, total: Any, x: list[Any], w: list[Any]) -> Any:
    """Multiply and add the signed bytes of `x` and those of `w`, codes below 128, on 16 lanes."""
    return _dot(builder, "llvm.aarch64.neon.sdot.v4i32.v16i8", total, x, w)


def octets_dotprod(builder: Any, total: Any, x: list[Any], w: list[Any]) -> Any:
    """Multiply and add the signed bytes of `x` and those of `w`, which are stored with 128 added, on 16 lanes."""
    return codes_dotprod(builder, total, x, flipped(builder, w))


def bytes_dotprod(builder: Any, total: Any, x: list[Any], w: list[Any]) -> Any:
    """Multiply and add the bytes of `x`, which are stored with 128 added, and the signed bytes of `w`, on 16 lanes."""
    return codes_dotprod(builder, total, flipped(builder, x), w)


def bfloats_bfdot(builder: Any, total: Any, x: list[Any], w: list[Any]) -> Any:
    """Multiply and add pairs of bfloat16 on 16 lanes; it rounds otherwise than the portable way."""
    # Declared as up to LLVM 14; later ones know the old types and turn them into theirs.
    return _dot(builder, "llvm.aarch64.neon.bfdot.v4f32.v16i8", total, x, w)


def _dot(builder: Any, name: str, total: Any, x: list[Any], w: list[Any]) -> Any:
    sums = (ints if total.type.element == ir.IntType(32) else floats)(WORDS)
    dot = function(builder, name, sums, [sums, SIXTEEN_BYTES, SIXTEEN_BYTES])

    def add(total: Any, inputs: Any, weights: Any) -> Any:
        return builder.call(dot, [total, *(builder.bitcast(each, SIXTEEN_BYTES) for each in (inputs, weights))])

    for pair in zip(x, w, strict=True):
        total = in_parts(builder, WORDS, add, total, *pair)
    return total
