"""Weights of a model → linear layers on a GPU, of few bits each or many: as its files have them, or rounded.

fp8 has weights and rows of 8-bit floats, a scale for each output channel and each row. int8 and int4 have codes in
groups, and rows stay what they are. What a file has in as few bits is kept as it is.
"""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import torch
from torch.nn import functional

from llmpar.engine.cuda.codes import Rounded, can_round, keep, rounded_group
from llmpar.engine.cuda.cuts import Cut, Weights
from llmpar.engine.cuda.linear import Float8Linear, FloatLinear, Linear
from llmpar.engine.generic.skeleton import in_pieces
from llmpar.engine.precision_names import PrecisionName
from llmpar.engine.quantized import FLOATS_OF_4_EXPONENT_BITS, Floats, Quantized, has_groups

_BITS: dict[PrecisionName, int] = {"int8": 8, "int4": 4}  # of codes
_HEAD_BITS = 8  # a token's score is one row of it, whose errors nothing evens out
_LARGEST = 448.0  # of floats of 8 bits
_EVEN = 16  # of which a product of such floats has multiples


def make_layer(
    weights: Cut, bias: torch.Tensor | None, precision: PrecisionName, device: torch.device, dtype: torch.dtype
) -> Linear:
    """Return a layer with some weights (N, K), and a bias (N,) on the device.

    Args:
        weights: of a matrix; what they are rounded to does not depend on the cut.
        bias: of `dtype`.
        precision: what weights are to be in.
        device: where the layer will be.
        dtype: of rows, and of weights that are not short.

    Raises:
        OtherShape: the cut is not where groups of codes end.
    """
    num_outputs, num_inputs = weights.shape
    if precision in _BITS:
        return _coded(weights, bias, _BITS[precision], device, dtype)
    if precision != "fp8" or num_inputs % _EVEN or num_outputs % _EVEN:
        return FloatLinear(floats_of(weights, dtype, device), bias)
    return _float8(weights, bias, device)


def make_head(
    weights: Cut, bias: torch.Tensor | None, precision: PrecisionName, device: torch.device, dtype: torch.dtype
) -> Linear:
    """Return the layer that scores tokens by weights (V, H) of its own: of 8 bits, or with fp8 of 16.

    For the arguments, see `make_layer`.
    """
    if precision in _BITS:
        return _coded(weights, bias, _HEAD_BITS, device, dtype)
    return FloatLinear(floats_of(weights, dtype, device), bias)


def even_inputs(source: Weights, precision: PrecisionName) -> int:
    """Return of how many inputs there must be multiples in each part of a matrix (N, K) whose inputs are divided."""
    if precision not in _BITS:
        return _EVEN if precision == "fp8" else 1
    num_inputs, sample = source.shape[1], source[0:1]
    if not has_groups(sample, _BITS[precision]):
        return rounded_group(num_inputs, _BITS[precision]) if can_round(num_inputs) else 1
    assert isinstance(sample, Quantized)
    return sample.group if sample.group < num_inputs else _EVEN


def floats_of(weights: Cut, dtype: torch.dtype, device: torch.device) -> torch.Tensor:
    """Return weights (N, K) on a device, of which the host never holds more than some rows."""
    whole = torch.empty(weights.shape, dtype=dtype, device=device)

    def put(part: slice) -> None:
        # Rounded on the device: on a CPU, torch would begin threads of its own for each of ours.
        whole[part] = torch.from_numpy(weights.floats(part)).to(device).to(dtype)

    in_pieces(put, (weights.shape[0], weights.source.shape[1]))
    return whole


def _coded(weights: Cut, bias: torch.Tensor | None, bits: int, device: torch.device, dtype: torch.dtype) -> Linear:
    source = weights.source
    if has_groups(source[0:1], bits):
        return keep(weights, bias, device)
    if can_round(source.shape[1]):
        return keep(replace(weights, source=Rounded(source, bits)), bias, device)
    return FloatLinear(floats_of(weights, dtype, device), bias)


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
    whole = floats_of(rows, torch.float32, device)
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
