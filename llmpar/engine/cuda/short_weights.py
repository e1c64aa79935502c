"""Weights of a model → linear layers on a GPU with few bits each: as its files have them, or rounded when loaded.

fp8 has weights and rows of 8-bit floats, a scale for each output channel and each row. int8 and int4 have codes in
groups, and rows stay what they are. What a file has in as few bits is kept as it is.
"""

from __future__ import annotations

from dataclasses import dataclass, replace

import numpy as np
import torch
from torch import nn
from torch.nn import functional

from llmpar.engine.cuda.codes import Rounded, can_round, keep, rounded_group
from llmpar.engine.cuda.cuts import Cut, Weights
from llmpar.engine.cuda.linear import Float8Linear, FloatLinear, Linear, joined
from llmpar.engine.generic.skeleton import Skeleton, in_pieces
from llmpar.engine.precision_names import PrecisionName
from llmpar.engine.quantized import FLOATS_OF_4_EXPONENT_BITS, Floats, Quantized, has_groups

_BITS: dict[PrecisionName, int] = {"fp8": 8, "int8": 8, "int4": 4}
_HEAD_BITS = 8  # a token's score is one row of it, whose errors nothing evens out
_LARGEST = 448.0  # of floats of 8 bits
_EVEN = 16  # of which a product of such floats has multiples


@dataclass(frozen=True, slots=True)
class Shortener:
    """Makes a decoder's parts.

    Args:
        precision: fp8, int8 or int4.
        device: where they will be.
        dtype: of rows.
        skeleton: of the model, where weights are in its files.
    """

    precision: PrecisionName
    device: torch.device
    dtype: torch.dtype
    skeleton: Skeleton | None

    def tensor(self, tensor: torch.Tensor) -> torch.Tensor:
        """Return a norm's weights (H,), or the frequencies (R / 2,) of a rotary embedding."""
        return tensor.to(self.device)

    def embedding(self, weight: torch.Tensor) -> torch.Tensor:
        """Return the embedding (V, H)."""
        found = floats_of(self._whole(weight), self.dtype).to(self.device)
        self._used(weight)
        return found

    def head(self, linear: nn.Linear, embedding: torch.Tensor | None) -> Linear:
        """Return the last layer, which may have the embedding's weights (V, H)."""
        bias = self._bias(linear)
        if embedding is not None:
            return FloatLinear(embedding, bias)
        found = short_head(self._whole(linear.weight), bias, self.precision, self.device, self.dtype)
        self._used(linear.weight)
        return found

    def linear(self, linears: tuple[nn.Linear, ...]) -> Linear:
        """Return linear layers with one input as one."""
        return joined([self._one(linear) for linear in linears])

    def _one(self, linear: nn.Linear) -> Linear:
        found = shortened(self._whole(linear.weight), self._bias(linear), self.precision, self.device, self.dtype)
        self._used(linear.weight)
        return found

    def _bias(self, linear: nn.Linear) -> torch.Tensor | None:
        return None if linear.bias is None else linear.bias.detach().to(self.device, self.dtype)

    def _whole(self, weight: torch.Tensor) -> Cut:
        num_outputs, num_inputs = weight.shape
        rows = self.skeleton.rows[weight] if self.skeleton else _Tensor(weight)
        return Cut(rows, slice(0, num_outputs), slice(0, num_inputs), (num_outputs, num_inputs))

    def _used(self, weight: torch.Tensor) -> None:
        if self.skeleton:
            self.skeleton.give_back(weight)


def shortened(
    weights: Cut, bias: torch.Tensor | None, precision: PrecisionName, device: torch.device, dtype: torch.dtype
) -> Linear:
    """Return a layer with some weights (N, K) of few bits, and a bias (N,) on the device.

    Args:
        weights: of a matrix; what they are rounded to does not depend on the cut.
        bias: of `dtype`.
        precision: fp8, int8 or int4.
        device: where the layer will be.
        dtype: of rows.

    Raises:
        OtherShape: the cut is not where groups of codes end.
    """
    num_outputs, num_inputs = weights.shape
    if precision != "fp8":
        return _coded(weights, bias, _BITS[precision], device, dtype)
    if num_inputs % _EVEN or num_outputs % _EVEN:
        return FloatLinear(floats_of(weights, dtype).to(device), bias)
    return _float8(weights, bias, device)


