"""How likely tokens are: the logarithm of the sum of e to each logit of a row, computed beside the logits themselves.

A token's log-probability is its logit, less the largest logit, less the logarithm of the sum, in which each logit
counts less the largest. Panels are summed up in groups that are always the same: 16 running sums, relative to the
largest logit of the group so far. So neither who computes a group, nor when, decides a bit of the result.
"""

from __future__ import annotations

from typing import Any

import numpy as np
from llvmlite import ir
from numba import types
from numba.extending import intrinsic

from llmpar.engine.cpu.compiled import inlined
from llmpar.engine.cpu.elementary import HALF, ONE, TWO, ZERO, exp, tanh
from llmpar.engine.cpu.precision import PANEL
from llmpar.engine.cpu.sums import sum_of
from llmpar.engine.cpu.vector import (
    I32,
    ArrayArgument,
    bits_of_float,
    float_of_bits,
    floats,
    fused,
    multiply_add,
    number,
    splat,
)

GROUP = 8
"""Panels that are summed up together."""
LANES = 16
"""Running sums of a group."""
_PARTS = PANEL // LANES
_VECTOR = floats(LANES)
_LOG2_E, _LEAST = 1.4426950216293335, -125.0
_ROUNDER = 12_582_912.0  # 1.5 · 2^23: added and taken away again, it leaves a whole number
# 2^f for f from -1/2 to 1/2, within 3e-6: less work than an exact one, as there is one for each token of a vocabulary.
_POWERS = (0.9999992847442627, 0.6931217908859253, 0.240247443318367, 0.05591785907745361, 0.009570100344717503)
_LOG2_E32, _LN2_HIGH, _LN2_LOW = np.float32(_LOG2_E), np.float32(0.693359375), np.float32(-2.12194440e-4)
_MANTISSA, _ONE_BITS, _BIAS = np.int32(0x7FFFFF), np.int32(0x3F800000), np.int32(127)
_ROOT_2 = np.float32(1.41421356)
_L3, _L5, _L7, _L9 = (np.float32(2 / n) for n in (3, 5, 7, 9))


@inlined
def log(x):
    """Return the natural logarithm of a positive finite float32, to the last bits of float32."""
    bits = bits_of_float(x)
    exponent = (bits >> np.int32(23)) - _BIAS
    mantissa = float_of_bits(np.int32((bits & _MANTISSA) | _ONE_BITS))
    if mantissa > _ROOT_2:
        mantissa = mantissa * HALF
        exponent += np.int32(1)
    # By the series of the inverse hyperbolic tangent.
    ratio = (mantissa - ONE) / (mantissa + ONE)
    square = ratio * ratio
    series = fused(square, fused(square, fused(square, fused(square, _L9, _L7), _L5), _L3), TWO)
    n = np.float32(exponent)
    return fused(n, _LN2_HIGH, fused(ratio, series, n * _LN2_LOW))


@inlined
def bent(x, most):
    """Return a logit within `most` (the softcap of Gemma 2); 0 for no limit."""
    return most * tanh(x / most) if most > ZERO else x


@intrinsic
def _add_powers(_: Any, line: Any, shift: Any, sums: Any, row: Any) -> Any:
    """Add e to each of line[:48], times 2 to the `shift`, to the running sums of a row; each may be 1 at most.

    `line` is an array (48,) of float32, and `sums` one of (B, LANES).
    """

    def generate(context: Any, b: Any, signature: Any, values: Any) -> Any:
        logits, totals = (ArrayArgument(context, b, signature.args[place], values[place]) for place in (0, 2))
        place = totals.pointer(b.mul(values[3], number(4 * LANES)), _VECTOR)
        total = b.load(place, align=4)
        one_shift = splat(b, values[1], _VECTOR)
        for part in range(_PARTS):
            x = logits.at(number(4 * LANES * part), _VECTOR, align=4)
            total = b.fadd(total, _power(b, x, one_shift))
        b.store(total, place, align=4)
        return context.get_dummy_value()

    return types.void(line, types.float32, sums, types.intp), generate


def _power(b: Any, x: Any, shift: Any) -> Any:
    y = multiply_add(b, x, _constant(_LOG2_E), shift)
    y = b.select(b.fcmp_ordered(">", y, _constant(_LEAST)), y, _constant(_LEAST))
    rounded = b.fadd(y, _constant(_ROUNDER))
    f = b.fsub(y, b.fsub(rounded, _constant(_ROUNDER)))
    p = _constant(_POWERS[-1])
    for power in _POWERS[-2::-1]:
        p = multiply_add(b, f, p, _constant(power))
    integers = ir.VectorType(I32, LANES)
    exponent = b.shl(b.bitcast(rounded, integers), ir.Constant(integers, [23] * LANES))
    return b.bitcast(b.add(b.bitcast(p, integers), exponent), _VECTOR)


def _constant(value: float) -> Any:
    return ir.Constant(_VECTOR, [value] * LANES)


@inlined
def add_panel(line, largest, most, room, peaks, sums, row):
    """Add a panel's logits to a group's sums for a row.

    Args:
        line: (PANEL,) float32, of which those that are no logits are so low that they do not count.
        largest: of them.
        most: within what logits are bent; 0 for no limit.
        room: (PANEL,) float32.
        peaks: (B,) the largest logit of each row so far, bent.
        sums: (B, LANES) of e to each logit less that.
        row: whose logits these are.
    """
    if most > ZERO:
        for k in range(len(room)):
            room[k] = bent(line[k], most)
        _add(room, bent(largest, most), peaks, sums, row)
    else:
        _add(line, largest, peaks, sums, row)


@inlined
def _add(line, peak, peaks, sums, row):
    if peak > peaks[row]:
        factor = exp(peaks[row] - peak)
        for k in range(LANES):
            sums[row, k] = sums[row, k] * factor
        peaks[row] = peak
    _add_powers(line, -(peaks[row] * _LOG2_E32), sums, row)


@inlined
def join_groups(peaks, sums, terms):
    """Return the largest logit of a row, and the logarithm of its sum, of the groups' `peaks` and `sums`, each (G,).

    `terms` (G,) is room.
    """
    largest = peaks[0]
    for group in range(len(peaks)):
        largest = max(largest, peaks[group])
    for group in range(len(peaks)):
        terms[group] = sums[group] * exp(peaks[group] - largest)
    return largest, log(sum_of(terms, 0, len(peaks)))
