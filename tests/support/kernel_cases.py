"""Cases for the CPU's kernels, with what numpy makes of them, and results that two kinds of processors must share."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import numpy as np
import numpy.typing as npt

from llmpar.engine.cpu import draws, heads, kernels
from llmpar.engine.cpu.attention import SPAN
from llmpar.engine.cpu.dots import INPUT_GROUP
from llmpar.engine.cpu.floats import to_bf16
from llmpar.engine.cpu.precision import PANEL, PRECISIONS, round_up
from llmpar.engine.cpu.product import TILE_ROWS
from llmpar.engine.cpu.projection import Projection
from llmpar.engine.cpu.team import ALONE
from llmpar.engine.pages import PAGE
from llmpar.engine.precision_names import PrecisionName
from support.forms import form_results

Array = npt.NDArray[Any]


ROUNDED = {"product bf16", "FP8"}
"""Results that processors round in their own ways, as their products of bfloat16 do; all others are the same."""


CLOSE = {"fp32": 1e-5, "bf16": 2**-8, "int8": 0.02, "int4": 0.2}


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
        groups = width // INPUT_GROUP if kind.dot.bits else num_groups or (1 if kind.group else 0)
        numbers = groups * kind.dot.numbers_per_group
        return Encoded(precision, np.zeros((rows, width), kind.inputs), np.ones((rows, numbers), np.float32))

    def sum_up(self) -> None:
        """Put the sum of each group where kernels put it, beside the scales."""
        if self.precision == "int4":
            groups = self.scales.shape[1] // 4
            for parts in (1, 2):
                sums = self.values.reshape(len(self.values), parts * groups, -1).sum(2, dtype=np.int32)
                self.scales[:, parts * groups : 2 * parts * groups] = sums

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
    kernels.product(ALONE, inputs.values, inputs.scales, projection.weights, out, 0, num_rows, add)


def gaussian(*shape: int, seed: int = 0) -> Array:
    return np.random.default_rng(seed).standard_normal(shape).astype(np.float32)


def normed(x: Array, weight: Array) -> Array:
    x = x.astype(np.float64)
    return x / np.sqrt((x * x).mean(-1, keepdims=True) + EPSILON) * weight


def encoded_norm(x: Array, projection: Projection, precision: PrecisionName) -> Encoded:
    """Return the rows of `x`, normed, as the projection's inputs."""
    inputs = Encoded.room(len(x), projection.num_inputs, precision, projection.num_groups)
    kernels.norm(ALONE, x, np.arange(len(x)), np.ones(x.shape[1], np.float32), EPSILON, inputs.values, inputs.scales)
    return inputs


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
        heads.place(
            ALONE, qkv, self.positions, self.rows, self.tables, cosines, sines, self.norms, EPSILON, self.scaling,
            self.keys, self.values, self.layer, self.heads,
        )  # fmt: skip
        return qkv

    def attend(self, qkv: Array, some: Array | slice = slice(None), window: int = 0, softcap: float = 0) -> Array:
        width = self.heads[0] * self.depth
        positions, rows = self.positions[some], self.rows[some]
        groups = width // self.depth if PRECISIONS[self.precision].group else 0
        room = Encoded.room(len(rows), width, self.precision, groups)
        heads.attend(
            ALONE, qkv[some].copy(), positions, rows, self.tables, self.keys, self.values, self.layer, self.heads,
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
    return found | form_results() | {"norm": inputs.decoded(20_000, 128), "draws": drawn_at_edges()}


def drawn_at_edges() -> Array:
    """Return the tokens drawn by numbers that lie where two tokens meet, up to the last bits of their sums."""
    logits, temperature = gaussian(1, 1000), 0.7
    chances = np.exp((logits[0].astype(np.float64) - logits.max()) / temperature).cumsum()
    uniforms = np.outer(chances[:-1] / chances[-1], 1 + np.arange(-16, 17) * np.finfo(np.float64).eps / 2).ravel()
    count, ids = len(uniforms), np.empty(len(uniforms), np.int64)
    peaks, temperatures = np.full(count, logits.max()), np.full(count, temperature)
    draws.draw(ALONE, logits, np.zeros(count, np.int64), peaks, temperatures, uniforms, ids)
    return ids


def products_of(projection: Projection, x: Array, rows: list[int], precision: PrecisionName) -> Array:
    """Return the products of some rows of `x` (M, K) with a projection's weights, computed together: (rows, N)."""
    inputs = encoded_norm(np.ascontiguousarray(x[rows]), projection, precision)
    out = np.empty((len(inputs.values), projection.num_outputs), np.float32)
    multiply(inputs, projection, out, len(rows))
    return out[: len(rows)]