def short_head(
    weights: Cut, bias: torch.Tensor | None, precision: PrecisionName, device: torch.device, dtype: torch.dtype
) -> Linear:
    """Return the layer that scores tokens by weights (V, H) of its own: of 8 bits, with fp8 of 16; see `shortened`."""
    if precision == "fp8":
        return FloatLinear(floats_of(weights, dtype).to(device), bias)
    return _coded(weights, bias, _HEAD_BITS, device, dtype)


def even_inputs(source: Weights, precision: PrecisionName) -> int:
    """Return of how many inputs there must be multiples in each part of a matrix (N, K) whose inputs are divided."""
    if precision not in _BITS:
        return 1
    num_inputs, sample = source.shape[1], source[0:1]
    if precision == "fp8":
        return _EVEN
    if not has_groups(sample, _BITS[precision]):
        return rounded_group(num_inputs, _BITS[precision]) if can_round(num_inputs) else 1
    assert isinstance(sample, Quantized)
    return sample.group if sample.group < num_inputs else _EVEN


def floats_of(weights: Cut, dtype: torch.dtype) -> torch.Tensor:
    """Return weights (N, K) on the CPU."""
    whole = torch.empty(weights.shape, dtype=dtype)

    def put(part: slice) -> None:
        whole[part] = torch.from_numpy(weights.floats(part)).to(dtype)

    in_pieces(put, (weights.shape[0], weights.source.shape[1]))
    return whole


def _coded(weights: Cut, bias: torch.Tensor | None, bits: int, device: torch.device, dtype: torch.dtype) -> Linear:
    source = weights.source
    if has_groups(source[0:1], bits):
        return keep(weights, bias, device)
    if can_round(source.shape[1]):
        return keep(replace(weights, source=Rounded(source, bits)), bias, device)
    return FloatLinear(floats_of(weights, dtype).to(device), bias)


def _float8(weights: Cut, bias: torch.Tensor | None, device: torch.device) -> Float8Linear:
    """Return a layer of 8-bit floats. The scale of a row is that of all its inputs, also where they are divided."""
    if is_float8(weights[0:1]):
        codes, scales = np.empty(weights.shape, np.uint8), np.empty((weights.shape[0], 1), np.float32)

        def put(part: slice) -> None:
            some = weights[part]
            assert isinstance(some, Quantized)
            codes[part], scales[part] = np.asarray(some.codes), some.scales.floats()

        in_pieces(put, weights.shape)
        weight = torch.from_numpy(codes).to(device).view(torch.float8_e4m3fn)
        return Float8Linear(weight, torch.from_numpy(scales).to(device).t(), bias)
    (num_outputs, width), num_inputs, columns = weights.shape, weights.source.shape[1], weights.columns
    rows = replace(weights, columns=slice(0, num_inputs), shape=(num_outputs, num_inputs))
    whole = floats_of(rows, torch.float32).to(device)
    largest = whole.abs().amax(1, keepdim=True)
    factors = torch.where(largest > 0, largest / _LARGEST, 1.0)
    some = functional.pad(whole[:, columns], (0, width - (columns.stop - columns.start)))
    return Float8Linear((some / factors).to(torch.float8_e4m3fn), factors.t(), bias)


def is_float8(sample: Quantized | Floats) -> bool:
    """Tell whether rows (n, K) of a matrix are 8-bit floats of four exponent bits, with one scale for each row."""
    return (
        isinstance(sample, Quantized)
        and sample.table is not None
        and sample.offsets is None
        and sample.order is None
        and sample.scales.values.shape[1] == 1
        and np.array_equal(sample.table, FLOATS_OF_4_EXPONENT_BITS, equal_nan=True)
    )


@dataclass(frozen=True, slots=True)
class _Tensor:
    """A matrix of torch's, in float32 where it is looked at."""

    tensor: torch.Tensor

    @property
    def shape(self) -> tuple[int, ...]:
        return tuple(self.tensor.shape)

    def __getitem__(self, rows: slice, /) -> Floats:
        return self.floats(rows)

    def floats(self, rows: slice) -> Floats:
        """Return some rows (n, K)."""
        values: Floats = self.tensor[rows].detach().float().contiguous().numpy()
        return values
