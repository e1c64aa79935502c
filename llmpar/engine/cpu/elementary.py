"""What kernels compute of single numbers and rows: exponentials, and the norm of a row; the same on every processor."""

from __future__ import annotations

from typing import Any

import numpy as np
from llvmlite import ir
from numba import types
from numba.extending import intrinsic

from llmpar.engine.cpu.compiled import inlined
from llmpar.engine.cpu.sums import sum_of_squares
from llmpar.engine.cpu.vector import I32, function, ints

# Python's numbers would make these sums float64.
ZERO, HALF, ONE, TWO = (np.float32(x) for x in (0, 0.5, 1, 2))
_LOG2_E, _LN2_HIGH, _LN2_LOW = (float(np.float32(x)) for x in (1.44269504, 0.693359375, -2.12194440e-4))
_LEAST, _MOST = -87.0, 88.0
_SERIES = tuple(float(np.float32(1 / n)) for n in (5040, 720, 120, 24, 6, 2, 1, 1))  # by its last term first


def exponential(b: Any, x: Any) -> Any:
    """Return e to the x, to the last bit or two of float32: to that of one number, or of each in a vector."""
    count = x.type.count if isinstance(x.type, ir.VectorType) else 0
    integers, name = (ints(count), f"v{count}f32") if count else (I32, "f32")

    def constant(value: Any, type_: Any = x.type) -> Any:
        return ir.Constant(type_, [value] * count if count else value)

    def fused(x: Any, y: Any, total: Any) -> Any:
        return b.call(function(b, f"llvm.fma.{name}", x.type, [x.type] * 3), [x, y, total])

    x = b.select(b.fcmp_ordered(">", x, constant(_LEAST)), x, constant(_LEAST))
    x = b.select(b.fcmp_ordered("<", x, constant(_MOST)), x, constant(_MOST))
    n = b.call(function(b, f"llvm.rint.{name}", x.type, [x.type]), [b.fmul(x, constant(_LOG2_E))])
    r = fused(n, constant(-_LN2_LOW), fused(n, constant(-_LN2_HIGH), x))
    series = constant(_SERIES[0])
    for term in _SERIES[1:]:
        series = fused(r, series, constant(term))
    power = b.shl(b.add(b.fptosi(n, integers), constant(127, integers)), constant(23, integers))
    return b.fmul(series, b.bitcast(power, x.type))


@intrinsic
def exp(_: Any, x: Any) -> Any:
    """Return e to the x (see `exponential`); plain arithmetic, so that LLVM computes 16 at once in a loop."""
    return types.float32(types.float32), lambda context, b, signature, values: exponential(b, values[0])


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
