"""What a decoder's step consists of, on one worker's arrays; compiled by Numba, and free of Python's lock.

A row is a token. Each is computed by itself, in an order that depends on nothing but its own length, so its result does
not depend on the others in its batch.
"""

from __future__ import annotations

import numpy as np

from llmpar.engine.cpu.attention import SPAN, WIDE_SPAN, score_tile, value_tile
from llmpar.engine.cpu.compiled import inlined, kernel
from llmpar.engine.cpu.floats import (
    INFINITE,
    LOWEST,
    NAN,
    encode,
    float_of_ordered,
    magnitude,
    narrowed,
    ordered,
    widened,
)
from llmpar.engine.cpu.precision import PANEL
from llmpar.engine.cpu.product import TILE_COLUMNS, TILE_ROWS, close_tiles, open_tiles, product_tile
from llmpar.engine.cpu.sums import sum_of, sum_of_squares
from llmpar.engine.cpu.vector import bits_of_float, float_of_bits, fused, nearest
from llmpar.engine.finite import NO_TOKEN
from llmpar.engine.pages import PAGE

SILU, GELU_TANH = 0, 1

# Python's numbers would make these sums float64.
_ZERO, _HALF, _ONE, _TWO = (np.float32(x) for x in (0, 0.5, 1, 2))
_LOG2_E, _LN2_HIGH, _LN2_LOW = np.float32(1.44269504), np.float32(0.693359375), np.float32(-2.12194440e-4)
_LEAST, _MOST = np.float32(-87), np.float32(88)
_GELU_SCALE, _GELU_CUBE = np.float32(0.7978845608), np.float32(0.044715)
_LOWEST = np.finfo(np.float32).min
_E3, _E4, _E5, _E6, _E7 = (np.float32(1 / n) for n in (6, 24, 120, 720, 5040))


@inlined
def _exp(x):
    """Return e to the x, to the last bit or two of float32; plain arithmetic, so that LLVM computes 16 at once."""
    x = min(max(x, _LEAST), _MOST)
    n = nearest(x * _LOG2_E)
    r = fused(n, -_LN2_LOW, fused(n, -_LN2_HIGH, x))
    series = fused(r, fused(r, fused(r, fused(r, fused(r, fused(r, _E7, _E6), _E5), _E4), _E3), _HALF), _ONE)
    series = fused(r, series, _ONE)
    return series * float_of_bits(np.int32(np.int32(n) + np.int32(127)) << np.int32(23))


@inlined
def _tanh(x):
    return _ONE - _TWO / (_exp(_TWO * x) + _ONE)


@kernel
def product(x, scales, weights, out, first, num_rows, add):
    """Set `out` (M, N), from a first column on, to the first rows of `x` (M, K) times packed weights, or add them.

    `x` and `out` have rows up to a multiple of TILE_ROWS, whatever the last of them hold (see `product_tile`).
    """
    open_tiles(x, scales, weights)
    for panel in range(weights.weight.shape[0]):
        for row in range(0, num_rows, TILE_ROWS):
            for channel in range(0, PANEL, TILE_COLUMNS):
                column = first + panel * PANEL + channel
                product_tile(x, row, num_rows - row, scales, weights, panel, channel, out, column, add)
    close_tiles(weights)


@kernel
def spread(bias, out, first, num_rows, add):
    """Set the first rows of `out` (M, N), from a first column on, to `bias` (C,), or add it to them."""
    for row in range(num_rows):
        for k in range(len(bias)):
            out[row, first + k] = out[row, first + k] + bias[k] if add else bias[k]


