"""What a decoder's step consists of, but attention (see `heads`), on one worker's arrays; free of Python's lock.

A row is a token. Each is computed by itself, in an order that depends on nothing but its own length, so its result does
not depend on the others in its batch. Nor does it depend on who computes it: a kernel that takes a seat of a team lets
others take parts (see `team`).
"""

from __future__ import annotations

import numpy as np

from llmpar.engine.cpu.compiled import inlined, kernel
from llmpar.engine.cpu.elementary import HALF, ONE, ZERO, exp, row_norm, tanh
from llmpar.engine.cpu.floats import INFINITE, LOWEST, encode, float_of_ordered, magnitude, ordered, widened
from llmpar.engine.cpu.log_sum import GROUP, LANES, add_panel, bent, join_groups
from llmpar.engine.cpu.precision import PANEL
from llmpar.engine.cpu.product import TILE_ROWS, blocks_of, product_tile
from llmpar.engine.cpu.sums import sum_of
from llmpar.engine.cpu.team import part, share
from llmpar.engine.cpu.tiles import close_tiles, open_tiles
from llmpar.engine.finite import NO_TOKEN

SILU, GELU_TANH = 0, 1

_GELU_SCALE, _GELU_CUBE = np.float32(0.7978845608), np.float32(0.044715)
_LOWEST = np.finfo(np.float32).min
_LEAST_PART = 1 << 15  # bytes of weights, for one row: they take a few microseconds, and to share them takes one
_ROWS = 8  # of a part, where a row is little work
_MOST_PARTS = 64  # of the head, whose parts have results of their own


@kernel
def product(seat, x, scales, weights, out, first, num_rows, add):
    """Set `out` (M, N), from a first column on, to the first rows of `x` (M, K) times packed weights, or add them.

    `x` and `out` have rows up to a multiple of TILE_ROWS, whatever the last of them hold (see `product_tile`). Others
    may compute some panels (see `team.Seat`).
    """
    shape = weights.weight.shape
    grain = 1 + _LEAST_PART // (shape[1] * PANEL * shape[3] * num_rows)
    if share(seat, shape[0], grain, _panels, (x, scales, weights, out, first, num_rows, add)):
        raise MemoryError


@part
def _panels(begin, end, x, scales, weights, out, first, num_rows, add):
    num_blocks, together = blocks_of(weights)
    totals = np.empty((x.shape[0], PANEL), np.float32)
    open_tiles(x, scales, weights)
    for panel in range(begin, end):
        column = first + panel * PANEL
        for block in range(0, num_blocks, together):
            until = min(block + together, num_blocks)
            for row in range(0, num_rows, TILE_ROWS):
                product_tile(x, row, num_rows - row, scales, weights, panel, block, until, totals, out, column, add)
    close_tiles(weights)


@kernel
def spread(bias, out, first, num_rows, add):
    """Set the first rows of `out` (M, N), from a first column on, to `bias` (C,), or add it to them."""
    for row in range(num_rows):
        for k in range(len(bias)):
            out[row, first + k] = out[row, first + k] + bias[k] if add else bias[k]


