"""Weights of four bits: how they are rounded, how they lie, and that products of them are exact."""

from __future__ import annotations

import os
import platform
import subprocess
import sys
from copy import deepcopy
from dataclasses import replace
from typing import Any

import numpy as np
import numpy.typing as npt
import pytest
from support.tiny_models import decoder, make

from llmpar.engine.cpu import four_bits, kernels
from llmpar.engine.cpu.decoder import Decoder
from llmpar.engine.cpu.from_transformers import TooFar, build_closest
from llmpar.engine.cpu.precision import INT4, PANEL, PRECISIONS, Floats, fastest, round_up
from llmpar.engine.cpu.product import TILE_ROWS
from llmpar.engine.cpu.projection import Projection
from llmpar.engine.cpu.team import ALONE

Array = npt.NDArray[Any]


def drawn(num_outputs: int, num_inputs: int, seed: int = 0) -> Floats:
    return np.random.default_rng(seed).standard_normal((num_outputs, num_inputs)).astype(np.float32)


def multiplied(projection: Projection, x: Array, scales: Array) -> Array:
    """Return the product of whole inputs (M, K) with scales (M, G) and a projection."""
    num_rows, rows = len(x), round_up(len(x), TILE_ROWS)
    values, numbers = np.zeros((rows, x.shape[1]), np.int8), np.zeros((rows, 4 * scales.shape[1]), np.float32)
    values[:num_rows] = x
    sums = [x.reshape(num_rows, -1, size).sum(2) for size in (four_bits.GROUP, four_bits.GROUP // 2)]
    numbers[:num_rows] = np.hstack([scales, *sums])
    out = np.empty((rows, projection.num_outputs), np.float32)
    kernels.product(ALONE, values, numbers, projection.weights, out, 0, num_rows, False)
    return out[:num_rows]


def error(quantized: four_bits.Quantized, weights: Floats) -> float:
    return float(np.square(quantized.weights() - weights).sum())


class TestQuantize:
    def test_it_loses_less_than_the_scales_that_an_extreme_gives(self) -> None:
        weights = drawn(50, 256)
        grouped = weights.reshape(50, -1, four_bits.GROUP)
        extreme = np.take_along_axis(grouped, np.abs(grouped).argmax(2)[..., None], 2)

        def lost(scale: Array) -> Array:
            return np.square(np.clip(np.rint(grouped / scale), -8, 7) * scale - grouped).sum(2)

        found = np.square(four_bits.quantize(weights).weights() - weights).reshape(grouped.shape).sum(2)
        assert (found <= lost(extreme / -8) * 1.001).all()
        assert found.sum() < 0.9 * lost(extreme / -8).sum()
        assert found.sum() < 0.75 * lost(np.abs(extreme) / 7).sum()

    def test_offsets_lose_less_but_are_not_taken_for_little(self) -> None:
        weights = drawn(50, 256)
        with_offsets, without = four_bits.quantize_from_least(weights), four_bits.quantize(weights)
        assert 0.5 < error(with_offsets, weights) / error(without, weights) < 1
        assert four_bits.best_for(weights) is four_bits.quantize
        assert four_bits.best_for(np.abs(weights) + 3) is four_bits.quantize_from_least

    def test_what_four_bits_hold_is_held(self) -> None:
        draw = np.random.default_rng(0)
        whole = draw.integers(0, 16, (20, 3, four_bits.GROUP), np.uint8)
        whole[..., 5] = 0  # the extreme
        scales = draw.standard_normal((20, 3)).astype(np.float16)
        weights = four_bits.Quantized(whole, scales).weights()
        found = four_bits.quantize(weights)
        assert np.array_equal(found.whole, whole)
        assert np.array_equal(found.scales, scales)

    def test_what_four_bits_and_an_offset_hold_is_held(self) -> None:
        draw = np.random.default_rng(0)
        whole = draw.integers(0, 16, (200, 3, four_bits.GROUP), np.uint8)
        whole[::2] //= 3  # of these, few numbers are used
        scales = (0.01 + draw.random((200, 3))).astype(np.float16)
        offsets = -5 * draw.random((200, 3)).astype(np.float16)
        weights = four_bits.Quantized(whole, scales, offsets).weights()
        found = four_bits.quantize_from_least(weights).weights()
        # The whole numbers of every other group begin with a greater one, whose offset float16 may round.
        begins_with_0 = (whole.min(2) == 0)[..., None].repeat(four_bits.GROUP, 2).reshape(weights.shape)
        assert np.array_equal(found[begins_with_0], weights[begins_with_0])
        assert np.abs(found - weights).max() <= 2**-9
        assert four_bits.best_for(weights) is four_bits.quantize_from_least

    @pytest.mark.parametrize("way", [four_bits.quantize, four_bits.quantize_from_least])
    @pytest.mark.parametrize("value", [0, 0.75])
    def test_equal_weights_stay_as_they_are(self, way: Any, value: float) -> None:
        weights = np.full((2, 64), value, np.float32)
        assert np.array_equal(way(weights).weights(), weights)

    @pytest.mark.parametrize("way", [four_bits.quantize, four_bits.quantize_from_least])
    @pytest.mark.parametrize("value", [np.nan, np.inf, -np.inf])
    def test_what_is_no_number_leaves_its_group_none(self, way: Any, value: float) -> None:
        weights = drawn(2, 64)
        weights[1, 40] = value
        found = np.isfinite(way(weights).weights()).reshape(2, 2, 32)
        assert found.all(2).tolist() == [[True, True], [True, False]]
        assert not found[1, 1].any()


class TestLayout:
    def test_four_inputs_in_the_lower_halves_of_a_word_and_four_in_the_upper(self) -> None:
        weights = np.zeros((1, 32), np.float32)
        weights[0, :8] = -8, -7, -6, -5, 4, 5, 6, 7
        projection = Projection.pack(weights, None, INT4)
        assert projection.weight.shape == (1, 4, PANEL, 4)
        stored = projection.weight[0, 0, 0]
        assert (stored & 15).tolist() == [0, 1, 2, 3]
        assert (stored >> 4).tolist() == [12, 13, 14, 15]
        assert projection.factors.view(np.float16)[0, 0, 0] == 1

    def test_a_weight_takes_four_and_a_half_bits(self) -> None:
        projection = Projection.pack(drawn(96, 128), None, INT4)
        arrays = (projection.weight, projection.factors, projection.biases, projection.bias)
        assert sum(array.nbytes for array in arrays) * 8 == 4.5 * 96 * 128

    def test_the_head_of_a_model_keeps_eight_bits(self) -> None:
        model = decoder("llama", "int4")
        assert {model.head.dot.name, model.layers[0].down.dot.name} == {"int8", "int4"}


class TestProduct:
    @pytest.mark.parametrize("num_rows", [1, 5, 16])
    def test_is_numpys_to_the_last_bit(self, num_rows: int) -> None:
        draw = np.random.default_rng(num_rows)
        x, scales = draw.integers(-127, 128, (num_rows, 160)), draw.random((num_rows, 5)).astype(np.float32)
        weights = drawn(100, 160)
        found, factors, _ = four_bits.quantize(weights)
        whole = found.astype(np.int64) - four_bits.MIDDLE
        sums = np.einsum("mgk,ngk->mgn", x.reshape(num_rows, 5, 32), whole)  # exact
        expected = np.zeros((num_rows, 100), np.float32)
        for group in range(5):
            value = sums[:, group].astype(np.float32) * factors[:, group].astype(np.float32)
            # float64 holds the product of two float32, and its sum is rounded once: as fused instructions do.
            fused = value.astype(np.float64) * scales[:, group, None].astype(np.float64) + expected
            expected = fused.astype(np.float32)
        found = multiplied(Projection.pack(weights, None, INT4), x, scales)[:, :100]
        assert np.abs(found - expected).max() <= np.abs(expected).max() * 2**-23  # float64 may round a tie first

    def test_offsets_are_added_to_each_weight(self) -> None:
        # Each group has all of 0 to 15, times a power of two, and something added that float16 holds.
        draw = np.random.default_rng(0)
        whole = draw.permuted(np.tile(np.arange(16), (70, 3, 2)), axis=2).astype(np.float32)
        offsets = draw.integers(-40, 40, (70, 3, 1)) / np.float32(4)
        weights = (whole * np.exp2(draw.integers(-2, 2, (70, 3, 1))) + offsets).reshape(70, -1).astype(np.float32)
        projection = Projection.pack(weights, None, INT4)
        assert projection.biases.dtype == np.uint16
        x = draw.integers(-127, 128, (9, 96))
        found = multiplied(projection, x, np.full((9, 3), 0.5, np.float32))[:, :70]
        assert np.array_equal(found, x @ weights.T.astype(np.float64) / 2)

    def test_every_float16_is_a_scale(self) -> None:
        bits = np.arange(1 << 16, dtype=np.uint16)
        weights = np.zeros((len(bits), four_bits.GROUP), np.float32)
        weights[:, 0] = 1  # the extreme of its group, which is stored as -8
        projection = Projection.pack(weights, None, INT4)
        assert set(projection.weight[0, 0, :, 0].tolist()) == {0x80}
        projection.factors[:] = np.resize(bits, projection.factors.shape)
        x = np.zeros((1, four_bits.GROUP), np.int64)
        x[0, 0] = 1
        found = multiplied(projection, x, np.ones((1, 1), np.float32))[0, : len(bits)]
        with np.errstate(invalid="ignore"):  # some of them are no numbers
            expected = -8 * bits.view(np.float16).astype(np.float32)
        assert np.array_equal(found, expected, equal_nan=True)


COMPILED = """
import re
from collections import Counter
from numba import njit, types
from llmpar.engine.cpu import kernels
from llmpar.engine.cpu.compiled import OPTIONS
from llmpar.engine.cpu.dots import Nibbles
from llmpar.engine.cpu.instructions import HERE

def array(kind, dimensions):
    return types.Array(kind, dimensions, "C")

product = njit(**OPTIONS)(kernels._panels.py_func)
none = types.none
weights = types.NamedTuple(
    [array(types.uint8, 4), array(types.uint16, 3), none, none, none, none, types.float32], Nibbles
)
product.compile((types.intp, types.intp, array(types.int8, 2), array(types.float32, 2), weights,
                 array(types.float32, 2), types.intp, types.intp, types.boolean))
found = Counter(re.findall(r"^\\s+(vp\\w+)", next(iter(product.inspect_asm().values())), re.MULTILINE))
cells = sum(rows * vectors for rows, vectors in HERE.shapes)
print(cells, found["vpdpbusd"], found["vpmaddwd"], found["vpmulld"], found["vpmaddubsw"])
"""


@pytest.mark.skipif(platform.machine() != "x86_64", reason="these are instructions of x86")
@pytest.mark.parametrize(
    ("processor", "features", "expected"),
    [
        ("icelake-server", "avx512f,avx512bw,avx512vl,avx512dq,avx512vnni", [21, 84, 0, 0]),
        ("skylake-avx512", "avx512f,avx512bw,avx512vl,avx512dq", [21, 0, 21, 0]),
        ("haswell", "avx2,fma,f16c", [13, 0, 26, 0]),  # each vector is two registers there
    ],
)
def test_every_processor_gets_its_own_instructions(processor: str, features: str, expected: list[int]) -> None:
    environment = {
        "NUMBA_CPU_NAME": processor,
        "NUMBA_CPU_FEATURES": ",".join(f"+{name}" for name in features.split(",")),
    }
    command = [sys.executable, "-c", COMPILED]
    done = subprocess.run(command, env={**os.environ, **environment}, capture_output=True, text=True, timeout=900)
    assert done.returncode == 0, done.stderr
    *found, num_pairs = (int(number) for number in done.stdout.split())
    assert found == expected
    # Sums of pairs are added up once in a group of 32 inputs, however many words of it LLVM puts into a turn of a loop.
    num_sums = expected[2]
    assert bool(num_pairs) == bool(num_sums)
    assert num_pairs >= 2 * num_sums, "a word has eight codes, which two instructions multiply"


class TestChoice:
    def test_it_is_never_taken_unasked(self) -> None:
        assert all(fastest(bits).name != "int4" for bits in range(1, 33))

    def test_what_is_too_far_off_is_passed_over_and_told(self, monkeypatch: pytest.MonkeyPatch) -> None:
        for name in ("int4", "int8"):
            monkeypatch.setitem(PRECISIONS, name, replace(PRECISIONS[name], tolerance=0))  # type: ignore[misc]
        said: list[str] = []
        found = build_closest(deepcopy(make("llama")), "int4", said.append)
        assert isinstance(found, Decoder)
        assert found.precision.name == "bf16"
        assert [line.split(":")[0] for line in said] == ["int4 is passed over for int8", "int8 is passed over for bf16"]

    def test_where_none_is_close_the_reason_is_that_of_the_longest(self, monkeypatch: pytest.MonkeyPatch) -> None:
        for name in PRECISIONS:
            monkeypatch.setitem(PRECISIONS, name, replace(PRECISIONS[name], tolerance=0))
        said: list[str] = []
        with pytest.raises(TooFar):
            build_closest(deepcopy(make("llama")), "bf16", said.append)
        assert len(said) == 1
