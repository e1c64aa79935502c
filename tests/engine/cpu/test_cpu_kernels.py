"""The kernels against plain numpy: exact where numbers are whole, close where they are rounded."""

from __future__ import annotations

import os
import platform
import subprocess
import sys
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
import pytest

from llmpar.engine.cpu import kernels
from llmpar.engine.cpu.attention import SPAN
from llmpar.engine.cpu.compiled import kernel
from llmpar.engine.cpu.decoder import Projection
from llmpar.engine.cpu.floats import narrowed, to_bf16
from llmpar.engine.cpu.precision import PANEL, PRECISIONS, round_up
from llmpar.engine.cpu.product import TILE_ROWS
from llmpar.engine.pages import PAGE
from llmpar.engine.precision_names import PrecisionName

Array = npt.NDArray[Any]
CLOSE = {"fp32": 1e-5, "bf16": 2**-8, "int8": 0.02, "int4": 0.2}
"""How far a rounded number may be from its oracle, relative to the largest of its row."""
EPSILON = np.float32(1e-5)


def widen(bits: Array) -> Array:
    """Return float32 of what kernels store as float32 or as the bits of a bfloat16."""
    return (bits.astype(np.uint32) << 16).view(np.float32) if bits.dtype == np.uint16 else bits


@dataclass
class Encoded:
    """Room for rows that kernels encode as the inputs of a product, and what they have put there."""

    precision: PrecisionName
    values: Array
    scales: Array

    @staticmethod
    def room(num_rows: int, width: int, precision: PrecisionName, num_groups: int = 0) -> Encoded:
        rows = round_up(num_rows, TILE_ROWS)
        kind = PRECISIONS[precision]
        numbers = (num_groups or (1 if kind.group else 0)) * kind.dot.numbers_per_group
        return Encoded(precision, np.zeros((rows, width), kind.inputs), np.ones((rows, numbers), np.float32))

    def sum_up(self) -> None:
        """Put the sum of each group where kernels put it, beside the scales."""
        if self.precision == "int4":
            groups = self.scales.shape[1] // 2
            self.scales[:, groups:] = self.values.reshape(len(self.values), groups, -1).sum(2, dtype=np.int32)

    def decoded(self, num_rows: int, width: int) -> Array:
        values = self.values[:num_rows]
        if PRECISIONS[self.precision].group:
            groups = self.scales.shape[1] // PRECISIONS[self.precision].dot.numbers_per_group
            units = values.reshape(num_rows, groups, -1).astype(np.float32) - (128 if self.precision == "int8" else 0)
            values = (units * self.scales[:num_rows, :groups, None]).reshape(num_rows, -1)
        return widen(values)[:, :width]


def close(found: Array, expected: Array, precision: str) -> bool:
    """Tell whether each number is near its oracle, by the largest of its row."""
    largest = np.abs(expected).max(-1, keepdims=True)
    return bool((np.abs(found - expected) <= CLOSE[precision] * largest + 1e-30).all())


