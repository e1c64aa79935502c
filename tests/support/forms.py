"""Random weights in the forms that files have them in."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import numpy as np
import numpy.typing as npt

from llmpar.engine.cpu import kernels
from llmpar.engine.cpu.dots import E4M3, E5M2, FLOAT_LOOKUPS, INPUT_GROUP, LOOKUPS, NIBBLES, OCTETS, SIXES, Dot
from llmpar.engine.cpu.floats import to_bf16
from llmpar.engine.cpu.precision import round_up
from llmpar.engine.cpu.product import TILE_ROWS
from llmpar.engine.cpu.projection import Projection
from llmpar.engine.cpu.team import ALONE
from llmpar.engine.quantized import FLOATS_OF_4_EXPONENT_BITS, FLOATS_OF_5_EXPONENT_BITS, Quantized, Scales

Array = npt.NDArray[Any]


@dataclass
class Whole:
    """A matrix that is there at once."""

    all: Quantized
    name: str = "whole"

    @property
    def shape(self) -> tuple[int, ...]:
        return self.all.codes.shape

    def __getitem__(self, rows: slice) -> Quantized:
        whole = self.all

        def some(scales: Scales) -> Scales:
            return Scales(scales.values[rows], None if scales.units is None else scales.units[rows])

        offsets = None if whole.offsets is None else some(whole.offsets)
        return Quantized(whole.codes[rows], whole.bits, some(whole.scales), offsets, whole.table, whole.order)


@dataclass(frozen=True)
class Kind:
    """What a type of a file has: bits, the inputs of a group, what its scales and offsets are, and `few` of its codes.

    These have sums that float32 holds; all codes have where there are none.
    """

    dot: Dot
    bits: int
    group: int
    signed: bool = True
    scales: str = "float16"
    offsets: str = ""
    shared: int = 1
    table: tuple[float, ...] = ()
    few: tuple[int, ...] = ()

    def draw(self, num_outputs: int, num_inputs: int, seed: int = 0) -> Whole:
        """Return random weights whose products with small whole numbers float32 holds exactly."""
        random = np.random.default_rng([seed, num_outputs, num_inputs])
        half = 1 << self.bits >> 1
        low, high, kind = (-half, half, np.int8) if self.signed else (0, 2 * half, np.uint8)
        codes = random.integers(low, high, (num_outputs, num_inputs)).astype(kind)
        if self.few:
            codes = random.choice(np.array(self.few, kind), codes.shape)
        codes[0, :8] = (self.few or [low, high - 1] * 4)[:8]  # the extremes, beside each other

        def numbers(form: str) -> Scales:
            shape = (num_outputs, num_inputs // self.group)
            if form in ("int8", "uint8"):
                values = random.integers(-7 if form == "int8" else 0, 12, shape)
                units = np.exp2(random.integers(-1, 1, (num_outputs, shape[1] // self.shared))).astype(np.float16)
                return Scales(values.astype(form), units)
            return Scales((random.integers(-8, 8, shape) / 4).astype(form))

        offsets = numbers(self.offsets) if self.offsets else None
        table = np.array(self.table, np.float32) if self.table else None
        return Whole(Quantized(codes, self.bits, numbers(self.scales), offsets, table))


def _near_one(exponent: int) -> tuple[int, ...]:
    """Return the codes of floats of 8 bits, with so many of exponent, from 1/2 to 4 and from -4 to -1/2."""
    mantissa, one = 7 - exponent, (1 << (exponent - 1)) - 1
    return tuple(sign | code for code in range(one - 1 << mantissa, one + 2 << mantissa) for sign in (0, 128))


_NEAR_ONE = {exponent: _near_one(exponent) for exponent in (4, 5)}
IQ4 = (-127, -104, -83, -65, -49, -35, -22, -10, 1, 13, 25, 38, 53, 69, 89, 113)
MXFP4 = (0, 1, 2, 3, 4, 6, 8, 12, 0, -1, -2, -3, -4, -6, -8, -12)
KINDS = {
    "Q4_0": Kind(NIBBLES, 4, 32),
    "Q4_1": Kind(NIBBLES, 4, 32, signed=False, offsets="float16"),
    "Q4_K": Kind(NIBBLES, 4, 32, signed=False, scales="uint8", offsets="uint8", shared=8),
    "Q2_K": Kind(NIBBLES, 2, 16, signed=False, scales="uint8", offsets="uint8", shared=16),
    "Q3_K": Kind(NIBBLES, 3, 16, scales="int8", shared=16),
    "Q5_0": Kind(SIXES, 5, 32),
    "Q5_K": Kind(SIXES, 5, 32, signed=False, scales="uint8", offsets="uint8", shared=8),
    "Q6_K": Kind(SIXES, 6, 16, scales="int8", shared=16),
    "Q8_0": Kind(OCTETS, 8, 32),
    "AWQ": Kind(NIBBLES, 4, 128, signed=False, offsets="int8"),
    "GPTQ, groups of 64": Kind(NIBBLES, 4, 64, scales="float32"),
    "8 bits for a channel": Kind(OCTETS, 8, 256, scales="float32"),
    "8 bits with offsets": Kind(OCTETS, 8, 128, signed=False, offsets="int8"),
    "IQ4_NL": Kind(LOOKUPS, 4, 32, signed=False, table=IQ4),
    "IQ4_XS": Kind(LOOKUPS, 4, 32, signed=False, scales="int8", shared=8, table=IQ4),
    "MXFP4": Kind(LOOKUPS, 4, 32, signed=False, table=MXFP4),
    "quarters": Kind(FLOAT_LOOKUPS, 4, 64, signed=False, table=tuple(code / 4 - 2 for code in range(16))),
    "FP8": Kind(E4M3, 8, 128, signed=False, scales="float32", table=tuple(FLOATS_OF_4_EXPONENT_BITS), few=_NEAR_ONE[4]),
    "FP8 for a channel": Kind(
        E5M2, 8, 256, signed=False, scales="float32", table=tuple(FLOATS_OF_5_EXPONENT_BITS), few=_NEAR_ONE[5]
    ),
}


def encoded(x: Array, scales: Array, width: int, dot: Dot = OCTETS) -> tuple[Array, Array]:
    """Return whole inputs (M, K) and scales (M, K / 32) as kernels take them."""
    if dot.is_scaled:
        floats = np.zeros((round_up(len(x), TILE_ROWS), width), np.float32)
        floats[: len(x), : x.shape[1]] = x * np.repeat(scales, INPUT_GROUP, axis=1)[:, : x.shape[1]]
        return floats if dot.inputs is np.float32 else to_bf16(floats), np.ones((len(floats), 0), np.float32)
    rows, groups = round_up(len(x), TILE_ROWS), width // INPUT_GROUP
    values, numbers = np.zeros((rows, width), np.int8), np.zeros((rows, 4 * groups), np.float32)
    values[: len(x), : x.shape[1]] = x
    numbers[: len(x), :groups] = scales
    for parts in (1, 2):
        sums = values.reshape(rows, parts * groups, -1).sum(2, dtype=np.int32)
        numbers[:, parts * groups : 2 * parts * groups] = sums
    return values, numbers


def multiplied(projection: Projection, x: Array, scales: Array) -> Array:
    values, numbers = encoded(x, scales, projection.num_inputs, projection.dot)
    out = np.empty((len(values), projection.num_outputs), np.float32)
    kernels.product(ALONE, values, numbers, projection.weights, out, 0, len(x), False)
    return out[: len(x), : projection.size]


def bits_of(projection: Projection) -> float:
    """Return the bits that a weight takes, with its share of scales."""
    arrays = (projection.weight, projection.factors, projection.factor_units, projection.biases, projection.bias_units)
    return sum(array.nbytes for array in arrays) * 8 / (projection.num_outputs * projection.num_inputs)


def form_results() -> dict[str, Array]:
    """Return what the kernel makes of fixed numbers in forms that differ in what it does."""
    found, random = {}, np.random.default_rng(3)
    x, scales = random.integers(-127, 128, (13, 256)), random.random((13, 8)).astype(np.float32) + 0.1
    x[0], x[1], x[2, ::2], x[2, 1::2] = 127, -127, 127, -127  # whose sums are as large as any
    for name in (*FORMS_OF_EACH_KIND, *FORMS_OF_FLOATS):
        weights = KINDS[name].draw(100, 256).all
        codes = np.asarray(weights.codes)
        weights.codes[0], weights.codes[1] = codes.min(), codes.max()
        numbers = (
            weights.scales if weights.scales.units is None else weights.scales._replace(values=weights.scales.units)
        )
        numbers.values[:] = random.standard_normal(numbers.values.shape)
        found[name] = multiplied(Projection.keep(Whole(weights), None, KINDS[name].dot), x, scales)
    return found


FORMS_OF_EACH_KIND = ("Q4_K", "IQ4_NL", "Q6_K", "Q8_0")
FORMS_OF_FLOATS = ("quarters", "FP8")
