"""How gates are activated, as a part of Triton kernels."""

from __future__ import annotations

import triton
import triton.language as tl


@triton.jit
def activated(g, GELU: tl.constexpr):
    """Return gates of any shape, activated: SiLU, or GELU by its approximation with tanh (Hendrycks & Gimpel 2016)."""
    if GELU:
        inner = 0.7978845608028654 * (g + 0.044715 * g * g * g)
        g = g / (1.0 + tl.exp(-2.0 * inner))
    else:
        g = g / (1.0 + tl.exp(-g))
    return g