@dataclass
class Whole:
    """A product of whole numbers, whose every partial sum float32 holds exactly.

    In int8 and int4 each group of weights and of inputs has the scale it is given here, a power of two.
    """

    x: Array
    weight: Array
    bias: Array
    projection: Projection
    inputs: Encoded

    @staticmethod
    def make(num_rows: int, num_outputs: int, num_inputs: int, precision: PrecisionName, seed: int = 0) -> Whole:
        random = np.random.default_rng([seed, num_rows, num_outputs, num_inputs])
        kind = PRECISIONS[precision]
        limit = 127 if kind.group else 15
        lowest, highest = (-8, 7) if precision == "int4" else (-limit, limit)
        weight = random.integers(lowest, highest + 1, (num_outputs, num_inputs)).astype(np.float32)
        x = random.integers(-limit, limit + 1, (num_rows, num_inputs)).astype(np.float32)
        bias = random.integers(-99, 100, num_outputs).astype(np.float32)
        if kind.group is None:
            projection = Projection.pack(weight, bias, kind)
            inputs = Encoded.room(num_rows, projection.num_inputs, precision)
            inputs.values[:num_rows, :num_inputs] = to_bf16(x) if precision == "bf16" else x
            return Whole(x, weight, bias, projection, inputs)
        group = kind.group(num_inputs)
        extremes = (-8, -8) if precision == "int4" else (-127, 127)
        weight[:, ::group] = np.where(random.random(weight[:, ::group].shape) < 0.5, *extremes)
        num_groups = -(-num_inputs // group)

        def units(num: int) -> Array:
            return np.exp2(random.integers(-1, 2, (num, num_groups))).astype(np.float32)

        def each(scales: Array) -> Array:
            return np.repeat(scales, group, axis=1)[:, :num_inputs]

        weight *= each(units(num_outputs))
        projection = Projection.pack(weight, bias, kind)
        inputs = Encoded.room(num_rows, projection.num_inputs, precision, projection.num_groups)
        # Padding meets weights of 0.
        inputs.values[:] = random.integers(-127, 128, inputs.values.shape) + (128 if precision == "int8" else 0)
        inputs.values[:num_rows, :num_inputs] = x + (128 if precision == "int8" else 0)
        scales = units(num_rows)
        inputs.scales[:num_rows, :num_groups] = scales
        inputs.sum_up()
        return Whole(x * each(scales), weight, bias, projection, inputs)

    @property
    def expected(self) -> Array:
        return self.x.astype(np.float64) @ self.weight.T.astype(np.float64)

    def out(self, fill: float = np.nan) -> Array:
        return np.full((len(self.inputs.values), self.projection.num_outputs), fill, np.float32)

    def into(self, out: Array, add: bool = False) -> Array:
        """Return the product that the kernel made in `out`, without the padding."""
        multiply(self.inputs, self.projection, out, len(self.x), add)
        return out[: len(self.x), : len(self.weight)]


def multiply(inputs: Encoded, projection: Projection, out: Array, num_rows: int, add: bool = False) -> None:
    kernels.product(
        inputs.values, inputs.scales, projection.weight, projection.biases, projection.factors, out, num_rows, add
    )


def gaussian(*shape: int, seed: int = 0) -> Array:
    return np.random.default_rng(seed).standard_normal(shape).astype(np.float32)


def normed(x: Array, weight: Array) -> Array:
    x = x.astype(np.float64)
    return x / np.sqrt((x * x).mean(-1, keepdims=True) + EPSILON) * weight


def encoded_norm(x: Array, projection: Projection, precision: PrecisionName) -> Encoded:
    """Return the rows of `x`, normed, as the projection's inputs."""
    inputs = Encoded.room(len(x), projection.num_inputs, precision, projection.num_groups)
    kernels.norm(x, np.arange(len(x)), np.ones(x.shape[1], np.float32), EPSILON, inputs.values, inputs.scales)
    return inputs


@pytest.mark.parametrize("precision", PRECISIONS)
class TestProduct:
    @pytest.mark.parametrize("shape", [(1, 1), (47, 3), (48, 4), (49, 60), (100, 66), (96, 130), (145, 200)])
    def test_whole_numbers_are_multiplied_exactly(self, precision: PrecisionName, shape: tuple[int, int]) -> None:
        for num_rows in (1, 3, 7, 8, 9, 20):
            case = Whole.make(num_rows, *shape, precision)
            assert np.array_equal(case.into(case.out()), case.expected)

    def test_any_number_of_rows(self, precision: PrecisionName) -> None:
        for num_rows in range(1, 21):
            case = Whole.make(num_rows, 50, 68, precision)
            room = np.full((len(case.inputs.values) + 1, case.projection.num_outputs), 77, np.float32)
            assert np.array_equal(case.into(room), case.expected)
            assert (room[-1] == 77).all(), "more rows than a tile needs were written"

    def test_adds_to_what_is_there(self, precision: PrecisionName) -> None:
        case = Whole.make(11, 70, 72, precision)
        out = case.out(fill=5)
        assert np.array_equal(case.into(out, add=True), case.expected + 5)
        assert np.array_equal(case.into(out, add=True), 2 * case.expected + 5)
        assert np.array_equal(case.into(out), case.expected)

    def test_starts_with_a_bias(self, precision: PrecisionName) -> None:
        case = Whole.make(11, 70, 72, precision)
        out = case.out()
        kernels.spread(case.bias, out, 11, False)
        assert np.array_equal(case.into(out, add=True), case.expected + case.bias)
        kernels.spread(case.bias, out, 11, True)
        assert np.array_equal(out[:11, :70], case.expected + 2 * case.bias)

    def test_numbers_with_fractions_come_close(self, precision: PrecisionName) -> None:
        weight, x = gaussian(100, 192), gaussian(20, 192, seed=1)
        x[3:9] *= np.logspace(-3, 3, 6, dtype=np.float32)[:, None]
        projection = Projection.pack(weight, None, PRECISIONS[precision])
        out = np.empty((round_up(20, TILE_ROWS), projection.num_outputs), np.float32)
        multiply(encoded_norm(x, projection, precision), projection, out, 20)
        assert close(out[:20, :100], normed(x, np.ones(192)) @ weight.T, precision)

    def test_a_row_is_the_same_whatever_the_others_are(self, precision: PrecisionName) -> None:
        projection = Projection.pack(gaussian(100, 200), None, PRECISIONS[precision])
        x = gaussian(20, 200, seed=1)
        x[4] *= 1e4

        def products(rows: list[int]) -> Array:
            inputs = encoded_norm(np.ascontiguousarray(x[rows]), projection, precision)
            out = np.empty((len(inputs.values), projection.num_outputs), np.float32)
            multiply(inputs, projection, out, len(rows))
            return out[: len(rows)]

        together = products(list(range(20)))
        for row in range(20):
            assert np.array_equal(products([row])[0], together[row])
        order = np.random.default_rng(0).permutation(20).tolist()
        assert np.array_equal(products(order), together[order])


@pytest.mark.parametrize("precision", PRECISIONS)
class TestLikeliest:
    def found(self, case: Whole, bias: Array | None = None, allowed: Array | None = None) -> list[int]:
        """Return the likeliest ids; `allowed` (B, V) is a mask for each row, and one that allows all is none."""
        ids = np.full(len(case.x), -1, np.int32)
        p = case.projection
        nothing, vocabulary = np.zeros(0, np.float32), len(case.weight)
        if allowed is None:
            allowed = np.ones((len(ids), vocabulary), bool)
        masked = np.where(allowed.all(1), -1, np.arange(len(ids), dtype=np.int32))
        bits = np.zeros((len(ids), -(-vocabulary // 32) * 32), np.uint8)
        bits[:, :vocabulary] = allowed
        masks = np.packbits(bits, axis=1, bitorder="little").view(np.uint32)
        kernels.likeliest(
            case.inputs.values, case.inputs.scales, p.weight, p.biases, p.factors,
            nothing if bias is None else bias, vocabulary, masks, masked, ids,
        )  # fmt: skip
        return ids.tolist()

    @pytest.mark.parametrize("vocabulary", [1, 47, 48, 49, 150])
    def test_is_the_argmax(self, precision: PrecisionName, vocabulary: int) -> None:
        for num_rows in (1, 8, 13):
            case = Whole.make(num_rows, vocabulary, 68, precision)
            assert self.found(case) == case.expected.argmax(1).tolist()
            assert self.found(case, case.bias * 16) == (case.expected + case.bias * 16).argmax(1).tolist()

    def test_ties_go_to_the_lowest_id(self, precision: PrecisionName) -> None:
        base = Whole.make(9, 15, 64, precision)
        weight = np.tile(base.weight, (10, 1))  # each channel ten times, in its own panel and in others
        case = Whole(base.x, weight, base.bias, Projection.pack(weight, None, PRECISIONS[precision]), base.inputs)
        assert self.found(case) == base.expected.argmax(1).tolist()

    @pytest.mark.parametrize("vocabulary", [1, 33, 49, 150, 400])
    @pytest.mark.parametrize("share", [0.01, 0.3, 1.0])
    def test_is_the_argmax_of_what_is_allowed(self, precision: PrecisionName, vocabulary: int, share: float) -> None:
        draw = np.random.default_rng(vocabulary)
        for num_rows in (1, 8, 21):
            case = Whole.make(num_rows, vocabulary, 68, precision)
            allowed = draw.random((num_rows, vocabulary)) < share
            allowed[np.arange(num_rows), draw.integers(0, vocabulary, num_rows)] = True
            allowed[::3] = True  # these have no mask
            expected = np.where(allowed, case.expected, -np.inf).argmax(1)
            assert self.found(case, allowed=allowed) == expected.tolist()
            biased = np.where(allowed, case.expected + case.bias * 16, -np.inf).argmax(1)
            assert self.found(case, case.bias * 16, allowed) == biased.tolist()

    def test_padding_does_not_win_over_negative_logits(self, precision: PrecisionName) -> None:
        case = Whole.make(5, 50, 64, precision)
        bias = np.full(50, -(2.0**22), np.float32)
        bias[[7, 49]] += [1.0, 0.5]
        case.projection.weight[:], case.projection.biases[:], case.projection.factors[:] = 0, 0, 0
        assert self.found(case, bias) == [7] * 5


@pytest.mark.parametrize("precision", PRECISIONS)
class TestRows:
    def test_norm(self, precision: PrecisionName) -> None:
        hidden, weight = gaussian(9, 48), gaussian(48, seed=1)[:42]
        hidden[2] *= 1e-4
        hidden[5] *= 1e5
        rows = np.array([5, 0, 2, 2, 8])
        room = Encoded.room(5, 64, precision)
        kernels.norm(np.ascontiguousarray(hidden[:, :42]), rows, weight, EPSILON, room.values, room.scales)
        assert close(room.decoded(5, 42), normed(hidden[rows, :42], weight), precision)
        assert not room.decoded(5, 64)[:, 42:].any(), "the padding holds something"

    def test_each_group_has_a_scale_of_its_own(self, precision: PrecisionName) -> None:
        hidden, weight = gaussian(4, 128), np.repeat([1e-3, 1e3], 64).astype(np.float32)
        room = Encoded.room(4, 128, precision, 2 if PRECISIONS[precision].group else 0)
        kernels.norm(hidden, np.arange(4), weight, EPSILON, room.values, room.scales)
        found, expected = room.decoded(4, 128), normed(hidden, weight)
        assert close(found[:, :64], expected[:, :64], precision)
        assert close(found[:, 64:], expected[:, 64:], precision)

    def test_a_row_of_zeros_stays_one(self, precision: PrecisionName) -> None:
        room = Encoded.room(2, 64, precision)
        kernels.norm(np.zeros((2, 64), np.float32), np.arange(2), gaussian(64), EPSILON, room.values, room.scales)
        assert not room.decoded(2, 64).any()

    @pytest.mark.parametrize("kind", [kernels.SILU, kernels.GELU_TANH])
    def test_activate(self, precision: PrecisionName, kind: int) -> None:
        width, rows = 50, 6
        gate_up = gaussian(rows, 144) * np.array([1, 3, 10, 0.01, 200, 1], np.float32)[:, None]
        gate, up = gate_up[:, :width].astype(np.float64), gate_up[:, width : 2 * width]
        if kind == kernels.SILU:
            with np.errstate(over="ignore"):
                expected = gate / (1 + np.exp(-gate)) * up
        else:
            expected = 0.5 * gate * (1 + np.tanh(np.sqrt(2 / np.pi) * (gate + 0.044715 * gate**3))) * up
        room = Encoded.room(rows, 64, precision)
        kernels.activate(gate_up, width, kind, room.values, room.scales, rows)
        assert close(room.decoded(rows, width), expected, precision)
        assert not room.decoded(rows, 64)[:, width:].any(), "the padding holds something"
        together = room.values.copy()
        for row in range(rows):
            kernels.activate(gate_up[row : row + 1].copy(), width, kind, room.values, room.scales, 1)
            assert np.array_equal(room.values[0], together[row]), "a row depends on the others"


def test_add_norm() -> None:
    hidden, update, weight = gaussian(5, 96), gaussian(5, 96, seed=1), gaussian(70, seed=2)
    expected = hidden[:3, :70] + normed(update[:3, :70], weight)
    before = hidden.copy()
    kernels.add_norm(hidden, update, weight, EPSILON, 3)
    assert close(hidden[:3, :70], expected, "fp32")
    assert np.array_equal(hidden[3:], before[3:])
    assert np.array_equal(hidden[:, 70:], before[:, 70:])


@pytest.mark.parametrize("dtype", [np.float32, np.uint16])
def test_embed(dtype: Any) -> None:
    table = gaussian(30, 40)
    table = to_bf16(table) if dtype == np.uint16 else table
    hidden, ids = np.full((5, 48), 9, np.float32), np.array([29, 0, 7, 7], np.int32)
    kernels.embed(ids, table, np.float32(1.5), hidden)
    assert np.array_equal(hidden[:4, :40], widen(table)[ids] * np.float32(1.5))
    assert (hidden[4:] == 9).all()
    assert (hidden[:, 40:] == 9).all()


class Attention:
    """Sequences in shuffled pages that held something else before, and the oracle for them."""

    def __init__(
        self,
        num_queries: int,
        depth: int,
        precision: PrecisionName = "fp32",
        lengths: tuple[int, ...] = (1, 15, 16, 17, 40),
        rotary: int | None = None,
        norms: bool = False,
    ) -> None:
        self.precision, self.lengths, self.depth = precision, lengths, depth
        self.heads = (2 * num_queries, 2)
        self.layer, num_layers, spare = 1, 2, 3
        width = round_up(depth, SPAN)
        needed = [-(-length // PAGE) for length in lengths]
        order = np.random.default_rng(depth).permutation(sum(needed) + spare).astype(np.int32)
        self.tables = np.full((len(lengths), max(needed) + 1), order[-1], np.int32)
        for row, (start, count) in enumerate(zip(np.cumsum([0, *needed]), needed, strict=False)):
            self.tables[row, :count] = order[start : start + count]
        self.unused = order[sum(needed) :]
        shape = (len(order), num_layers, 2)
        garbage = 0x7FC0 if precision != "fp32" else np.nan
        self.keys = np.full((*shape, depth, PAGE), garbage, PRECISIONS[precision].cache)
        self.values = np.full((*shape, PAGE, width), garbage, PRECISIONS[precision].cache)
        self.rows = np.repeat(np.arange(len(lengths)), lengths).astype(np.int32)
        self.positions = np.concatenate([np.arange(length) for length in lengths]).astype(np.int32)
        rotary = depth if rotary is None else rotary
        frequencies = 0.1 + np.random.default_rng(1).random(rotary // 2)
        self.angles = np.arange(64)[:, None] * frequencies
        self.norms = 1 + gaussian(2, depth, seed=3) / 4 if norms else np.zeros((0, 0), np.float32)
        self.scaling = np.float32(depth**-0.5)
        num_heads = sum(self.heads) + self.heads[1]
        self.qkv = gaussian(len(self.rows), round_up(num_heads * depth, PANEL), seed=2) * 2

    def place(self) -> Array:
        """Return what the kernel makes of the queries (N, H, D), keys and values being where they belong."""
        qkv = self.qkv.copy()
        cosines, sines = (f(self.angles).astype(np.float32) for f in (np.cos, np.sin))
        kernels.place(
            qkv, self.positions, self.rows, self.tables, cosines, sines, self.norms, EPSILON, self.scaling,
            self.keys, self.values, self.layer, self.heads,
        )  # fmt: skip
        return qkv

    def attend(self, qkv: Array, some: Array | slice = slice(None), window: int = 0, softcap: float = 0) -> Array:
        width = self.heads[0] * self.depth
        positions, rows = self.positions[some], self.rows[some]
        groups = width // self.depth if PRECISIONS[self.precision].group else 0
        room = Encoded.room(len(rows), width, self.precision, groups)
        kernels.attend(
            qkv[some], positions, rows, self.tables, self.keys, self.values, self.layer, self.heads,
            window, np.float32(softcap), room.values, room.scales,
        )  # fmt: skip
        return room.decoded(len(rows), width)

    def split(self, qkv: Array) -> tuple[Array, Array, Array]:
        """Return queries, keys and values, each (N, heads, D)."""
        h, kv = self.heads
        heads = qkv[:, : (h + 2 * kv) * self.depth].reshape(len(qkv), -1, self.depth)
        return heads[:, :h], heads[:, h : h + kv], heads[:, h + kv :]

    def finished(self) -> tuple[Array, Array, Array]:
        """Return the oracle's queries, keys and values."""
        queries, keys, values = (part.astype(np.float64) for part in self.split(self.qkv))
        if len(self.norms):
            queries, keys = normed(queries, self.norms[0]), normed(keys, self.norms[1])
        half = self.angles.shape[1]
        turn = np.exp(1j * self.angles[self.positions])[:, None]

        def turned(x: Array) -> Array:
            pairs = (x[..., :half] + 1j * x[..., half : 2 * half]) * turn
            return np.concatenate([pairs.real, pairs.imag, x[..., 2 * half :]], axis=-1)

        return turned(queries) * self.scaling, turned(keys), values

    def stored(self, row: int) -> tuple[Array, Array]:
        """Return the keys and values (T, H_kv, D) that a sequence has in its pages."""
        places = np.arange(self.lengths[row])
        pages, lanes = self.tables[row, places // PAGE], places % PAGE
        keys = self.keys[pages, self.layer, :, :, lanes]
        values = self.values[pages, self.layer, :, lanes, : self.depth]
        return widen(keys), widen(values)

    def expected(self, queries: Array, window: int = 0, softcap: float = 0) -> Array:
        """Return softmax(q·k)·v of every token (N, H · D), with the keys and values that are stored."""
        outputs = []
        for row, length in enumerate(self.lengths):
            keys, values = (np.repeat(part, self.heads[0] // 2, axis=1) for part in self.stored(row))
            scores = np.einsum("qhd,khd->hqk", queries[self.rows == row], keys.astype(np.float64))
            if softcap:
                scores = softcap * np.tanh(scores / softcap)
            age = np.arange(length)[:, None] - np.arange(length)
            scores[:, (age < 0) | (age >= (window or length))] = -np.inf
            weights = np.exp(scores - scores.max(-1, keepdims=True))
            weights /= weights.sum(-1, keepdims=True)
            outputs.append(np.einsum("hqk,khd->qhd", weights, values).reshape(length, -1))
        return np.concatenate(outputs)


class TestAttention:
    @pytest.mark.parametrize("depth", [8, 16, 24, 64, 80, 128])
    @pytest.mark.parametrize("num_queries", [1, 2, 3, 4, 5, 8])
    def test_every_group_and_head_size(self, num_queries: int, depth: int) -> None:
        case = Attention(num_queries, depth)
        qkv = case.place()
        queries, keys, values = case.finished()
        assert close(case.split(qkv)[0], queries, "fp32")
        for row in range(len(case.lengths)):
            stored = case.stored(row)
            assert close(stored[0], keys[case.rows == row], "fp32")
            assert np.array_equal(stored[1], values[case.rows == row])
        for window, softcap in ((0, 0.0), (5, 0.0), (16, 3.0), (17, 0.0), (0, 3.0)):
            found = case.attend(qkv, slice(None), window, softcap)
            assert close(found, case.expected(queries, window, softcap), "fp32")

    @pytest.mark.parametrize("precision", ["bf16", "int8"])
    @pytest.mark.parametrize(("num_queries", "depth"), [(1, 80), (3, 64), (5, 24)])
    def test_keys_and_values_in_half_the_room(self, precision: PrecisionName, num_queries: int, depth: int) -> None:
        case = Attention(num_queries, depth, precision)
        qkv = case.place()
        queries, keys, values = case.finished()
        for row in range(len(case.lengths)):
            found = case.stored(row)
            assert close(found[0], keys[case.rows == row], "bf16")
            assert np.array_equal(found[1], widen(to_bf16(values[case.rows == row])))
        for window, softcap in ((0, 0.0), (17, 3.0)):
            found = case.attend(qkv, slice(None), window, softcap)
            assert close(found, case.expected(queries, window, softcap), precision)

    @pytest.mark.parametrize("rotary", [0, 8, 20])
    def test_only_the_first_part_of_a_head_turns(self, rotary: int) -> None:
        case = Attention(2, 24, rotary=rotary)
        found, expected = case.split(case.place()), case.finished()
        assert close(found[0], expected[0], "fp32")
        assert close(np.concatenate([case.stored(row)[0] for row in range(5)]), expected[1], "fp32")

    def test_queries_and_keys_are_normed_each_by_its_own(self) -> None:
        case = Attention(2, 24, norms=True)
        found, expected = case.split(case.place()), case.finished()
        assert close(found[0], expected[0], "fp32")
        assert close(np.concatenate([case.stored(row)[0] for row in range(5)]), expected[1], "fp32")

    def test_no_other_page_or_layer_is_touched(self) -> None:
        case = Attention(2, 24)
        case.place()
        assert np.isnan(case.keys[case.unused]).all()
        assert np.isnan(case.values[case.unused]).all()
        assert np.isnan(case.keys[:, 0]).all()
        assert np.isnan(case.values[:, 0]).all()

    @pytest.mark.parametrize("precision", PRECISIONS)
    def test_a_row_is_the_same_whatever_the_others_are(self, precision: PrecisionName) -> None:
        case = Attention(3, 64, precision)
        qkv = case.place()
        together = case.attend(qkv, slice(None), 20)
        for index in range(len(case.rows)):
            assert np.array_equal(case.attend(qkv, slice(index, index + 1), 20)[0], together[index])
        order = np.random.default_rng(0).permutation(len(case.rows))
        assert np.array_equal(case.attend(qkv, order, 20), together[order])


@kernel
def _exponentials(x: Array, out: Array) -> None:
    for k in range(len(x)):
        out[k] = kernels._exp(x[k])


@kernel
def _narrowed(x: Array, out: Array) -> None:
    for k in range(len(x)):
        out[k] = narrowed(x[k], out)


def test_exp_is_right_to_the_last_bits_and_bounded_beyond() -> None:
    x = np.concatenate([np.linspace(-87, 88, 200_001), np.linspace(-1e-3, 1e-3, 1001)]).astype(np.float32)
    found = np.empty_like(x)
    _exponentials(x, found)
    expected = np.exp(x.astype(np.float64))
    assert np.abs(found / expected - 1).max() < 4e-7
    ends = np.array([-1e30, -88, 89, 1e30], np.float32)
    found = np.empty_like(ends)
    _exponentials(ends, found)
    assert np.allclose(found, np.exp(np.array([-87.0, -87, 88, 88])), rtol=1e-6)


def test_narrow_rounds_to_the_nearest_even_bfloat16() -> None:
    import torch

    bits = np.random.default_rng(0).integers(0, 2**32, 100_000, dtype=np.uint32)
    halves = bits[:1000] & 0xFFFF0000 | 0x8000
    x = np.concatenate([bits, halves, halves - 1, halves + 1, [0, 0x80000000, 1, 0x7F7FFFFF]]).astype(np.uint32)
    x = x.view(np.float32)
    x = x[np.isfinite(x)]
    expected = torch.from_numpy(x).bfloat16().view(torch.uint16).numpy()
    found = np.empty(len(x), np.uint16)
    _narrowed(x, found)
    assert np.array_equal(found, expected)
    assert np.array_equal(to_bf16(x), expected)


# Processors without the instructions of the one that runs this


def results() -> dict[str, Array]:
    """Return what kernels make of fixed numbers; products are of inputs that no processor has rounded."""
    found: dict[str, Array] = {}
    for precision in PRECISIONS:
        case = Whole.make(13, 100, 136, precision)
        found[f"whole {precision}"] = case.into(case.out()).copy()
        random = np.random.default_rng(5)
        projection = Projection.pack(gaussian(100, 136), None, PRECISIONS[precision])
        inputs = Encoded.room(13, projection.num_inputs, precision, projection.num_groups)
        inputs.scales[:13, : projection.num_groups] = random.random((13, projection.num_groups)) + 0.1
        x = random.standard_normal((13, projection.num_inputs)).astype(np.float32)
        inputs.values[:13] = {
            "fp32": x, "bf16": to_bf16(x), "int8": np.clip(x * 40 + 128, 0, 255), "int4": np.clip(x * 40, -127, 127),
        }[precision]  # fmt: skip
        inputs.sum_up()
        out = np.empty((len(inputs.values), projection.num_outputs), np.float32)
        multiply(inputs, projection, out, 13)
        found[f"product {precision}"] = out[:13, :100]
    attention = Attention(3, 80, "int8", lengths=(5, 33))
    found["attention"] = attention.attend(attention.place(), slice(None), 20, 3.0)
    # So many that some lie where the last bit of an intermediate result decides between two integers.
    inputs = encoded_norm(gaussian(20_000, 128), Projection.pack(gaussian(48, 128), None, PRECISIONS["int8"]), "int8")
    return found | {"norm": inputs.decoded(20_000, 128)}


OLDER = """
import sys
import llvmlite.binding as llvm
llvm.get_host_cpu_features = dict  # none: neither AVX-512 nor dot products of bytes or bfloat16
import numpy as np
import test_cpu_kernels
from llmpar.engine.cpu.precision import BF16, INT8
assert (INT8.is_native, BF16.is_native, test_cpu_kernels.TILE_ROWS) == (False, False, 4)
np.savez(sys.argv[1], **test_cpu_kernels.results())
"""


def test_an_older_processor_computes_the_same_compiled_now_or_before(tmp_path: Path) -> None:
    environment = {
        "NUMBA_CPU_NAME": "haswell" if platform.machine() == "x86_64" else "generic",
        "NUMBA_CPU_FEATURES": "",
        "NUMBA_CACHE_DIR": str(tmp_path / "cache"),
        "PYTHONPATH": os.pathsep.join([str(Path(__file__).parent), str(Path(__file__).parents[2]), *sys.path]),
    }
    found = []
    for name in ("compiled.npz", "loaded.npz"):
        command = [sys.executable, "-W", "error", "-c", OLDER, str(tmp_path / name)]
        done = subprocess.run(command, env={**os.environ, **environment}, capture_output=True, text=True, timeout=120)
        assert done.returncode == 0, done.stderr
        found.append(dict(np.load(tmp_path / name)))
    native = results()
    for name, numbers in native.items():
        assert np.array_equal(found[0][name], found[1][name]), name
        if name.startswith("whole") or name in {"product int8", "product int4"}:
            assert np.array_equal(found[0][name], numbers), name
        else:
            assert close(found[0][name], numbers, "int8" if name in {"attention", "norm"} else "fp32"), name


TILES = """
import sys
from support import emulated_tiles
import numpy as np
import pytest
import test_cpu_kernels
assert test_cpu_kernels.TILE_ROWS == 16
failed = pytest.main(["-q", "-p", "no:cacheprovider", test_cpu_kernels.__file__,
                      "-k", "(TestProduct or TestLikeliest) and (bf16 or int8 or int4)"])
assert {"tdpbusd", "tdpbf16ps"} <= emulated_tiles.calls.keys()
np.savez(sys.argv[1], **test_cpu_kernels.results())
sys.exit(failed)
"""


def test_matrix_registers_compute_the_same(tmp_path: Path) -> None:
    environment = {
        "NUMBA_CACHE_DIR": str(tmp_path / "cache"),
        "PYTHONPATH": os.pathsep.join([str(Path(__file__).parent), str(Path(__file__).parents[2]), *sys.path]),
    }
    command = [sys.executable, "-c", TILES, str(tmp_path / "tiles.npz")]
    done = subprocess.run(command, env={**os.environ, **environment}, capture_output=True, text=True, timeout=300)
    assert done.returncode == 0, done.stdout + done.stderr
    found = np.load(tmp_path / "tiles.npz")
    for name, numbers in results().items():
        if name.startswith("whole") or name in {"product int8", "product int4", "product fp32"}:
            assert np.array_equal(found[name], numbers), name
        else:
            assert close(found[name], numbers, "int8" if name in {"attention", "norm"} else "fp32"), name


def _doubled(number: int) -> int:
    return 2 * number


def test_kept_code_that_is_damaged_is_compiled_again(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("numba.config.CACHE_DIR", str(tmp_path))
    assert kernel(_doubled)(3) == 6
    files = [path for path in tmp_path.rglob("*") if path.is_file()]
    assert {path.suffix for path in files} == {".nbi", ".nbc"}
    for damaged in files:
        whole = damaged.read_bytes()
        for content in (b"", b"no pickle", whole[: len(whole) // 2]):
            damaged.write_bytes(content)
            assert kernel(_doubled)(4) == 8
            assert kernel(_doubled)(5) == 10
    again = kernel(_doubled)
    assert again(6) == 12
    assert again.stats.cache_hits, "what was damaged is kept anew"


def test_code_is_kept_only_where_nobody_else_can_write(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    from llmpar.engine.cpu import compiled

    monkeypatch.setattr("numba.config.CACHE_DIR", str(tmp_path))
    place = compiled._find_place()
    assert place
    assert Path(place).stat().st_mode & 0o777 == 0o700
    Path(place).chmod(0o770)
    assert compiled._find_place() is None
    monkeypatch.setattr("numba.config.CACHE_DIR", "/proc/nowhere")
    assert compiled._find_place() is None
    monkeypatch.setattr(compiled, "_place", None)
    assert kernel(_doubled)(3) == 6
