"""Keys and values in 8 bits each, as parts of Triton kernels: floats with 4 bits of exponent and 3 behind the first.

All numbers of one head of one token are divided by one power of 2, such that the largest of them still is such a float.
So none is ever cut off, whatever a model's keys are like, and no token is rounded by what others are. Powers of 2 lose
nothing, and what is read is exact in bfloat16; how many bits a number keeps is up to itself.
"""

from __future__ import annotations

import triton
import triton.language as tl


@triton.jit
def shorten(numbers):
    """Return rows (R, D) as the bits of such floats, uint8, and the exponents (R,) int8 of what they were divided by.

    NaN and infinity become NaN.
    """
    y = numbers.to(tl.float32)
    top = tl.max(tl.abs(y), 1).to(tl.int32, bitcast=True)
    exponent = (top >> 23) - (127 + 8) + ((top & 0x7FFFFF) > 0x600000).to(tl.int32)  # the largest is 1.75 · 2^8
    exponent = tl.minimum(tl.maximum(exponent, -100), 100)
    y = y * ((127 - exponent) << 23).to(tl.float32, bitcast=True)[:, None]
    is_number = tl.abs(y) <= 448.0
    # Rounded here, to the nearest and to even: not all that can run this convert alike. Below 2^-6 there are multiples
    # of 2^-9.
    bits = y.to(tl.int32, bitcast=True)
    size = bits & 0x7FFFFFFF
    usual = ((size + 0x7FFFF + ((size >> 20) & 1)) >> 20) - ((127 - 7) << 3)
    small = (tl.abs(y) * 512.0 + 8388608.0).to(tl.int32, bitcast=True) & 0xFF
    short = tl.where(tl.abs(y) < 0.015625, small, usual)
    return (tl.where(is_number, short, 0x7F) | ((bits >> 24) & 0x80)).to(tl.uint8), exponent.to(tl.int8)


@triton.jit
def lengthen(short, kind: tl.constexpr):
    """Return bits of such floats, of any shape, as numbers of a longer type."""
    return short.to(tl.float8e4nv, bitcast=True).to(kind)


@triton.jit
def powers(exponents, places, there):
    """Return (T,) float32: by what the numbers at some places are to be multiplied; 1 where there are none."""
    found = tl.load(exponents + places, mask=there, other=0).to(tl.int32)
    return ((found + 127) << 23).to(tl.float32, bitcast=True)
