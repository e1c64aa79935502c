"""What a decoder does between its matrix products, as Triton kernels. They round where transformers' Llama rounds.

Arrays are contiguous, in the decoder's type unless said otherwise. N is how many tokens a line has, D the size of a
head, DP that rounded up to a power of 2. Keys and values lie in pages (pages, H_kv, PAGE, D); `tables` (slots, W) int32
has the pages of each slot's sequence in order. Every token of a line has a slot and a position (N,) int32.

With SHORT, keys and values are bytes with exponents beside them, as `short_keys_kernels` says.

How attention is cut up follows FlashAttention 2 (Dao 2023) over block tables (PagedAttention, Kwon et al. 2023), and
for what all rows share, the two-phase form of Hydragen (Juravsky et al. 2024).
"""

from __future__ import annotations

import triton
import triton.language as tl

from llmpar.engine.cuda.activation_kernels import activated
from llmpar.engine.cuda.short_keys_kernels import lengthen, powers, shorten
from llmpar.engine.finite import NO_TOKEN

_LOG2E = tl.constexpr(1.4426950408889634)
_NO_TOKEN = tl.constexpr(NO_TOKEN)
_NEVER = tl.constexpr(-1.0e30)  # finite: the difference of two of them is a number


@triton.jit
def add_norm(hidden, update, after, weight, normed, size, epsilon, HAS_UPDATE: tl.constexpr, HAS_AFTER: tl.constexpr,
             BLOCK: tl.constexpr):  # fmt: skip
    """Add to `hidden` (N, H) an `update`, itself normed with `after` (H,) float32 or not; norm the sum into `normed`.

    RMSNorm (Zhang & Sennrich 2019), with `weight` (H,) float32.
    """
    row = tl.program_id(0).to(tl.int64) * size
    at = tl.arange(0, BLOCK)
    inside = at < size
    kind = hidden.dtype.element_ty
    x = tl.load(hidden + row + at, mask=inside, other=0.0).to(tl.float32)
    if HAS_UPDATE:
        u = tl.load(update + row + at, mask=inside, other=0.0).to(tl.float32)
        if HAS_AFTER:
            w = tl.load(after + at, mask=inside, other=0.0)
            u = (u * tl.rsqrt(tl.sum(u * u, 0) / size + epsilon)).to(kind).to(tl.float32)
            u = (u * w).to(kind).to(tl.float32)
        x = (x + u).to(kind).to(tl.float32)
        tl.store(hidden + row + at, x.to(kind), mask=inside)
    w = tl.load(weight + at, mask=inside, other=0.0)
    y = (x * tl.rsqrt(tl.sum(x * x, 0) / size + epsilon)).to(kind).to(tl.float32)
    tl.store(normed + row + at, (y * w).to(kind), mask=inside)


@triton.jit(do_not_specialize=["first"])
def norm_part(rows, weight, first, size, width, epsilon, BLOCK: tl.constexpr):
    """Norm the numbers from `first` on in each of `rows` (N, width), in place, with `weight` (size,) float32."""
    at = tl.arange(0, BLOCK)
    inside = at < size
    here = rows + tl.program_id(0).to(tl.int64) * width + first + at
    kind = rows.dtype.element_ty
    x = tl.load(here, mask=inside, other=0.0).to(tl.float32)
    w = tl.load(weight + at, mask=inside, other=0.0)
    y = (x * tl.rsqrt(tl.sum(x * x, 0) / size + epsilon)).to(kind).to(tl.float32)
    tl.store(here, (y * w).to(kind), mask=inside)


