"""Dot products of bytes by the instructions of x86 processors, as LLVM IR.

All of them multiply unsigned bytes with signed ones: codes of weights with inputs. Those without VNNI add the products
of two neighbours as int16, where larger ones than 32,767 are cut. How many such sums may be added follows from the
largest code. For codes of eight bits not even one is safe, so the sign of a weight moves to its input there: what is
summed is what weights stand for, not the codes, which are greater by 128.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

from llvmlite import ir

from llmpar.engine.cpu.dots import INPUT_GROUP, NIBBLES, Emit
from llmpar.engine.cpu.vector import I8, I16, flipped, function, in_parts, ints, repeated

_MOST_INPUT, _MOST_SHORT = 127, 32767
# What multiplies bytes and adds neighbours as int16, and what adds two of these as int32.
_AVX2 = ("llvm.x86.avx2.pmadd.ub.sw", "llvm.x86.avx2.pmadd.wd")
_AVX512 = ("llvm.x86.avx512.pmaddubs.w.512", "llvm.x86.avx512.pmaddw.d.512")


def bytes_vnni(builder: Any, total: Any, x: list[Any], w: list[Any]) -> Any:
    """Multiply and add the unsigned bytes of `x` and the signed bytes of `w`, in one instruction for 16 words."""
    dot = function(builder, "llvm.x86.avx512.vpdpbusd.512", ints(16), [ints(16)] * 3)
    for inputs, weights in zip(x, w, strict=True):
        total = builder.call(dot, [total, inputs, weights])
    return total


def bytes_avxvnni(builder: Any, total: Any, x: list[Any], w: list[Any]) -> Any:
    """Multiply and add them likewise, 8 words at once, as processors do that have VNNI and no AVX-512."""
    dot = function(builder, "llvm.x86.avx512.vpdpbusd.256", ints(8), [ints(8)] * 3)
    for pair in zip(x, w, strict=True):
        total = in_parts(builder, 8, lambda *words: builder.call(dot, list(words)), total, *pair)
    return total


def codes_avxvnni(builder: Any, total: Any, x: list[Any], w: list[Any]) -> Any:
    """Multiply and add the signed bytes of `x` and the unsigned bytes of `w` likewise."""
    return bytes_avxvnni(builder, total, w, x)


def codes_vnni(builder: Any, total: Any, x: list[Any], w: list[Any]) -> Any:
    """Multiply and add the signed bytes of `x` and the unsigned bytes of `w` likewise."""
    return bytes_vnni(builder, total, w, x)


def codes_avx512(bits: int) -> Emit:
    """Return what does the same with codes of so many bits, fewer than eight, in pairs of bytes."""
    return lambda builder, total, x, w: _in_pairs(builder, total, x, w, _AVX512, bits)


def codes_avx2(bits: int) -> Emit:
    """Return what does the same on 16 lanes, of which a register has 8."""

    def multiply(builder: Any, total: Any, x: list[Any], w: list[Any]) -> Any:
        return _in_pairs(builder, total, x, w, _AVX2, bits)

    return _on_eights(multiply)


def nibbles_avx512(builder: Any, total: Any, x: list[Any], w: list[Any]) -> Any:
    """Multiply signed bytes of `x` with codes of four bits, and add two products each to an int16.

    A lane of the total has two of these. They have room for the inputs of a group (`dots.INPUT_GROUP`), after which
    `widened_avx512` makes the sums.
    """
    assert INPUT_GROUP // 2 * _MOST_INPUT * ((1 << NIBBLES.bits) - 1) <= _MOST_SHORT
    return _to_shorts(builder, total, x, w, _AVX512)


def widened_avx512(builder: Any, total: Any) -> Any:
    """Return the sums of both int16 of each lane."""
    return _widened(builder, _shorts(builder, total), _AVX512)


def nibbles_avx2(builder: Any, total: Any, x: list[Any], w: list[Any]) -> Any:
    """Do what `nibbles_avx512` does on 16 lanes, of which a register has 8."""
    return _on_eights(lambda builder, total, x, w: _to_shorts(builder, total, x, w, _AVX2))(builder, total, x, w)


def widened_avx2(builder: Any, total: Any) -> Any:
    """Return the sums of both int16 of each lane."""
    return in_parts(builder, 8, lambda part: _widened(builder, _shorts(builder, part), _AVX2), total)


def octets_avx2(builder: Any, total: Any, x: list[Any], w: list[Any]) -> Any:
    """Multiply and add the signed bytes of `x` and those of `w`, which are stored with 128 added, on 16 lanes.

    Those of `x` are -127 at least.
    """
    return _on_eights(lambda builder, total, x, w: _by_sign(builder, total, x, flipped(builder, w)))(
        builder, total, x, w
    )


def bytes_avx2(builder: Any, total: Any, x: list[Any], w: list[Any]) -> Any:
    """Multiply and add the bytes of `x`, which are stored with 128 added, and the signed bytes of `w`, on 16 lanes.

    Those of `w` are -127 at least.
    """
    return _on_eights(lambda builder, total, x, w: _by_sign(builder, total, w, flipped(builder, x)))(
        builder, total, x, w
    )


def _by_sign(builder: Any, total: Any, moved: list[Any], sizes: list[Any]) -> Any:
    """Multiply and add signed bytes: those of `sizes`, which may be -128, give their signs to those of `moved`."""
    bytes_ = ir.VectorType(I8, 4 * total.type.count)
    sign = function(builder, "llvm.x86.avx2.psign.b", bytes_, [bytes_] * 2)
    for pair in zip(moved, sizes, strict=True):
        signed, size = (builder.bitcast(word, bytes_) for word in pair)
        # Taken as unsigned, -(-128) is 128. Two products of 128 and 127 are not cut.
        parts = [builder.bitcast(builder.call(sign, [one, size]), total.type) for one in (signed, size)]
        total = _in_pairs(builder, total, parts[:1], parts[1:], _AVX2, 8)
    return total


def _on_eights(multiply: Callable[[Any, Any, list[Any], list[Any]], Any]) -> Emit:
    def emit(builder: Any, total: Any, x: list[Any], w: list[Any]) -> Any:
        def part(total: Any, *words: Any) -> Any:
            return multiply(builder, total, list(words[: len(x)]), list(words[len(x) :]))

        return in_parts(builder, 8, part, total, *x, *w)

    return emit


def _in_pairs(builder: Any, total: Any, x: list[Any], w: list[Any], names: tuple[str, str], bits: int) -> Any:
    """Add products of bytes in pairs as int16, as many of these as fit, and those in pairs as int32."""
    together = max(1, _MOST_SHORT // (2 * _MOST_INPUT * ((1 << bits) - 1)))
    pairs = [_multiplied(builder, *pair, names) for pair in zip(x, w, strict=True)]
    for first in range(0, len(pairs), together):
        found = pairs[first]
        for pair in pairs[first + 1 : first + together]:
            found = builder.add(found, pair)
        total = builder.add(total, _widened(builder, found, names))
    return total


def _to_shorts(builder: Any, total: Any, x: list[Any], w: list[Any], names: tuple[str, str]) -> Any:
    """Add products of bytes in pairs to the int16 that lie in the words of the total."""
    found = _shorts(builder, total)
    for pair in zip(x, w, strict=True):
        found = builder.add(found, _multiplied(builder, *pair, names))
    return builder.bitcast(found, total.type)


def _multiplied(builder: Any, inputs: Any, codes: Any, names: tuple[str, str]) -> Any:
    """Return the products of bytes, each two neighbours added as int16."""
    bytes_, shorts = (ir.VectorType(type_, count * inputs.type.count) for type_, count in ((I8, 4), (I16, 2)))
    multiply = function(builder, names[0], shorts, [bytes_] * 2)
    return builder.call(multiply, [builder.bitcast(codes, bytes_), builder.bitcast(inputs, bytes_)])


def _shorts(builder: Any, words: Any) -> Any:
    return builder.bitcast(words, ir.VectorType(I16, 2 * words.type.count))


def _widened(builder: Any, shorts: Any, names: tuple[str, str]) -> Any:
    """Return neighbouring int16 added as int32."""
    add_pairs = function(builder, names[1], ints(shorts.type.count // 2), [shorts.type] * 2)
    return builder.call(add_pairs, [shorts, repeated(shorts, 1)])


def bfloats_avx512(builder: Any, total: Any, x: list[Any], w: list[Any]) -> Any:
    """Multiply and add pairs of bfloat16, two in one instruction, on 16 lanes; it rounds otherwise."""
    # Declared as up to LLVM 15; later ones know the old types and turn them into theirs.
    name = "llvm.x86.avx512bf16.dpbf16ps.512"
    dot = function(builder, name, total.type, [total.type, ints(16), ints(16)])
    for inputs, weights in zip(x, w, strict=True):
        total = builder.call(dot, [total, inputs, weights])
    return total
