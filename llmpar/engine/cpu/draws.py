"""Tokens drawn from logits: which token a random number between 0 and 1 falls on, of a softmax at a temperature.

Chances are added up in blocks that are always the same, in float64, and in the vocabulary's order. So every processor
draws the same from the same logits. It is what `sampler.draw` finds, unless the number falls between two roundings of
one sum.
"""

from __future__ import annotations

from typing import Any

import numpy as np
from llvmlite import ir
from numba import types
from numba.extending import intrinsic

from llmpar.engine.cpu.compiled import inlined, kernel
from llmpar.engine.cpu.team import part, share
from llmpar.engine.cpu.vector import I64, function

_BLOCK, _LANES = 512, 8  # tokens whose chances are one sum, and running sums of it
_F64 = ir.DoubleType()
_LEAST = -700.0  # below, a chance is none
_LOG2_E, _LN2_HIGH, _LN2_LOW = 1.4426950408889634, 0.6931471803691238, 1.9082149292705877e-10
_SERIES = tuple(1 / n for n in (
    6227020800, 479001600, 39916800, 3628800, 362880, 40320, 5040, 720, 120, 24, 6, 2, 1, 1,
))  # fmt: skip
_ROUNDER = 6_755_399_441_055_744.0  # 1.5 · 2^52: added and taken away again, it leaves a whole number


@intrinsic
def _power(_: Any, x: Any) -> Any:
    """Return e to the x, to the last bit or two of float64; 0 for less than _LEAST, 1 for more than 0.

    It is plain arithmetic, so that LLVM computes several at once in a loop, the same on every processor.
    """

    def generate(_: Any, b: Any, __: Any, values: Any) -> Any:
        def constant(value: float) -> Any:
            return ir.Constant(_F64, value)

        def fused(x: Any, y: Any, total: Any) -> Any:
            return b.call(function(b, "llvm.fma.f64", _F64, [_F64] * 3), [x, y, total])

        is_some = b.fcmp_ordered(">", values[0], constant(_LEAST))
        x = b.select(is_some, values[0], constant(_LEAST))
        x = b.select(b.fcmp_ordered("<", x, constant(0.0)), x, constant(0.0))
        rounded = b.fadd(b.fmul(x, constant(_LOG2_E)), constant(_ROUNDER))
        n = b.fsub(rounded, constant(_ROUNDER))
        r = fused(n, constant(-_LN2_LOW), fused(n, constant(-_LN2_HIGH), x))
        series = constant(_SERIES[0])
        for term in _SERIES[1:]:
            series = fused(r, series, constant(term))
        exponent = b.shl(b.bitcast(rounded, I64), ir.Constant(I64, 52))
        power = b.bitcast(b.add(b.bitcast(series, I64), exponent), _F64)
        return b.select(is_some, power, constant(0.0))

    return types.float64(types.float64), generate


@kernel
def draw(seat, logits, places, peaks, temperatures, uniforms, ids):
    """Set ids (R,) to the tokens that are drawn from rows of logits.

    Args:
        seat: where others may help (see `team.Seat`).
        logits: (B, V) float32, none of them NaN.
        places: (R,) which rows of them.
        peaks: (R,) float32, the largest of each of these rows, which is finite.
        temperatures: (R,) float64, each above 0, however little.
        uniforms: (R,) float64, random numbers from 0 up to 1, which is none of them.
        ids: (R,) int64.
    """
    if share(seat, len(ids), 1, _draw_some, (logits, places, peaks, temperatures, uniforms, ids)):
        raise MemoryError


@part
def _draw_some(begin, end, logits, places, peaks, temperatures, uniforms, ids):
    vocabulary = logits.shape[1]
    num_blocks = (vocabulary + _BLOCK - 1) // _BLOCK
    sums, chances, lanes = np.empty(num_blocks), np.zeros(_BLOCK), np.empty(_LANES)
    for row in range(begin, end):
        line, peak, temperature = logits[places[row]], np.float64(peaks[row]), temperatures[row]
        total = 0.0
        for block in range(num_blocks):
            _set_chances(line, block * _BLOCK, peak, temperature, chances)
            lanes[:] = 0.0
            for k in range(0, _BLOCK, _LANES):
                for lane in range(_LANES):
                    lanes[lane] += chances[k + lane]
            for lane in range(_LANES):
                total += lanes[lane]
            sums[block] = total
        point = total * uniforms[row]
        # Where rounding leaves nothing above the point, the last token that has a chance is drawn.
        found = num_blocks - 1
        for block in range(num_blocks):
            if sums[block] > point or sums[block] == total:
                found = block
                break
        _set_chances(line, found * _BLOCK, peak, temperature, chances)
        below = sums[found - 1] if found else 0.0
        for k in range(_BLOCK):
            if chances[k] > 0:
                ids[row] = found * _BLOCK + k
                below += chances[k]
                if below > point:
                    break


@inlined
def _set_chances(line, begin, peak, temperature, chances):
    """Set `chances` to those of a block of tokens, to 0 behind the vocabulary's end; the likeliest has 1."""
    count = min(len(chances), len(line) - begin)
    for k in range(count):
        chances[k] = _power((np.float64(line[begin + k]) - peak) / temperature)
    for k in range(count, len(chances)):
        chances[k] = 0.0
