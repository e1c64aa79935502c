"""Products with weights of few bits, as Triton kernels: codes become 16-bit numbers in registers, right before a dot.

Arrays are contiguous. A matrix of N output channels and K inputs is `codes` (N, W) uint8: with 8 bits a byte for each
input; with 4 bits a block of RUN bytes holds 2 RUN inputs, the first RUN of them in the lower halves. A weight is scale
· (code - ZERO), or scale · table[code], and an offset is added where there are such. Scales and offsets are `values`
(N, G), for groups of GROUP neighbouring inputs, and are multiplied by `units` (N, G / s) where there are such. RUN
divides GROUP, so that a run has one scale.
"""

from __future__ import annotations

import triton
import triton.language as tl

_MANTISSA = tl.constexpr(0x4B000000)  # the bits of 2^23 in float32, to which a whole number below can be or-ed
_POWER = tl.constexpr(8388608.0)


@triton.jit
def _numbers(values, units, rows, is_row, group, num_groups, SHARED: tl.constexpr):
    """Return the scales or offsets of a group in some rows, (BLOCK_N,) float32. SHARED groups have one unit, if any."""
    found = tl.load(values + rows * num_groups + group, mask=is_row, other=0).to(tl.float32)
    if SHARED > 0:
        unit = tl.load(units + rows * (num_groups // SHARED) + group // SHARED, mask=is_row, other=0)
        found = found * unit.to(tl.float32)
    return found


@triton.jit
def _weights(packed, half, run, scales, scale_units, offsets, offset_units, table, rows, is_row, num_groups,
             BITS: tl.constexpr, RUN: tl.constexpr, GROUP: tl.constexpr, ZERO: tl.constexpr,
             SCALES_SHARED: tl.constexpr, OFFSETS_SHARED: tl.constexpr, HAS_OFFSETS: tl.constexpr,
             HAS_TABLE: tl.constexpr):  # fmt: skip
    """Return the weights (BLOCK_N, RUN) float32 of a run of inputs, from the bytes that hold them."""
    code = packed.to(tl.int32)
    if BITS == 4:
        code = (code >> (4 * half)) & 15
    # The bits are faster than a conversion, and exact: the whole numbers are below 2^23.
    whole = (code | _MANTISSA).to(tl.float32, bitcast=True) - (_POWER + ZERO)
    x = tl.load(table + code) if HAS_TABLE else whole
    group = run * RUN // GROUP
    is_there = is_row & (0 * rows + group < num_groups)  # the last block may be longer than the inputs
    x = x * _numbers(scales, scale_units, rows, is_there, group, num_groups, SCALES_SHARED)[:, None]
    if HAS_OFFSETS:
        x = x + _numbers(offsets, offset_units, rows, is_there, group, num_groups, OFFSETS_SHARED)[:, None]
    return x


@triton.jit(do_not_specialize=["num_rows"])
def multiply(x, codes, scales, scale_units, offsets, offset_units, table, bias, out, num_rows, num_outputs,
             num_inputs, width, num_groups, BITS: tl.constexpr, RUN: tl.constexpr, GROUP: tl.constexpr,
             ZERO: tl.constexpr, SCALES_SHARED: tl.constexpr, OFFSETS_SHARED: tl.constexpr, HAS_OFFSETS: tl.constexpr,
             HAS_TABLE: tl.constexpr, HAS_BIAS: tl.constexpr, BLOCK_M: tl.constexpr,
             BLOCK_N: tl.constexpr, PRECISION: tl.constexpr):  # fmt: skip
    """Multiply rows `x` (M, K) with a matrix, `out` (M, N).

    The transposed product is computed, since a tensor core takes its left side from registers. Sums are made in the
    order of the inputs, whatever the blocks.
    """
    HALVES: tl.constexpr = 8 // BITS
    num_m = tl.cdiv(num_rows, BLOCK_M)
    # Programs that follow one another take the same weights.
    m = (tl.program_id(0) % num_m) * BLOCK_M + tl.arange(0, BLOCK_M)
    n = (tl.program_id(0) // num_m) * BLOCK_N + tl.arange(0, BLOCK_N)
    is_row, is_token = n < num_outputs, m < num_rows
    at, k = tl.arange(0, RUN), tl.arange(0, RUN)
    here = codes + n.to(tl.int64)[:, None] * width
    inputs = x + m.to(tl.int64)[None, :] * num_inputs
    total = tl.zeros((BLOCK_N, BLOCK_M), tl.float32)
    for block in range(width // RUN):
        packed = tl.load(here + block * RUN + at[None, :], mask=is_row[:, None], other=0)
        for half in tl.static_range(HALVES):
            run = block * HALVES + half
            w = _weights(packed, half, run, scales, scale_units, offsets, offset_units, table, n, is_row, num_groups,
                         BITS, RUN, GROUP, ZERO, SCALES_SHARED, OFFSETS_SHARED, HAS_OFFSETS, HAS_TABLE)  # fmt: skip
            place = run * RUN + k
            y = tl.load(inputs + place[:, None], mask=is_token[None, :] & (place < num_inputs)[:, None], other=0.0)
            total = tl.dot(w.to(y.dtype), y, total, input_precision=PRECISION)
    target = m.to(tl.int64)[None, :] * num_outputs + n[:, None]
    inside = is_row[:, None] & is_token[None, :]
    if HAS_BIAS:
        total += tl.load(bias + n, mask=is_row, other=0.0).to(tl.float32)[:, None]
    tl.store(out + target, total.to(out.dtype.element_ty), mask=inside)


@triton.jit
def expand(codes, scales, scale_units, offsets, offset_units, table, out, num_outputs, num_inputs, width, num_groups,
           BITS: tl.constexpr, RUN: tl.constexpr, GROUP: tl.constexpr, ZERO: tl.constexpr,
           SCALES_SHARED: tl.constexpr, OFFSETS_SHARED: tl.constexpr, HAS_OFFSETS: tl.constexpr,
           HAS_TABLE: tl.constexpr, BLOCK_N: tl.constexpr):  # fmt: skip
    """Write the weights out, `out` (N, K). A program takes BLOCK_N rows of a block of bytes."""
    HALVES: tl.constexpr = 8 // BITS
    n = tl.program_id(0) * BLOCK_N + tl.arange(0, BLOCK_N)
    block, k = tl.program_id(1), tl.arange(0, RUN)
    is_row = n < num_outputs
    at = codes + n.to(tl.int64)[:, None] * width + block * RUN
    packed = tl.load(at + k[None, :], mask=is_row[:, None], other=0)
    for half in tl.static_range(HALVES):
        run = block * HALVES + half
        w = _weights(packed, half, run, scales, scale_units, offsets, offset_units, table, n, is_row, num_groups,
                     BITS, RUN, GROUP, ZERO, SCALES_SHARED, OFFSETS_SHARED, HAS_OFFSETS, HAS_TABLE)  # fmt: skip
        place = run * RUN + k
        target = out + n.to(tl.int64)[:, None] * num_inputs + place[None, :]
        tl.store(target, w.to(out.dtype.element_ty), mask=is_row[:, None] & (place < num_inputs)[None, :])


@triton.jit
def round_rows(x, rounded, scales, num_inputs, BLOCK: tl.constexpr):
    """Round rows `x` (M, K) to 8-bit floats `rounded` (M, K), of which the largest is 448, by `scales` (M,) float32.

    The scale of a row with NaN or infinity is NaN, so that logits show it.
    """
    row = tl.program_id(0)
    at = tl.arange(0, BLOCK)
    inside = at < num_inputs
    y = tl.load(x + row.to(tl.int64) * num_inputs + at, mask=inside, other=0.0).to(tl.float32)
    largest = tl.max(tl.abs(y), 0)
    scale = tl.where(largest > 0, largest / 448.0, 1.0)
    is_broken = tl.sum(((y != y) | (tl.abs(y) == float("inf"))).to(tl.int32), 0) > 0
    tl.store(scales + row, tl.where(is_broken, float("nan"), scale))
    y = y / scale
    # To the nearest of those with 3 bits behind the first, or of multiples of 2^-9, which the smallest ones are. The
    # conversion then has nothing left to round, and not all that can run this rounds alike.
    bits = y.to(tl.int32, bitcast=True)
    bits = (bits + 0x7FFFF + ((bits >> 20) & 1)) & -0x100000
    y = tl.where(tl.abs(y) < 0.015625, (y + 24576.0) - 24576.0, bits.to(tl.float32, bitcast=True))
    tl.store(rounded + row.to(tl.int64) * num_inputs + at, y.to(rounded.dtype.element_ty), mask=inside)
