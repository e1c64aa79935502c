"""Mixtures of experts, as Triton kernels: which experts take a row, rows in the order of experts, products, sums.

There are E experts. Each of N rows (N, H) is taken by K of them, and pair p is row p // K with its expert number p % K.
Nothing here is waited for by the host: the number of blocks is a bound that follows from N, and those without rows end.
Blocks hold rows of one expert each, as in MegaBlocks (Gale et al. 2022). The transposed product is computed, as in
`codes_kernels`, so that sums are made in one order whatever the blocks.
"""

from __future__ import annotations

import triton
import triton.language as tl

from llmpar.engine.cuda.activation_kernels import activated


@triton.jit
def route(scores, chosen, shares, num_experts, K: tl.constexpr, KP: tl.constexpr, IS_NORMED: tl.constexpr,
          BLOCK: tl.constexpr):  # fmt: skip
    """Choose the K likeliest experts of each row by `scores` (N, E): `chosen` (N, K) int32, `shares` (N, K) float32.

    Shares are those of a softmax over all experts; if IS_NORMED, a row's make up 1. Of equals the first is taken.
    """
    row = tl.program_id(0).to(tl.int64)
    e = tl.arange(0, BLOCK)
    x = tl.load(scores + row * num_experts + e, mask=e < num_experts, other=float("-inf")).to(tl.float32)
    x = tl.exp(x - tl.max(x, 0))
    x = x / tl.sum(x, 0)
    is_broken = tl.sum((x != x).to(tl.int32), 0) > 0
    left = tl.where((e < num_experts) & (x == x), x, -1.0)
    k = tl.arange(0, KP)
    best, share = tl.zeros((KP,), tl.int32), tl.zeros((KP,), tl.float32)
    for number in tl.static_range(K):
        largest = tl.max(left, 0)
        first = tl.min(tl.where(left == largest, e, BLOCK), 0)
        left = tl.where(e == first, -2.0, left)
        best, share = tl.where(k == number, first, best), tl.where(k == number, largest, share)
    if IS_NORMED:
        share = share / tl.sum(share, 0)
    # A row of no numbers has no likeliest expert; it gets some, and comes out as what it is.
    tl.store(chosen + row * K + k, best, mask=k < K)
    tl.store(shares + row * K + k, tl.where(is_broken, float("nan"), share), mask=k < K)


@triton.jit(do_not_specialize=["num_pairs"])
def count(chosen, counts, num_pairs, BLOCK: tl.constexpr):
    """Count the pairs of each expert, one program for each: `counts` (E,) int32."""
    expert = tl.program_id(0)
    total = tl.zeros((BLOCK,), tl.int32)
    for start in range(0, num_pairs, BLOCK):
        p = start + tl.arange(0, BLOCK)
        total += (tl.load(chosen + p, mask=p < num_pairs, other=-1) == expert).to(tl.int32)
    tl.store(counts + expert, tl.sum(total, 0))


@triton.jit(do_not_specialize=["num_pairs", "num_blocks"])
def arrange(chosen, counts, pairs, experts, num_pairs, num_blocks, num_experts, ROWS: tl.constexpr,
            EXPERTS: tl.constexpr, BLOCK: tl.constexpr):  # fmt: skip
    """Put pairs in the order of their experts, each expert's in blocks of ROWS: one program for each expert.

    `pairs` (blocks, ROWS) int32 gets them, `num_pairs` where a block has no more, and `experts` (blocks,) int32 whose
    each block is, -1 for nobody's.
    """
    expert = tl.program_id(0)
    e = tl.arange(0, EXPERTS)
    blocks = (tl.load(counts + e, mask=e < num_experts, other=0) + ROWS - 1) // ROWS
    first = tl.sum(tl.where(e < expert, blocks, 0), 0)
    own = tl.sum(tl.where(e == expert, blocks, 0), 0)
    at = first * ROWS
    for start in range(0, num_pairs, BLOCK):
        p = start + tl.arange(0, BLOCK)
        mine = (tl.load(chosen + p, mask=p < num_pairs, other=-1) == expert).to(tl.int32)
        tl.store(pairs + at + tl.cumsum(mine, 0) - 1, p, mask=mine > 0)
        at += tl.sum(mine, 0)
    r = tl.arange(0, ROWS)
    tl.store(pairs + at + r, tl.zeros((ROWS,), tl.int32) + num_pairs, mask=at + r < (first + own) * ROWS)
    for block in range(first, first + own):
        tl.store(experts + block, expert)
    if expert == num_experts - 1:
        for block in range(first + own, num_blocks):
            tl.store(experts + block, -1)


