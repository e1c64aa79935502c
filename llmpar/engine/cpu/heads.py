"""Attention, of one layer: queries, keys and values are put where they belong, then each head looks back.

Like `kernels`, on one worker's arrays and free of Python's lock; a row's result does not depend on the others in its
batch.
"""

from __future__ import annotations

import numpy as np

from llmpar.engine.cpu.attention import score, weigh
from llmpar.engine.cpu.compiled import inlined, kernel
from llmpar.engine.cpu.elementary import ZERO, row_norm, tanh
from llmpar.engine.cpu.floats import INFINITE, NAN, encode, magnitude, narrowed
from llmpar.engine.cpu.softmax import softmax
from llmpar.engine.cpu.team import part, share
from llmpar.engine.cpu.vector import bits_of_float, float_of_bits
from llmpar.engine.pages import PAGE

_ROWS = 8  # of a part, where a row is little work
_FEW, _FEW_ITEMS = 64, 4  # so few keys are little work for one head, of which a part has several


@inlined
def _rotate(x, start, half, cosine, sine):
    """Turn each pair (k, k + half) of a head by its angle (rotary embedding, Su et al. 2021)."""
    for k in range(half):
        a, b = x[start + k], x[start + half + k]
        x[start + k] = a * cosine[k] - b * sine[k]
        x[start + half + k] = b * cosine[k] + a * sine[k]


@kernel
def place(seat, qkv, positions, rows, tables, cosines, sines, norms, epsilon, scaling, keys, values, layer, heads):
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
    arguments = (qkv, positions, rows, tables, cosines, sines, norms, epsilon, scaling, keys, values, layer, heads)
    if share(seat, len(positions), _ROWS, _placed, arguments):
        raise MemoryError


@part
def _placed(
    begin, end, qkv, positions, rows, tables, cosines, sines, norms, epsilon, scaling, keys, values, layer, heads
):
    num_heads, num_kv_heads = heads
    depth = keys.shape[3]
    half = cosines.shape[1]
    normed = np.empty(depth, np.float32)
    for i in range(begin, end):
        line = qkv[i]
        position = positions[i]
        page, offset = tables[rows[i], position // PAGE], position % PAGE
        for head in range(num_heads + num_kv_heads):
            start = head * depth
            if len(norms):
                row_norm(line, start, depth, norms[0 if head < num_heads else 1], epsilon, normed)
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


@kernel
def attend(seat, qkv, positions, rows, tables, keys, values, layer, heads, window, softcap, out, scales):
    """Set row i of `out` to what its queries find in their sequence up to its position, encoded.

    The queries in `qkv` are lost: each head leaves there what it has found.

    Args:
        window: how many positions back they see, or 0 for all.
        softcap: what scores are bent to stay within (Gemma 2), or 0.
        out: (M, heads[0] · D).
        The others as in `place`.
    """
    num_rows, num_kv_heads = len(positions), heads[1]
    longest = 0
    for i in range(num_rows):
        longest = max(longest, positions[i])
    grain = _FEW_ITEMS if longest < _FEW else 1
    arguments = (qkv, positions, rows, tables, keys, values, layer, heads, window, softcap, longest)
    if share(seat, num_rows * num_kv_heads, grain, _looked_back, arguments):
        raise MemoryError
    if share(seat, num_rows, _ROWS, _encoded, (qkv, heads[0] * keys.shape[3], out, scales)):
        raise MemoryError


@part
def _encoded(begin, end, qkv, width, out, scales):
    line = np.zeros(out.shape[1], np.float32)
    for i in range(begin, end):
        line[:width] = qkv[i, :width]
        encode(line, out, i, scales)


@part
def _looked_back(begin, end, qkv, positions, rows, tables, keys, values, layer, heads, window, softcap, longest):
    num_heads, num_kv_heads = heads
    num_queries = num_heads // num_kv_heads
    depth, width = keys.shape[3], values.shape[4]
    scores = np.empty((num_queries, (longest // PAGE + 2) * PAGE), np.float32)  # a softmax may need more
    found, broken = np.empty((num_queries, width), np.float32), np.empty(num_queries, np.int32)
    flat_keys, flat_values = keys.reshape(-1), values.reshape(-1)
    all_heads = keys.shape[1] * num_kv_heads * PAGE
    for item in range(begin, end):
        i, head = item // num_kv_heads, item % num_kv_heads
        position = positions[i]
        ends = position + 1
        begins = max(0, ends - window) if window else 0
        table = tables[rows[i]]
        first = head * num_queries * depth
        queries = qkv[i, first : first + num_queries * depth].reshape(num_queries, depth)
        of_head = (layer * num_kv_heads + head) * PAGE
        score(
            queries, flat_keys, table, all_heads * depth, of_head * depth, begins // PAGE, position // PAGE + 1, scores
        )
        for g in range(num_queries):
            most = np.int32(0)
            if softcap > ZERO:
                seen = scores[g, begins:ends]
                for k in range(len(seen)):
                    most = max(most, magnitude(seen[k]))
                    seen[k] = softcap * tanh(seen[k] / softcap)
            most = max(most, softmax(scores, g, begins, ends - begins))
            # Set in what is found, as it makes a NaN of any number.
            broken[g] = NAN if most >= INFINITE else np.int32(0)
        weigh(scores, flat_values, table, all_heads * width, of_head * width, begins, ends, found)
        for g in range(num_queries):
            for k in range(depth):
                queries[g, k] = float_of_bits(np.int32(bits_of_float(found[g, k]) | broken[g]))
