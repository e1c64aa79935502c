"""Weights kept as files have them: none of their numbers is rounded, and products of them are exact."""

from __future__ import annotations

from typing import Any

import numpy as np
import numpy.typing as npt
import pytest
from support.forms import KINDS, Kind, Whole, bits_of, encoded, multiplied

from llmpar.engine.cpu import grouped, kernels
from llmpar.engine.cpu.dots import INPUT_GROUP, NIBBLES, OCTETS
from llmpar.engine.cpu.projection import Projection
from llmpar.engine.quantized import Quantized, Scales

Array = npt.NDArray[Any]


@pytest.mark.parametrize("name", KINDS)
def test_products_are_exact_for_any_number_of_rows(name: str) -> None:
    kind = KINDS[name]
    weights = kind.draw(70, 256)
    assert grouped.form_of(weights) is kind.dot
    projection = Projection.keep(weights, None, kind.dot)
    random = np.random.default_rng(0)
    x, scales = random.integers(-31, 32, (21, 256)), np.exp2(random.integers(-1, 2, (21, 8)))
    x[:4, :8] = [[127] * 8, [-127] * 8, [127, -127] * 4, [-127, 127] * 4]
    expected = (x * np.repeat(scales, INPUT_GROUP, axis=1)) @ weights.all.weights().T.astype(np.float64)
    for num_rows in (1, 3, 8, 21):
        assert np.array_equal(multiplied(projection, x[:num_rows], scales[:num_rows]), expected[:num_rows])


@pytest.mark.parametrize("name", KINDS)
def test_sums_of_any_scales_are_those_of_numpy(name: str) -> None:
    """Each block's whole sum is multiplied with its scale, an offset added, and that times the inputs' scale added."""
    kind, random = KINDS[name], np.random.default_rng(1)
    weights = kind.draw(50, 256).all
    if kind.scales.startswith("float"):
        weights.scales.values[:] = random.standard_normal(weights.scales.values.shape)
    projection = Projection.keep(Whole(weights), None, kind.dot)
    x, scales = random.integers(-127, 128, (5, 256)), random.random((5, 8)).astype(np.float32)
    expected = (x * np.repeat(scales, INPUT_GROUP, axis=1).astype(np.float64)) @ weights.weights().T.astype(np.float64)
    error = np.abs(multiplied(projection, x, scales) - expected).max()
    assert error <= np.abs(expected).max() * 1e-6


def test_inputs_that_are_no_multiple_of_32_are_filled_up() -> None:
    for kind, width in (
        (Kind(OCTETS, 8, 16), 80),
        (Kind(NIBBLES, 4, 48, offsets="float16"), 144),
        (KINDS["Q6_K"], 272),
    ):
        kind = Kind(kind.dot, kind.bits, kind.group, scales=kind.scales, offsets=kind.offsets)
        weights = kind.draw(20, width)
        projection = Projection.keep(weights, None, kind.dot)
        x = np.random.default_rng(0).integers(-127, 128, (3, width))
        scales = np.ones((3, projection.num_groups), np.float32)
        expected = x @ weights.all.weights().T.astype(np.float64)
        assert np.array_equal(multiplied(projection, x, scales), expected)


@pytest.mark.parametrize(
    ("name", "bits"),
    [("Q4_0", 4.5), ("Q4_1", 5), ("Q4_K", 4.625), ("Q5_K", 8.625), ("Q6_K", 8.5625), ("Q8_0", 8.5), ("AWQ", 4.3125),
     ("IQ4_XS", 4.3125), ("8 bits for a channel", 8.0625)],
)  # fmt: skip
def test_a_weight_takes_few_bits_more_than_in_its_file(name: str, bits: float) -> None:
    assert bits_of(Projection.keep(KINDS[name].draw(48, 256), None, KINDS[name].dot)) == bits


def test_numbers_that_no_shorter_type_holds_stay_float32() -> None:
    weights = KINDS["Q4_0"].draw(48, 256).all
    third = Quantized(weights.codes, 4, Scales(weights.scales.values.astype(np.float32) / 3))
    assert Projection.keep(Whole(third), None, NIBBLES).factors.dtype == np.float32
    kind = KINDS["Q4_K"].draw(48, 256).all
    kind.scales.values[3, 1] = 200  # which int8 does not hold
    projection = Projection.keep(Whole(kind), None, NIBBLES)
    assert not projection.factor_units.size
    x = np.random.default_rng(0).integers(-127, 128, (3, 256))
    expected = x @ kind.weights().T.astype(np.float64)
    assert np.array_equal(multiplied(projection, x, np.ones((3, 8))), expected)


def test_what_no_form_holds_has_none() -> None:
    whole = KINDS["Q4_0"].draw(48, 240).all
    eights = np.zeros((48, 30), np.float16)
    normal = np.linspace(-1, 1, 16, dtype=np.float32)
    assert grouped.form_of(Whole(Quantized(whole.codes, 4, Scales(eights)))) is None, "groups of 8"
    assert grouped.form_of(Whole(Quantized(whole.codes, 4, whole.scales, table=normal))) is None, "a table of fractions"
    assert grouped.form_of(Whole(Quantized(whole.codes, 4, whole.scales, table=128 * normal))) is None, "beyond a byte"


def test_pieces_are_packed_as_the_whole_is(monkeypatch: pytest.MonkeyPatch) -> None:
    weights = KINDS["Q4_K"].draw(300, 256)
    whole = Projection.keep(weights, None, NIBBLES)
    monkeypatch.setattr(grouped, "_PIECE", 1)
    pieces = Projection.keep(weights, None, NIBBLES)
    for name in ("weight", "factors", "factor_units", "biases", "bias_units"):
        assert np.array_equal(getattr(whole, name), getattr(pieces, name)), name


def test_columns_before_the_first_and_its_own_bias() -> None:
    weights = KINDS["Q8_0"].draw(50, 64)
    projection = Projection.keep(weights, np.arange(50, dtype=np.float32), OCTETS)
    x = np.random.default_rng(0).integers(-127, 128, (3, 64))
    values, numbers = encoded(x, np.ones((3, 2)), 64)
    out = np.full((len(values), 7 + projection.num_outputs), 9, np.float32)
    kernels.spread(projection.bias, out, 7, 3, False)
    kernels.product(values, numbers, projection.weights, out, 7, 3, True)
    assert (out[:, :7] == 9).all()
    assert np.array_equal(out[:3, 7:57], x @ weights.all.weights().T.astype(np.float64) + np.arange(50))
