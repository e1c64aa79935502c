"""Weights of four bits: how they are rounded, how they lie, and that products of them are exact."""

from __future__ import annotations

from copy import deepcopy
from dataclasses import replace
from typing import Any

import numpy as np
import numpy.typing as npt
import pytest
from support.tiny_models import decoder, make

from llmpar.engine.cpu import four_bits, kernels
from llmpar.engine.cpu.decoder import Decoder, Projection
from llmpar.engine.cpu.from_transformers import TooFar, build_closest
from llmpar.engine.cpu.precision import INT4, PANEL, PRECISIONS, Encoded, Floats, fastest, round_up
from llmpar.engine.cpu.product import TILE_ROWS

Array = npt.NDArray[Any]


def drawn(num_outputs: int, num_inputs: int, seed: int = 0) -> Floats:
    return np.random.default_rng(seed).standard_normal((num_outputs, num_inputs)).astype(np.float32)


def multiplied(projection: Projection, x: Array, scales: Array) -> Array:
    """Return the product of whole inputs (M, K) with scales (M, G) and a projection."""
    num_rows, rows = len(x), round_up(len(x), TILE_ROWS)
    values, numbers = np.zeros((rows, x.shape[1]), np.int8), np.zeros((rows, 2 * scales.shape[1]), np.float32)
    values[:num_rows] = x
    numbers[:num_rows] = np.hstack([scales, x.reshape(num_rows, -1, four_bits.GROUP).sum(2)])
    out = np.empty((rows, projection.num_outputs), np.float32)
    kernels.product(values, numbers, projection.weight, projection.biases, projection.factors, out, num_rows, False)
    return out[:num_rows]


class TestQuantize:
    def test_no_scale_that_the_extreme_gives_loses_less(self) -> None:
        weights = drawn(50, 256)
        whole, scales = four_bits.quantize(weights)
        grouped = weights.reshape(whole.shape)

        def error(scale: Array) -> Array:
            rounded = np.clip(np.rint(grouped / scale[..., None]), -8, 7) * scale[..., None]
            return np.square(rounded - grouped).sum(2)

        found = np.square(whole * scales.astype(np.float32)[..., None] - grouped).sum(2)
        extreme = np.take_along_axis(grouped, np.abs(grouped).argmax(2)[..., None], 2)[..., 0]
        assert (found <= error(extreme / -8) * 1.001).all()
        assert found.sum() < 0.9 * error(extreme / -8).sum()
        assert found.sum() < 0.75 * error(extreme / 7).sum()

    def test_what_four_bits_hold_is_held(self) -> None:
        draw = np.random.default_rng(0)
        whole = draw.integers(-8, 8, (20, 3, four_bits.GROUP))
        whole[..., 5] = -8
        scales = draw.standard_normal((20, 3)).astype(np.float16).astype(np.float32)
        found, found_scales = four_bits.quantize((whole * scales[..., None]).reshape(20, -1).astype(np.float32))
        assert np.array_equal(found, whole)
        assert np.array_equal(found_scales, scales)

    def test_zeros_stay_zeros(self) -> None:
        whole, scales = four_bits.quantize(np.zeros((2, 64), np.float32))
        assert not whole.any()
        assert not scales.any()

    @pytest.mark.parametrize("value", [np.nan, np.inf, -np.inf])
    def test_what_is_no_number_leaves_its_group_none(self, value: float) -> None:
        weights = drawn(2, 64)
        weights[1, 40] = value
        _, scales = four_bits.quantize(weights)
        assert np.isfinite(scales).tolist() == [[True, True], [True, False]]


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
        assert {model.head.precision.name, model.layers[0].down.precision.name} == {"int8", "int4"}


class TestProduct:
    @pytest.mark.parametrize("num_rows", [1, 5, 16])
    def test_is_numpys_to_the_last_bit(self, num_rows: int) -> None:
        draw = np.random.default_rng(num_rows)
        x, scales = draw.integers(-127, 128, (num_rows, 160)), draw.random((num_rows, 5)).astype(np.float32)
        weights = drawn(100, 160)
        whole, factors = four_bits.quantize(weights)
        sums = np.einsum("mgk,ngk->mgn", x.reshape(num_rows, 5, 32), whole.astype(np.int64))  # exact
        expected = np.zeros((num_rows, 100), np.float32)
        for group in range(5):
            value = sums[:, group].astype(np.float32) * factors[:, group].astype(np.float32)
            # float64 holds the product of two float32, and its sum is rounded once: as fused instructions do.
            fused = value.astype(np.float64) * scales[:, group, None].astype(np.float64) + expected
            expected = fused.astype(np.float32)
        found = multiplied(Projection.pack(weights, None, INT4), x, scales)[:, :100]
        assert np.abs(found - expected).max() <= np.abs(expected).max() * 2**-23  # float64 may round a tie first

    def test_groups_may_have_something_added_to_each_weight(self) -> None:
        """Weights from a least one on, as some files have them: no -8 in them, and an offset for each group."""

        def encode(weights: Floats, _: int) -> Encoded:
            grouped = weights.reshape(len(weights), -1, four_bits.GROUP)
            offsets = grouped.min(2).astype(np.float16)
            scales = ((grouped.max(2) - offsets) / 15).astype(np.float16)
            whole = np.rint((grouped - offsets[..., None]) / scales[..., None]).astype(np.int64)
            words = four_bits.pack(np.clip(whole, 0, 15) - 8)
            return Encoded(words, scales.view(np.uint16), offsets.view(np.uint16))

        # Each group has all of 0 to 15, times a power of two, and something added that float16 holds.
        draw = np.random.default_rng(0)
        whole = draw.permuted(np.tile(np.arange(16), (70, 3, 2)), axis=2).astype(np.float32)
        offsets = draw.integers(-40, 40, (70, 3, 1)) / np.float32(4)
        weights = (whole * np.exp2(draw.integers(-2, 2, (70, 3, 1))) + offsets).reshape(70, -1).astype(np.float32)
        projection = Projection.pack(weights, None, replace(INT4, encode=encode))
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
        assert np.array_equal(found, -8 * bits.view(np.float16).astype(np.float32), equal_nan=True)


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