@triton.jit(do_not_specialize=["num_pairs"])
def multiply(x, weights, pairs, experts, found, num_pairs, size, K: tl.constexpr, H: tl.constexpr, GATED: tl.constexpr,
             GELU: tl.constexpr, ROWS: tl.constexpr, BLOCK_N: tl.constexpr, BLOCK_K: tl.constexpr,
             PRECISION: tl.constexpr):  # fmt: skip
    """Multiply rows `x` (N, H), each of K pairs, with their experts' `weights` (E, M, H): `found` (N K, M), M = `size`.

    If GATED, there are `weights` (E, 2 M, H), gates first, and as in `kernels.activate`, the activated gate is
    multiplied with the rest.
    """
    block = tl.program_id(1)
    expert = tl.load(experts + block).to(tl.int64)
    if expert < 0:
        return
    pair = tl.load(pairs + block * ROWS + tl.arange(0, ROWS))
    is_row = (pair < num_pairs)[None, :]
    n = (tl.program_id(0) * BLOCK_N + tl.arange(0, BLOCK_N)).to(tl.int64)
    is_output = (n < size)[:, None]
    kind = found.dtype.element_ty
    rows = x + (pair // K).to(tl.int64)[None, :] * H
    outputs = weights + (expert * (2 if GATED else 1) * size + n)[:, None] * H
    g, u = tl.zeros((BLOCK_N, ROWS), tl.float32), tl.zeros((BLOCK_N, ROWS), tl.float32)
    for start in range(0, H, BLOCK_K):
        k = start + tl.arange(0, BLOCK_K)
        of_weights, of_rows = is_output, is_row
        if H % BLOCK_K:
            of_weights, of_rows = is_output & (k < H)[None, :], is_row & (k < H)[:, None]
        y = tl.load(rows + k[:, None], mask=of_rows, other=0.0)
        w = tl.load(outputs + k[None, :], mask=of_weights, other=0.0)
        g = tl.dot(w, y, g, input_precision=PRECISION)
        if GATED:
            w = tl.load(outputs + size * H + k[None, :], mask=of_weights, other=0.0)
            u = tl.dot(w, y, u, input_precision=PRECISION)
    if GATED:
        g, u = g.to(kind).to(tl.float32), u.to(kind).to(tl.float32)
        g = activated(g, GELU).to(kind).to(tl.float32) * u
    target = found + pair.to(tl.int64)[None, :] * size + n[:, None]
    tl.store(target, g.to(kind), mask=is_output & is_row)


@triton.jit
def combine(found, shares, out, H: tl.constexpr, K: tl.constexpr, BLOCK: tl.constexpr):
    """Add what experts have found of each row, the likeliest first, by their shares: `out` (N, H)."""
    row = tl.program_id(0).to(tl.int64)
    at = tl.program_id(1) * BLOCK + tl.arange(0, BLOCK)
    total = tl.zeros((BLOCK,), tl.float32)
    for k in tl.static_range(K):
        share = tl.load(shares + row * K + k)
        total += share * tl.load(found + (row * K + k) * H + at, mask=at < H, other=0.0).to(tl.float32)
    tl.store(out + row * H + at, total.to(out.dtype.element_ty), mask=at < H)