@kernel
def likeliest(
    seat, x, scales, weights, bias, vocabulary, softcap, masks, masked, scored, kept, ids, scores, logits
):  # fmt: skip
    """Set ids (B,) to the output channel with the largest product; of the B × V products only those wanted are kept.

    It is NO_TOKEN where the products of the channels that may be taken are not finite (see `finite`).

    Args:
        softcap: within what logits are bent, which matters to `scores` and `logits` alone; 0 for no limit.
        scored: (B,) 1 for a row whose scores are wanted, else 0.
        scores: (B, 3) are set to the logit of the channel that was found, the largest logit of all channels, and the
            logarithm of the sum of e to each logit less the largest.
        kept: (B,) which row of `logits` (R, V) a row's are kept in, bent; -1 where they are not. Such a row is scored.
        masks: (L, V / 32) uint32, a bit for each channel that may be taken, the lowest first.
        masked: (B,) which row of `masks` is a row's, -1 where all channels may be taken.
        The others as in `product`.
    """
    num_rows, num_panels = len(ids), weights.weight.shape[0]
    grain = max(1 + num_panels // _MOST_PARTS, 1 + _LEAST_PART // (weights.weight.shape[1] * PANEL * num_rows))
    grain = (grain + GROUP - 1) // GROUP * GROUP
    num_parts = (num_panels + grain - 1) // grain
    num_groups = (num_panels + GROUP - 1) // GROUP
    # Of each part: the largest in the order of floats, the first channel that has it, and the largest magnitude.
    best = np.full((num_parts, num_rows), LOWEST, np.int32)
    first, most = np.full((num_parts, num_rows), NO_TOKEN, np.int32), np.zeros((num_parts, num_rows), np.int32)
    peaks, sums = np.empty((num_rows, num_groups), np.float32), np.empty((num_rows, num_groups), np.float32)
    arguments = (
        x, scales, weights, bias, vocabulary, softcap, masks, masked, scored, kept, grain, best, first, most, peaks,
        sums, logits,
    )  # fmt: skip
    if share(seat, num_parts, 1, _likeliest_of_some, arguments):
        raise MemoryError
    terms = np.empty(num_groups, np.float32)
    for row in range(num_rows):
        largest, furthest = LOWEST, np.int32(0)
        ids[row] = NO_TOKEN
        for some in range(num_parts):
            furthest = max(furthest, most[some, row])
            if best[some, row] > largest:
                largest = best[some, row]
                ids[row] = first[some, row]
        # Minus infinity alone is as far away as infinity, and may be.
        if furthest > INFINITE or largest >= INFINITE:
            ids[row] = NO_TOKEN
        if scored[row]:
            scores[row, 0] = bent(float_of_ordered(largest), softcap)
            scores[row, 1], scores[row, 2] = join_groups(peaks[row], sums[row], terms)


@part
def _likeliest_of_some(
    begin, end, x, scales, weights, bias, vocabulary, softcap, masks, masked, scored, kept, grain, best, first, most,
    peaks, sums, logits,
):  # fmt: skip
    num_rows, num_panels = len(masked), weights.weight.shape[0]
    num_blocks, together = blocks_of(weights)
    scores = np.empty((x.shape[0], PANEL), np.float32)
    is_wanted = np.empty((num_rows + TILE_ROWS - 1) // TILE_ROWS, np.bool_)
    highest, lanes = np.empty(num_rows, np.float32), np.empty((num_rows, LANES), np.float32)
    room = np.empty(PANEL, np.float32)
    open_tiles(x, scales, weights)
    for some in range(begin, end):
        for panel in range(some * grain, min((some + 1) * grain, num_panels)):
            if panel % GROUP == 0:
                highest[:] = _LOWEST
                lanes[:] = ZERO
            begins = panel * PANEL
            width = min(PANEL, vocabulary - begins)
            for tile in range(len(is_wanted)):
                row, until = tile * TILE_ROWS, (tile + 1) * TILE_ROWS
                is_wanted[tile] = _is_wanted(masks, masked[row:until], scored[row:until], begins, width)
            for block in range(0, num_blocks, together):
                until = min(block + together, num_blocks)
                for tile in range(len(is_wanted)):
                    row = tile * TILE_ROWS
                    if is_wanted[tile]:
                        product_tile(
                            x, row, num_rows - row, scales, weights, panel, block, until, scores, scores, 0, False
                        )
            for tile in range(len(is_wanted)):
                if not is_wanted[tile]:
                    continue
                for row in range(tile * TILE_ROWS, min((tile + 1) * TILE_ROWS, num_rows)):
                    line = scores[row]
                    if len(bias):
                        for column in range(width):
                            line[column] += bias[begins + column]
                    largest, furthest = _extremes(line, width)
                    if kept[row] >= 0:
                        for column in range(width):
                            logits[kept[row], begins + column] = bent(line[column], softcap)
                    if scored[row]:
                        for column in range(width, PANEL):
                            line[column] = _LOWEST
                        add_panel(line, float_of_ordered(largest), softcap, room, highest, lanes, row)
                    if masked[row] >= 0:
                        for column in range(width):
                            channel = begins + column
                            if not (masks[masked[row], channel >> 5] >> np.uint32(channel & 31)) & np.uint32(1):
                                line[column] = _LOWEST
                        largest, furthest = _extremes(line, width)
                    furthest = max(furthest, most[some, row])
                    most[some, row] = furthest
                    if largest > best[some, row]:
                        best[some, row] = largest
                        for column in range(width):
                            if ordered(line[column]) == largest:
                                first[some, row] = begins + column
                                break
            if panel % GROUP == GROUP - 1 or panel == num_panels - 1:
                for row in range(num_rows):
                    peaks[row, panel // GROUP] = highest[row]
                    sums[row, panel // GROUP] = sum_of(lanes[row], 0, LANES)
    close_tiles(weights)


@inlined
def _extremes(line, width):
    """Return the largest of line[:width] in the order of floats, and the largest magnitude."""
    largest, furthest = LOWEST, np.int32(0)
    for column in range(width):
        largest = max(largest, ordered(line[column]))
        furthest = max(furthest, magnitude(line[column]))
    return largest, furthest


@inlined
def _is_wanted(masks, masked, scored, first, width):
    """Tell whether one of the rows is scored, or may take a channel of these, or of the few that share their words."""
    wanted = False
    for row in range(len(masked)):
        if masked[row] < 0 or scored[row]:
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


@kernel
def norm(seat, hidden, rows, weight, epsilon, out, scales):
    """Set row i of `out` (B, K) and `scales` (B, G) to the norm of row rows[i] of `hidden` (M, W), encoded."""
    if share(seat, len(rows), _ROWS, _norms, (hidden, rows, weight, epsilon, out, scales)):
        raise MemoryError


@part
def _norms(begin, end, hidden, rows, weight, epsilon, out, scales):
    values = np.zeros(out.shape[1], np.float32)
    for i in range(begin, end):
        row_norm(hidden[rows[i]], 0, len(weight), weight, epsilon, values)
        encode(values, out, i, scales)


@kernel
def add_norm(hidden, update, weight, epsilon, num_rows):
    """Add to each row of `hidden` (M, W) the norm of the same row of `update` (M, W)."""
    values = np.zeros(len(weight), np.float32)
    for row in range(num_rows):
        row_norm(update[row], 0, len(weight), weight, epsilon, values)
        for k in range(len(weight)):
            hidden[row, k] += values[k]


@kernel
def activate(seat, gate_up, width, kind, out, scales, num_rows):
    """Set rows of `out` (M, K) to activation(gate) · up, encoded; a row of `gate_up` (M, N) has `width` of each."""
    if share(seat, num_rows, _ROWS, _activated, (gate_up, width, kind, out, scales)):
        raise MemoryError


@part
def _activated(begin, end, gate_up, width, kind, out, scales):
    values = np.zeros(out.shape[1], np.float32)
    for row in range(begin, end):
        line = gate_up[row]
        if kind == SILU:
            for k in range(width):
                gate = line[k]
                values[k] = gate / (ONE + exp(-gate)) * line[width + k]
        else:
            for k in range(width):
                gate = line[k]
                inner = _GELU_SCALE * gate * (ONE + _GELU_CUBE * gate * gate)
                values[k] = HALF * gate * (ONE + tanh(inner)) * line[width + k]
        encode(values, out, row, scales)


@kernel
def bend(scores, most):
    """Bend scores (M, N) in place, so that they stay within `most` (the softcap of Gemma 2)."""
    for row in range(scores.shape[0]):
        for k in range(scores.shape[1]):
            scores[row, k] = most * tanh(scores[row, k] / most)


@kernel
def reorder(values, order, out, scales, num_rows):
    """Set rows of `out` (M, W) to rows of `values` (M, K) in the `order` (K,) of columns, encoded."""
    line = np.zeros(out.shape[1], np.float32)
    for row in range(num_rows):
        for k in range(len(order)):
            line[k] = values[row, order[k]]
        encode(line, out, row, scales)