@kernel
def likeliest(x, scales, weights, bias, vocabulary, masks, masked, ids):
    """Set ids (B,) to the output channel with the largest product; nothing else of the B × V products is kept.

    It is NO_TOKEN where the products of the channels that may be taken are not finite (see `finite`).

    Args:
        masks: (L, V / 32) uint32, a bit for each channel that may be taken, the lowest first.
        masked: (B,) which row of `masks` is a row's, -1 where all channels may be taken.
        The others as in `product`.
    """
    num_rows = len(ids)
    best = np.full(num_rows, LOWEST, np.int32)  # in their order
    most = np.zeros(num_rows, np.int32)  # the largest magnitude
    part = np.empty((x.shape[0], PANEL), np.float32)
    ids[:] = NO_TOKEN
    open_tiles(x, scales, weights)
    for panel in range(weights.weight.shape[0]):
        first = panel * PANEL
        width = min(PANEL, vocabulary - first)
        for tile in range(0, num_rows, TILE_ROWS):
            end = min(tile + TILE_ROWS, num_rows)
            if not _is_wanted(masks, masked[tile:end], first, width):
                continue
            for channel in range(0, PANEL, TILE_COLUMNS):
                product_tile(x, tile, num_rows - tile, scales, weights, panel, channel, part, channel, 0)
            for row in range(tile, end):
                if len(bias):
                    for column in range(width):
                        part[row, column] += bias[first + column]
                if masked[row] >= 0:
                    for column in range(width):
                        channel = first + column
                        if not (masks[masked[row], channel >> 5] >> np.uint32(channel & 31)) & np.uint32(1):
                            part[row, column] = _LOWEST
                largest, furthest = LOWEST, most[row]
                for column in range(width):
                    largest = max(largest, ordered(part[row, column]))
                    furthest = max(furthest, magnitude(part[row, column]))
                most[row] = furthest
                if largest > best[row]:
                    best[row] = largest
                    for column in range(width):
                        if ordered(part[row, column]) == largest:
                            ids[row] = first + column
                            break
    close_tiles(weights)
    for row in range(num_rows):
        # Minus infinity alone is as far away as infinity, and may be.
        if most[row] > INFINITE or best[row] >= INFINITE:
            ids[row] = NO_TOKEN


@inlined
def _is_wanted(masks, masked, first, width):
    """Tell whether one of the rows may take a channel of these, or of the few that share their words."""
    wanted = False
    for row in range(len(masked)):
        if masked[row] < 0:
            wanted = True
        else:
            for word in range(first >> 5, ((first + width - 1) >> 5) + 1):
                if masks[masked[row], word]:
                    wanted = True
    return wanted


@kernel
def embed(ids, table, scale, hidden):
    """Set the rows of `hidden` (M, W) to the embeddings (V, H) of `ids`, times `scale`."""
    for row in range(len(ids)):
        for k in range(table.shape[1]):
            hidden[row, k] = widened(table[ids[row], k]) * scale


@inlined
def _norm(x, start, length, weight, epsilon, out):
    """Set out[:length] to the root mean square norm of x[start : start + length] (Zhang & Sennrich 2019)."""
    total = sum_of_squares(x, start, length)
    factor = _ONE / np.sqrt(total / np.float32(length) + epsilon)
    for k in range(length):
        out[k] = x[start + k] * factor * weight[k]


@kernel
def norm(hidden, rows, weight, epsilon, out, scales):
    """Set row i of `out` (B, K) and `scales` (B, G) to the norm of row rows[i] of `hidden` (M, W), encoded."""
    values = np.zeros(out.shape[1], np.float32)
    for i in range(len(rows)):
        _norm(hidden[rows[i]], 0, len(weight), weight, epsilon, values)
        encode(values, out, i, scales)


@kernel
def add_norm(hidden, update, weight, epsilon, num_rows):
    """Add to each row of `hidden` (M, W) the norm of the same row of `update` (M, W)."""
    values = np.zeros(len(weight), np.float32)
    for row in range(num_rows):
        _norm(update[row], 0, len(weight), weight, epsilon, values)
        for k in range(len(weight)):
            hidden[row, k] += values[k]