# What differs from one engine to the next is not specialized: each would compile anew.
@triton.jit(do_not_specialize=["width"])
def place(qkv, queries, keys, values, key_exponents, value_exponents, positions, slots, tables, width, cosines, sines,
          head_norms, epsilon, H: tl.constexpr, H_KV: tl.constexpr, D: tl.constexpr, DP: tl.constexpr,
          HALF: tl.constexpr, PAGE: tl.constexpr, HAS_NORMS: tl.constexpr, HEADS: tl.constexpr,
          SHORT: tl.constexpr):  # fmt: skip
    """Norm and rotate what a token asks and is asked by, and put keys and values on their page.

    `qkv` (N, (H + 2 H_kv) D) → `queries` (N, H, D). `cosines` and `sines` (positions, HALF) of the rotary embedding (Su
    et al. 2021) are for the first 2 HALF of a head's dimensions, 0 for none; `head_norms` (2, D) float32 are those of
    queries and of keys.
    """
    token = tl.program_id(0).to(tl.int64)
    kind = qkv.dtype.element_ty
    head = tl.program_id(1) * HEADS + tl.arange(0, HEADS)
    d = tl.arange(0, DP)
    inside = (head[:, None] < H + 2 * H_KV) & (d[None, :] < D)
    source = qkv + token * ((H + 2 * H_KV) * D) + head[:, None] * D
    is_query, is_value = head < H, head >= H + H_KV
    position = tl.load(positions + token)
    x = tl.load(source + d[None, :], mask=inside, other=0.0)
    y = x
    partner = tl.where(d < HALF, d + HALF, tl.where(d < 2 * HALF, d - HALF, d))
    if HAS_NORMS:
        kinds = tl.where(is_query, 0, D)
        f = x.to(tl.float32)
        scale = tl.rsqrt(tl.sum(f * f, 1) / D + epsilon)[:, None]
        w = tl.load(head_norms + kinds[:, None] + d[None, :], mask=inside & ~is_value[:, None], other=0.0)
        y = ((f * scale).to(kind).to(tl.float32) * w).to(kind)
    if HALF > 0:
        p = tl.load(source + partner[None, :], mask=inside, other=0.0)
        if HAS_NORMS:
            w = tl.load(head_norms + kinds[:, None] + partner[None, :], mask=inside & ~is_value[:, None], other=0.0)
            p = ((p.to(tl.float32) * scale).to(kind).to(tl.float32) * w).to(kind)
        angle = position.to(tl.int64) * HALF + d % HALF
        turned = d < 2 * HALF
        c = tl.load(cosines + angle, mask=turned, other=1.0).to(tl.float32)
        s = tl.load(sines + angle, mask=turned, other=0.0).to(tl.float32)
        s = tl.where(d < HALF, -s, s)
        a = (y.to(tl.float32) * c[None, :]).to(kind).to(tl.float32)
        b = (p.to(tl.float32) * s[None, :]).to(kind).to(tl.float32)
        y = (a + b).to(kind)
    tl.store(queries + token * (H * D) + head[:, None] * D + d[None, :], y, mask=inside & is_query[:, None])
    slot = tl.load(slots + token).to(tl.int64)
    page = tl.load(tables + slot * width + position // PAGE).to(tl.int64)
    kv_head = tl.where(is_value, head - H - H_KV, head - H)
    line = (page * H_KV + kv_head) * PAGE + position % PAGE
    target = line[:, None] * D + d[None, :]
    is_key = ~is_query & ~is_value
    if SHORT:
        short, exponents = shorten(tl.where(is_value[:, None], x, y))
        tl.store(keys + target, short, mask=inside & is_key[:, None])
        tl.store(values + target, short, mask=inside & is_value[:, None])
        is_head = head < H + 2 * H_KV
        tl.store(key_exponents + line, exponents, mask=is_head & is_key)
        tl.store(value_exponents + line, exponents, mask=is_head & is_value)
    else:
        tl.store(keys + target, y, mask=inside & is_key[:, None])
        tl.store(values + target, x, mask=inside & is_value[:, None])


@triton.jit
def _weigh(q, k, scaling, softcap, PRECISION: tl.constexpr, HAS_SOFTCAP: tl.constexpr):
    """Return scores for exp2, before masking."""
    scores = tl.dot(q, k, input_precision=PRECISION) * scaling
    if HAS_SOFTCAP:
        t = 2.0 / (1.0 + tl.exp(-2.0 * scores / softcap)) - 1.0
        scores = t * softcap
    return scores * _LOG2E


@triton.jit
def _fold(scores, seen, top, total):
    """Take a block of scores into a softmax under way: return their weights, how far what was before fades, and both.

    `top` is the largest score so far, `total` the sum of exponentials relative to it.
    """
    scores = tl.where(seen, scores, _NEVER)
    higher = tl.maximum(top, tl.max(scores, 1))
    weights = tl.where(seen, tl.exp2(scores - higher[:, None]), 0.0)
    fade = tl.exp2(top - higher)
    return weights, fade, higher, total * fade + tl.sum(weights, 1)


@triton.jit
def _take_in(q, keys, values, key_exponents, value_exponents, line, there, seen, top, total, out, scaling, softcap,
             D: tl.constexpr, DP: tl.constexpr, HAS_SOFTCAP: tl.constexpr, PRECISION: tl.constexpr,
             SHORT: tl.constexpr):  # fmt: skip
    """Take a block of positions, of which queries see those that are `seen`, into their attention under way.

    `line` says where the keys and values of the positions are that are `there`. Returns `top` and `total`, as `_fold`
    does, and `out`, the values by their weights.
    """
    d, place = tl.arange(0, DP), line * D
    k = tl.load(keys + place[None, :] + d[:, None], mask=there[None, :] & (d[:, None] < D), other=0)
    if SHORT:
        k = lengthen(k, q.dtype)
        power = powers(key_exponents, line, there)
        scores = _weigh(q, k, scaling * power[None, :], softcap, PRECISION, HAS_SOFTCAP)
    else:
        scores = _weigh(q, k, scaling, softcap, PRECISION, HAS_SOFTCAP)
    weights, fade, top, total = _fold(scores, seen, top, total)
    v = tl.load(values + place[:, None] + d[None, :], mask=there[:, None] & (d[None, :] < D), other=0)
    if SHORT:
        v = lengthen(v, q.dtype)
        weights = weights * powers(value_exponents, line, there)[None, :]
    out = out * fade[:, None] + tl.dot(weights.to(v.dtype), v, input_precision=PRECISION)
    return top, total, out


@triton.jit(do_not_specialize=["num_tokens"])
def attend_prefix(queries, keys, values, key_exponents, value_exponents, positions, shares, slots, num_tokens,
                  prefix_length, tops, sums, outputs, scaling, window, softcap, H: tl.constexpr, H_KV: tl.constexpr,
                  D: tl.constexpr, DP: tl.constexpr, PAGE: tl.constexpr, BLOCK_M: tl.constexpr, BLOCK_T: tl.constexpr,
                  HAS_WINDOW: tl.constexpr, HAS_SOFTCAP: tl.constexpr, PRECISION: tl.constexpr,
                  SHORT: tl.constexpr):  # fmt: skip
    """Attend from all tokens to the prefix, in pages 0 to `prefix_length` / PAGE, so that it is read once for many.

    What comes out is what `attend` goes on from: the largest score `tops` and the `sums` of exponentials (N, H)
    float32, and `outputs` (N, H, D) float32, not yet divided. `shares` (slots,) int32 is 1 where a sequence begins
    with the prefix, else 0.
    """
    G: tl.constexpr = H // H_KV
    head = tl.program_id(1)
    m = tl.program_id(0) * BLOCK_M + tl.arange(0, BLOCK_M)
    token, h = (m // G).to(tl.int64), head * G + m % G
    valid = token < num_tokens
    d = tl.arange(0, DP)
    slot = tl.load(slots + token, mask=valid, other=0)
    sees = tl.load(shares + slot, mask=valid, other=0) > 0
    position = tl.load(positions + token, mask=valid, other=0)
    at = token * H + h
    q = tl.load(queries + at[:, None] * D + d[None, :], mask=valid[:, None] & (d[None, :] < D), other=0.0)
    top = tl.full((BLOCK_M,), _NEVER, tl.float32)
    total = tl.zeros((BLOCK_M,), tl.float32)
    out = tl.zeros((BLOCK_M, DP), tl.float32)
    for start in range(0, prefix_length, BLOCK_T):
        t = start + tl.arange(0, BLOCK_T)
        there = t < prefix_length
        line = ((t // PAGE).to(tl.int64) * H_KV + head) * PAGE + t % PAGE
        seen = there[None, :] & sees[:, None]
        if HAS_WINDOW:
            seen = seen & (position[:, None] - t[None, :] < window)
        top, total, out = _take_in(q, keys, values, key_exponents, value_exponents, line, there, seen, top, total, out,
                                   scaling, softcap, D, DP, HAS_SOFTCAP, PRECISION, SHORT)  # fmt: skip
    tl.store(tops + at, top, mask=valid)
    tl.store(sums + at, total, mask=valid)
    tl.store(outputs + at[:, None] * D + d[None, :], out, mask=valid[:, None] & (d[None, :] < D))


@triton.jit(do_not_specialize=["width"])
def attend(queries, found, keys, values, key_exponents, value_exponents, starts, counts, positions, shares, slots,
           tables, width, prefix_length, tops, sums, outputs, scaling, window, softcap, H: tl.constexpr,
           H_KV: tl.constexpr, D: tl.constexpr, DP: tl.constexpr, PAGE: tl.constexpr, BLOCK_M: tl.constexpr,
           BLOCK_T: tl.constexpr, HAS_PREFIX: tl.constexpr, HAS_WINDOW: tl.constexpr, HAS_SOFTCAP: tl.constexpr,
           PRECISION: tl.constexpr, SHORT: tl.constexpr):  # fmt: skip
    """Attend from tokens to all before them in their sequences: `queries` → `found` (N, H, D).

    A program takes one head of keys for a block of a sequence's neighbouring tokens: `counts` of them from `starts` on
    in the line, at most BLOCK_M divided by the queries that share a head. A step of decoding is blocks of one token.
    With HAS_PREFIX, sequences that share it go on from what `attend_prefix` has left.
    """
    G: tl.constexpr = H // H_KV
    block, head = tl.program_id(0), tl.program_id(1)
    first, count = tl.load(starts + block), tl.load(counts + block)
    m = tl.arange(0, BLOCK_M)
    valid = m // G < count
    token, h = (first + m // G).to(tl.int64), head * G + m % G
    d = tl.arange(0, DP)
    at = token * H + h
    whole = valid[:, None] & (d[None, :] < D)
    q = tl.load(queries + at[:, None] * D + d[None, :], mask=whole, other=0.0)
    slot = tl.load(slots + first).to(tl.int64)
    earliest = tl.load(positions + first)
    position = earliest + m // G
    end = earliest + count
    begin = 0
    if HAS_PREFIX:
        is_shared = tl.load(shares + slot) > 0
        begin = tl.where(is_shared, prefix_length, 0)
        goes_on = tl.where(is_shared, valid, False)
        top = tl.load(tops + at, mask=goes_on, other=_NEVER)
        total = tl.load(sums + at, mask=goes_on, other=0.0)
        out = tl.load(outputs + at[:, None] * D + d[None, :], mask=goes_on[:, None] & (d[None, :] < D), other=0.0)
    else:
        top = tl.full((BLOCK_M,), _NEVER, tl.float32)
        total = tl.zeros((BLOCK_M,), tl.float32)
        out = tl.zeros((BLOCK_M, DP), tl.float32)
    if HAS_WINDOW:
        begin = tl.maximum(begin, (earliest - window + 1) // BLOCK_T * BLOCK_T)
    for start in range(begin, end, BLOCK_T):
        t = start + tl.arange(0, BLOCK_T)
        there = t < end
        page = tl.load(tables + slot * width + t // PAGE, mask=there, other=0).to(tl.int64)
        line = (page * H_KV + head) * PAGE + t % PAGE
        seen = valid[:, None] & (t[None, :] <= position[:, None])
        if HAS_WINDOW:
            seen = seen & (position[:, None] - t[None, :] < window)
        top, total, out = _take_in(q, keys, values, key_exponents, value_exponents, line, there, seen, top, total, out,
                                   scaling, softcap, D, DP, HAS_SOFTCAP, PRECISION, SHORT)  # fmt: skip
    out = out / tl.maximum(total, 1.0e-30)[:, None]
    tl.store(found + at[:, None] * D + d[None, :], out.to(found.dtype.element_ty), mask=whole)


@triton.jit
def activate(gate_up, active, size, GELU: tl.constexpr, BLOCK: tl.constexpr):
    """Multiply the activated gate with the rest: `gate_up` (N, 2 M) → `active` (N, M)."""
    row = tl.program_id(0).to(tl.int64)
    at = tl.program_id(1) * BLOCK + tl.arange(0, BLOCK)
    inside = at < size
    kind = active.dtype.element_ty
    g = tl.load(gate_up + row * 2 * size + at, mask=inside, other=0.0).to(tl.float32)
    u = tl.load(gate_up + row * 2 * size + size + at, mask=inside, other=0.0).to(tl.float32)
    tl.store(active + row * size + at, (activated(g, GELU).to(kind).to(tl.float32) * u).to(kind), mask=inside)


@triton.jit
def _only_allowed(x, mask_row, start, vocabulary, BLOCK: tl.constexpr):
    """Return a block of logits, minus infinity where a mask lets nothing come."""
    v = start + tl.arange(0, BLOCK)
    word = tl.load(mask_row + v // 32, mask=v < vocabulary, other=0)
    return tl.where((word >> (v % 32)) & 1 != 0, x, float("-inf"))


@triton.jit
def _block_logits(row_logits, mask_row, masked, start, vocabulary, softcap, BLOCK: tl.constexpr):
    """Return a block of logits in float32, minus infinity where there is none, or none that may come."""
    v = start + tl.arange(0, BLOCK)
    x = tl.load(row_logits + v, mask=v < vocabulary, other=float("-inf")).to(tl.float32)
    if softcap > 0:
        x = tl.where(v < vocabulary, (2.0 / (1.0 + tl.exp(-2.0 * x / softcap)) - 1.0) * softcap, float("-inf"))
    if masked:
        x = _only_allowed(x, mask_row, start, vocabulary, BLOCK)
    return x


@triton.jit(do_not_specialize=["num_slots"])
def choose(logits, vocabulary, slots, ids, positions, chosen, scores, num_slots, temperatures, top_ps, uniforms,
           is_masked, masks, num_words, softcap, BLOCK: tl.constexpr):  # fmt: skip
    """Choose the next token after each row of `logits` (B, V) → `chosen` (B,) int32, and let its slot go on from it.

    By slot: `ids` (…,) int32 gets the token, `positions` goes up by 1; `temperatures` and `top_ps` float32 are the
    row's, 0 for greedy; `is_masked` int32 says whether `masks` (…, V / 32) int32 tell what may come. By row: `uniforms`
    (B,) float32 are numbers drawn from [0, 1). Slots from `num_slots` on are nobody's and do not move.

    `scores` (B,) float32 get the token's log-probability, of all logits at a temperature of 1, whatever may come.

    Where logits are not finite (see `engine.finite`), `chosen` is NO_TOKEN. Steps that are given out by then go on from
    token 0, and come to nothing.

    A draw takes the tokens in the vocabulary's order, as `sampler.draw` does; the likeliest that make up top_p are
    found by halving the range in which the last one's score lies.
    """
    row = tl.program_id(0).to(tl.int64)
    slot = tl.load(slots + row).to(tl.int64)
    row_logits = logits + row * vocabulary
    temperature = tl.load(temperatures + slot)
    masked = tl.load(is_masked + slot) > 0
    mask_row = masks + slot * num_words
    best = float("-inf")
    best_id = 0
    num_broken = 0
    peak, whole = -3.4e38, 0.0  # the largest logit so far of all, and the sum of e to each less that
    for start in range(0, vocabulary, BLOCK):
        x = _block_logits(row_logits, mask_row, False, start, vocabulary, softcap, BLOCK)
        higher = tl.maximum(peak, tl.max(x, 0))
        whole = whole * tl.exp(peak - higher) + tl.sum(tl.exp(x - higher), 0)
        peak = higher
        if masked:
            x = _only_allowed(x, mask_row, start, vocabulary, BLOCK)
        is_broken = (x != x) | (x == float("inf"))
        num_broken += tl.sum(is_broken.to(tl.int32), 0)
        top, where = tl.max(tl.where(is_broken, float("-inf"), x), 0, return_indices=True)  # the first of equals
        if top > best:
            best = top
            best_id = start + where
    is_finite = (num_broken == 0) & (best > float("-inf"))
    if is_finite & (temperature > 0):
        u, top_p = tl.load(uniforms + row), tl.load(top_ps + slot)
        total = 0.0
        for start in range(0, vocabulary, BLOCK):
            x = _block_logits(row_logits, mask_row, masked, start, vocabulary, softcap, BLOCK)
            total += tl.sum(tl.exp((x - best) / temperature), 0)
        least = float("-inf")  # the score of the last token that may be drawn
        if top_p < 1:
            low, high = best - 60.0 * temperature, best  # below, a token has no probability to speak of
            for _ in range(32):
                middle = 0.5 * (low + high)
                above = 0.0
                for start in range(0, vocabulary, BLOCK):
                    x = _block_logits(row_logits, mask_row, masked, start, vocabulary, softcap, BLOCK)
                    above += tl.sum(tl.where(x >= middle, tl.exp((x - best) / temperature), 0.0), 0)
                enough = above >= top_p * total
                low = tl.where(enough, middle, low)
                high = tl.where(enough, high, middle)
            least = low
            total = 0.0
            for start in range(0, vocabulary, BLOCK):
                x = _block_logits(row_logits, mask_row, masked, start, vocabulary, softcap, BLOCK)
                total += tl.sum(tl.where(x >= least, tl.exp((x - best) / temperature), 0.0), 0)
        point = u * total
        before = 0.0
        is_open = True
        for start in range(0, vocabulary, BLOCK):
            x = _block_logits(row_logits, mask_row, masked, start, vocabulary, softcap, BLOCK)
            weights = tl.where(x >= least, tl.exp((x - best) / temperature), 0.0)
            here = tl.sum(weights, 0)
            if is_open & (before + here > point):
                at = tl.arange(0, BLOCK)
                passed = (before + tl.cumsum(weights, 0) <= point) | (weights == 0)
                # The two sums round differently: where the point lies between them, the last that may come is meant.
                last = tl.max(tl.where(weights > 0, at, 0), 0)
                best_id = start + tl.minimum(tl.min(tl.where(passed, BLOCK, at), 0), last)
                is_open = False
            before += here
    tl.store(chosen + row, tl.where(is_finite, best_id, _NO_TOKEN))
    best_id = tl.where(is_finite, best_id, 0)
    own = tl.load(row_logits + best_id).to(tl.float32)
    if softcap > 0:
        own = (2.0 / (1.0 + tl.exp(-2.0 * own / softcap)) - 1.0) * softcap
    tl.store(scores + row, tl.minimum(own - peak - tl.log(whole), 0.0))
    is_there = slot < num_slots
    tl.store(ids + slot, best_id, mask=is_there)
    tl.store(positions + slot, tl.load(positions + slot) + 1, mask=is_there)
