"""Products of two rows with two channels by ARM's matrix instructions, as LLVM IR.

Bytes come with i8mm, pairs of bfloat16 with bf16.

Such an instruction takes eight bytes, or four bfloat16, of each row and each channel: two neighbouring words of each.
Packed weights hold one word of all channels, then the next (see `dots.Weights`), so the words of two channels are put
side by side in registers; that is done once for all rows of a tile. The sums of two rows lie in squares: of channels 0
and 1 the first row's, then the second row's; then of channels 2 and 3.

SMMLA is exact, as SDOT is. BFMMLA adds two pairs of products one after the other, rounded as two BFDOT round them. So a
row's sums are the same bits as alone.

Source: Arm Architecture Reference Manual for A-profile, C7.2 (SMMLA, BFMMLA).
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

from llvmlite import ir

from llmpar.engine.cpu.codes_arm import SIXTEEN_BYTES, WORDS
from llmpar.engine.cpu.vector import I32, flipped, floats, function, ints

EmitSquares = Callable[[Any, tuple[Any, Any], Any, Any, Any], tuple[Any, Any]]
"""(builder, sums, inputs, word of weights, the next word) → the sums, to which each square's products are added.

Sums are two vectors of 16 lanes (see `in_squares`); inputs are one of 4 words, two of the first row and then two of the
second; weights are vectors of 16 words.
"""

_SQUARES = 4  # in a vector of 16 lanes


def in_squares(b: Any, first: Any, second: Any) -> tuple[Any, Any]:
    """Return the sums of two rows, vectors of 16 lanes, as two vectors of squares."""
    lanes = [[2 * square, 2 * square + 1, 16 + 2 * square, 17 + 2 * square] for square in range(2 * _SQUARES)]
    return _chosen(b, first, second, lanes[:_SQUARES]), _chosen(b, first, second, lanes[_SQUARES:])


def in_rows(b: Any, low: Any, high: Any) -> tuple[Any, Any]:
    """Undo `in_squares`."""
    first = [[4 * square, 4 * square + 1] for square in range(2 * _SQUARES)]
    return _chosen(b, low, high, first), _chosen(b, low, high, [[lane + 2 for lane in pair] for pair in first])


def codes_i8mm(b: Any, sums: tuple[Any, Any], x: Any, w: Any, after: Any) -> tuple[Any, Any]:
    """Multiply and add signed bytes of inputs and those of weights, codes below 128."""
    return _squares(b, "llvm.aarch64.neon.smmla.v4i32.v16i8", sums, x, w, after)


def octets_i8mm(b: Any, sums: tuple[Any, Any], x: Any, w: Any, after: Any) -> tuple[Any, Any]:
    """Multiply and add signed bytes of inputs and those of weights, which are stored with 128 added."""
    signed, signed_after = flipped(b, [w, after])
    return codes_i8mm(b, sums, x, signed, signed_after)


def bytes_i8mm(b: Any, sums: tuple[Any, Any], x: Any, w: Any, after: Any) -> tuple[Any, Any]:
    """Multiply and add bytes of inputs, which are stored with 128 added, and signed ones of weights."""
    return codes_i8mm(b, sums, flipped(b, [x])[0], w, after)


def bfloats_bfmmla(b: Any, sums: tuple[Any, Any], x: Any, w: Any, after: Any) -> tuple[Any, Any]:
    """Multiply and add pairs of bfloat16."""
    # Declared as up to LLVM 14; later ones know the old types and turn them into theirs.
    return _squares(b, "llvm.aarch64.neon.bfmmla.v4f32.v16i8", sums, x, w, after)


def _squares(b: Any, name: str, sums: tuple[Any, Any], x: Any, w: Any, after: Any) -> tuple[Any, Any]:
    four = (ints if sums[0].type.element == I32 else floats)(WORDS)
    multiply = function(b, name, four, [four, SIXTEEN_BYTES, SIXTEEN_BYTES])
    inputs = b.bitcast(x, SIXTEEN_BYTES)
    found = []
    for vector, total in enumerate(sums):
        parts = []
        for square in range(_SQUARES):
            channel = 2 * (_SQUARES * vector + square)
            weights = _chosen(b, w, after, [[channel, 16 + channel, channel + 1, 17 + channel]])
            lanes = list(range(WORDS * square, WORDS * (square + 1)))
            part = _chosen(b, total, total, [lanes])
            parts.append(b.call(multiply, [part, inputs, b.bitcast(weights, SIXTEEN_BYTES)]))
        halves = [_chosen(b, parts[first], parts[first + 1], [list(range(2 * WORDS))]) for first in (0, 2)]
        found.append(_chosen(b, halves[0], halves[1], [list(range(4 * WORDS))]))
    return found[0], found[1]


def _chosen(b: Any, first: Any, second: Any, lanes: list[list[int]]) -> Any:
    """Return those lanes of two vectors, those of the second counted on."""
    flat = [lane for some in lanes for lane in some]
    return b.shuffle_vector(first, second, ir.Constant(ints(len(flat)), flat))