@kernel
def activate(gate_up, width, kind, out, scales, num_rows):
    """Set rows of `out` (M, K) to activation(gate) · up, encoded; a row of `gate_up` (M, N) has `width` of each."""
    values = np.zeros(out.shape[1], np.float32)
    for row in range(num_rows):
        line = gate_up[row]
        if kind == SILU:
            for k in range(width):
                gate = line[k]
                values[k] = gate / (_ONE + _exp(-gate)) * line[width + k]
        else:
            for k in range(width):
                gate = line[k]
                inner = _GELU_SCALE * gate * (_ONE + _GELU_CUBE * gate * gate)
                values[k] = _HALF * gate * (_ONE + _tanh(inner)) * line[width + k]
        encode(values, out, row, scales)


@kernel
def bend(scores, most):
    """Bend scores (M, N) in place, so that they stay within `most` (the softcap of Gemma 2)."""
    for row in range(scores.shape[0]):
        for k in range(scores.shape[1]):
            scores[row, k] = most * _tanh(scores[row, k] / most)


@kernel
def reorder(values, order, out, scales, num_rows):
    """Set rows of `out` (M, W) to rows of `values` (M, K) in the `order` (K,) of columns, encoded."""
    line = np.zeros(out.shape[1], np.float32)
    for row in range(num_rows):
        for k in range(len(order)):
            line[k] = values[row, order[k]]
        encode(line, out, row, scales)


@inlined
def _rotate(x, start, half, cosine, sine):
    """Turn each pair (k, k + half) of a head by its angle (rotary embedding, Su et al. 2021)."""
    for k in range(half):
        a, b = x[start + k], x[start + half + k]
        x[start + k] = a * cosine[k] - b * sine[k]
        x[start + half + k] = b * cosine[k] + a * sine[k]


