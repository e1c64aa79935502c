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
from llmpar.engine.cpu.team import ALONE
from llmpar.engine.quantized import FLOATS_OF_4_EXPONENT_BITS, FLOATS_OF_5_EXPONENT_BITS, Quantized, Scales

Array = npt.NDArray[Any]
# As bitsandbytes has NF4: where 16 equal shares of a normal distribution have their middles.
_NORMAL = np.array(
    [-1, -0.6961928, -0.5250731, -0.3949175, -0.2844414, -0.1847734, -0.0910500, 0, 0.0795803, 0.1609302, 0.2461123,
     0.3379152, 0.4407098, 0.5626170, 0.7229568, 1], np.float32,
)  # fmt: skip


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
    if kind.dot.inputs is np.uint16:  # bfloat16 must hold their products
        scales = np.exp2(np.rint(8 * scales))
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
    [("quarters", 4.25), ("FP8", 8.125), ("FP8 for a channel", 8.0625), ("MXFP4", 4.5),
     ("Q4_0", 4.5), ("Q4_1", 5), ("Q4_K", 4.625), ("Q5_K", 8.625), ("Q6_K", 8.5625), ("Q8_0", 8.5), ("AWQ", 4.3125),
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


@pytest.mark.parametrize("table", [FLOATS_OF_4_EXPONENT_BITS, FLOATS_OF_5_EXPONENT_BITS, _NORMAL])
@pytest.mark.parametrize("scales", ["float16", "float32"])
def test_floats_are_multiplied_as_what_their_codes_stand_for(table: Array, scales: str) -> None:
    """To the last bit, and each of them, which one input of 1 among zeros shows."""
    codes = np.flatnonzero(np.isfinite(table)).astype(np.uint8)
    random = np.random.default_rng(4)
    drawn = np.stack([random.permutation(np.resize(codes, 256)) for _ in range(50)])
    numbers = random.standard_normal((50, 4)).astype(scales)
    weights = Quantized(drawn, 4 if len(table) == 16 else 8, Scales(numbers), table=table)
    form = grouped.form_of(Whole(weights))
    assert form
    projection = Projection.keep(Whole(weights), None, form)
    found = multiplied(projection, np.eye(256), np.ones((256, 8)))
    assert np.array_equal(found, weights.weights().T)
    alone = multiplied(projection, np.eye(256)[:1], np.ones((1, 8)))
    assert np.array_equal(alone, found[:1])


@pytest.mark.parametrize("name", ["quarters", "FP8"])
def test_a_row_of_floats_is_the_same_whatever_the_others_are(name: str) -> None:
    projection = Projection.keep(KINDS[name].draw(100, 256), None, KINDS[name].dot)
    random = np.random.default_rng(5)
    x, scales = random.standard_normal((20, 256)), random.random((20, 8))
    together = multiplied(projection, x, scales)
    for row in range(20):
        assert np.array_equal(multiplied(projection, x[row : row + 1], scales[row : row + 1]), together[row : row + 1])


def test_what_no_form_holds_has_none() -> None:
    whole = KINDS["Q4_0"].draw(48, 240).all
    eights = np.zeros((48, 30), np.float16)
    normal = np.linspace(-1, 1, 256, dtype=np.float32)
    assert grouped.form_of(Whole(Quantized(whole.codes, 4, Scales(eights)))) is None, "groups of 8"
    assert grouped.form_of(Whole(Quantized(whole.codes, 8, whole.scales, table=normal))) is None, "a table of 256"


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
    kernels.product(ALONE, values, numbers, projection.weights, out, 7, 3, True)
    assert (out[:, :7] == 9).all()
    assert np.array_equal(out[:3, 7:57], x @ weights.all.weights().T.astype(np.float64) + np.arange(50))
