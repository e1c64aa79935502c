"""What kernels compute of single numbers and rows: exponentials, and the norm of a row; the same on every processor."""

from __future__ import annotations

import numpy as np

from llmpar.engine.cpu.compiled import inlined
from llmpar.engine.cpu.sums import sum_of_squares
from llmpar.engine.cpu.vector import float_of_bits, fused, nearest

# Python's numbers would make these sums float64.
ZERO, HALF, ONE, TWO = (np.float32(x) for x in (0, 0.5, 1, 2))
_LOG2_E, _LN2_HIGH, _LN2_LOW = np.float32(1.44269504), np.float32(0.693359375), np.float32(-2.12194440e-4)
_LEAST, _MOST = np.float32(-87), np.float32(88)
_E3, _E4, _E5, _E6, _E7 = (np.float32(1 / n) for n in (6, 24, 120, 720, 5040))


@inlined
def exp(x):
    """Return e to the x, to the last bit or two of float32; plain arithmetic, so that LLVM computes 16 at once."""
    x = min(max(x, _LEAST), _MOST)
    n = nearest(x * _LOG2_E)
    r = fused(n, -_LN2_LOW, fused(n, -_LN2_HIGH, x))
    series = fused(r, fused(r, fused(r, fused(r, fused(r, fused(r, _E7, _E6), _E5), _E4), _E3), HALF), ONE)
    series = fused(r, series, ONE)
    return series * float_of_bits(np.int32(np.int32(n) + np.int32(127)) << np.int32(23))


@inlined
def tanh(x):
    """Return the hyperbolic tangent, by `exp`."""
    return ONE - TWO / (exp(TWO * x) + ONE)


@inlined
def row_norm(x, start, length, weight, epsilon, out):
    """Set out[:length] to the root mean square norm of x[start : start + length] (Zhang & Sennrich 2019)."""
    total = sum_of_squares(x, start, length)
    factor = ONE / np.sqrt(total / np.float32(length) + epsilon)
    for k in range(length):
        out[k] = x[start + k] * factor * weight[k]