@kernel
def place(qkv, positions, rows, tables, cosines, sines, norms, epsilon, scaling, keys, values, layer, heads):
    """Finish queries in place, and put keys and values where `attend` finds them.

    Args:
        qkv: (M, W) float32: heads[0] queries, then heads[1] keys and as many values, of D numbers each.
        positions: (M,) in the sequence.
        rows: (M,) which row of `tables` is the sequence's.
        tables: (S, T / PAGE) the pages of each sequence.
        cosines, sines: (T, R / 2), for the first R numbers of a head; R = 0 for none.
        norms: (2, D) for queries and keys, or (0, D).
        scaling: what queries are multiplied with.
        keys: (pages, layers, heads[1], D, PAGE).
        values: (pages, layers, heads[1], PAGE, D rounded up to a multiple of SPAN).
    """
    num_heads, num_kv_heads = heads
    depth = keys.shape[3]
    half = cosines.shape[1]
    normed = np.empty(depth, np.float32)
    for i in range(len(positions)):
        line = qkv[i]
        position = positions[i]
        page, offset = tables[rows[i], position // PAGE], position % PAGE
        for head in range(num_heads + num_kv_heads):
            start = head * depth
            if len(norms):
                _norm(line, start, depth, norms[0 if head < num_heads else 1], epsilon, normed)
                line[start : start + depth] = normed
            if half:
                _rotate(line, start, half, cosines[position], sines[position])
            if head < num_heads:
                for k in range(depth):
                    line[start + k] *= scaling
            else:
                key = keys[page, layer, head - num_heads]
                value = values[page, layer, head - num_heads, offset]
                for k in range(depth):
                    key[k, offset] = narrowed(line[start + k], keys)
                start += num_kv_heads * depth
                for k in range(depth):
                    value[k] = narrowed(line[start + k], values)


@inlined
def _score(queries, keys, at, scores, column):
    num_queries, g = queries.shape[0], 0
    while g < num_queries:
        if num_queries - g >= 4:
            score_tile(queries, g, keys, at, scores, column, 4)
        elif num_queries - g == 3:
            score_tile(queries, g, keys, at, scores, column, 3)
        elif num_queries - g == 2:
            score_tile(queries, g, keys, at, scores, column, 2)
        else:
            score_tile(queries, g, keys, at, scores, column, 1)
        g += 4


@inlined
def _weigh(weights, column, values, at, length, out):
    num_queries, width, g = out.shape[0], out.shape[1], 0
    while g < num_queries:
        pair = min(num_queries - g, 3)
        start = 0
        while start < width:
            if width - start >= WIDE_SPAN:
                if pair == 3:
                    value_tile(weights, g, column, values, at, length, out, start, 3, WIDE_SPAN)
                elif pair == 2:
                    value_tile(weights, g, column, values, at, length, out, start, 2, WIDE_SPAN)
                else:
                    value_tile(weights, g, column, values, at, length, out, start, 1, WIDE_SPAN)
                start += WIDE_SPAN
            else:
                if pair == 3:
                    value_tile(weights, g, column, values, at, length, out, start, 3, SPAN)
                elif pair == 2:
                    value_tile(weights, g, column, values, at, length, out, start, 2, SPAN)
                else:
                    value_tile(weights, g, column, values, at, length, out, start, 1, SPAN)
                start += SPAN
        g += pair


@kernel
def attend(qkv, positions, rows, tables, keys, values, layer, heads, window, softcap, out, scales):
    """Set row i of `out` to what its queries find in their sequence up to its position, encoded.

    Args:
        window: how many positions back they see, or 0 for all.
        softcap: what scores are bent to stay within (Gemma 2), or 0.
        out: (M, heads[0] · D).
        The others as in `place`.
    """
    num_heads, num_kv_heads = heads
    num_queries = num_heads // num_kv_heads
    depth, width = keys.shape[3], values.shape[4]
    longest = 0
    for i in range(len(positions)):
        longest = max(longest, positions[i])
    scores = np.empty((num_queries, (longest // PAGE + 1) * PAGE), np.float32)
    found, broken = np.empty((num_queries, width), np.float32), np.empty(num_queries, np.int32)
    line = np.zeros(out.shape[1], np.float32)
    flat_keys, flat_values = keys.reshape(-1), values.reshape(-1)
    for i in range(len(positions)):
        position = positions[i]
        end = position + 1
        begin = max(0, end - window) if window else 0
        table = tables[rows[i]]
        for head in range(num_kv_heads):
            first = head * num_queries * depth
            queries = qkv[i, first : first + num_queries * depth].reshape(num_queries, depth)
            for page in range(begin // PAGE, position // PAGE + 1):
                at = ((table[page] * keys.shape[1] + layer) * num_kv_heads + head) * depth * PAGE
                _score(queries, flat_keys, at, scores, page * PAGE)
            found[:] = _ZERO
            for g in range(num_queries):
                seen = scores[g, begin:end]
                most = np.int32(0)
                for k in range(len(seen)):
                    most = max(most, magnitude(seen[k]))
                # Set in what is found, as it makes a NaN of any number.
                broken[g] = NAN if most >= INFINITE else np.int32(0)
                if softcap > _ZERO:
                    for k in range(len(seen)):
                        seen[k] = softcap * _tanh(seen[k] / softcap)
                last = LOWEST
                for k in range(len(seen)):
                    last = max(last, ordered(seen[k]))
                largest = float_of_ordered(last)
                for k in range(len(seen)):
                    seen[k] = _exp(seen[k] - largest)
                share = _ONE / sum_of(seen, 0, len(seen))
                for k in range(len(seen)):
                    seen[k] *= share
            for page in range(begin // PAGE, position // PAGE + 1):
                start = max(begin, page * PAGE)
                length = min(end, (page + 1) * PAGE) - start
                at = ((table[page] * keys.shape[1] + layer) * num_kv_heads + head) * width * PAGE
                _weigh(scores, start, flat_values, at + (start - page * PAGE) * width, length, found)
            for g in range(num_queries):
                target = first + g * depth
                for k in range(depth):
                    line[target + k] = float_of_bits(np.int32(bits_of_float(found[g, k]) | broken[g]))
        encode(line, out, i, scales)
