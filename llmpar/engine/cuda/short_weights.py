"""Weights of a model → linear layers on a GPU with few bits each: as its files have them, or rounded when loaded.

fp8 has weights and rows of 8-bit floats, a scale for each output channel and each row. int8 and int4 have codes in
groups, and rows stay what they are. What a file has in as few bits is kept as it is.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import torch
from torch import nn

from llmpar.engine.cuda.codes import Rounded, can_round, keep
from llmpar.engine.cuda.linear import Float8Linear, FloatLinear, Linear, joined
from llmpar.engine.generic.skeleton import Skeleton, in_pieces
from llmpar.engine.precision_names import PrecisionName
from llmpar.engine.quantized import FLOATS_OF_4_EXPONENT_BITS, Floats, Quantized, has_groups
from llmpar.engine.source import SourceRows

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
        return self._floats(weight, self.dtype).to(self.device)

    def head(self, linear: nn.Linear, embedding: torch.Tensor | None) -> Linear:
        """Return the last layer: the embedding (V, H), if it has its weights, else one of 8 bits, with fp8 of 16."""
        bias = self._bias(linear)
        if embedding is not None:
            return FloatLinear(embedding, bias)
        return self._plain(linear, bias) if self.precision == "fp8" else self._codes(linear, bias, _HEAD_BITS)

    def linear(self, linears: tuple[nn.Linear, ...]) -> Linear:
        """Return linear layers with one input as one."""
        return joined([self._one(linear) for linear in linears])

    def _one(self, linear: nn.Linear) -> Linear:
        bias = self._bias(linear)
        if self.precision != "fp8":
            return self._codes(linear, bias, _BITS[self.precision])
        if linear.in_features % _EVEN or linear.out_features % _EVEN:
            return self._plain(linear, bias)
        return self._float8(linear, bias)

    def _codes(self, linear: nn.Linear, bias: torch.Tensor | None, bits: int) -> Linear:
        rows = self._rows(linear.weight)
        if has_groups(rows[0:1], bits):
            found = keep(rows, bias, self.device)
        elif can_round(linear.in_features):
            found = keep(Rounded(rows, bits), bias, self.device)
        else:
            return self._plain(linear, bias)
        self._used(linear.weight)
        return found

    def _float8(self, linear: nn.Linear, bias: torch.Tensor | None) -> Float8Linear:
        rows = self._rows(linear.weight)
        if is_float8(rows[0:1]):
            codes, scales = np.empty(rows.shape, np.uint8), np.empty((rows.shape[0], 1), np.float32)

            def put(part: slice) -> None:
                some = rows[part]
                assert isinstance(some, Quantized)
                codes[part], scales[part] = np.asarray(some.codes), some.scales.floats()

            in_pieces(put, rows.shape)
            weight = torch.from_numpy(codes).to(self.device).view(torch.float8_e4m3fn)
            found = Float8Linear(weight, torch.from_numpy(scales).to(self.device).t(), bias)
        else:
            whole = self._floats(linear.weight, torch.float32).to(self.device)
            largest = whole.abs().amax(1, keepdim=True)
            factors = torch.where(largest > 0, largest / _LARGEST, 1.0)
            found = Float8Linear((whole / factors).to(torch.float8_e4m3fn), factors.t(), bias)
        self._used(linear.weight)
        return found

    def _plain(self, linear: nn.Linear, bias: torch.Tensor | None) -> FloatLinear:
        return FloatLinear(self._floats(linear.weight, self.dtype).to(self.device), bias)

    def _bias(self, linear: nn.Linear) -> torch.Tensor | None:
        return None if linear.bias is None else linear.bias.detach().to(self.device, self.dtype)

    def _floats(self, weight: torch.Tensor, dtype: torch.dtype) -> torch.Tensor:
        """Return a weight (N, K) on the CPU."""
        rows = self._rows(weight)
        whole = torch.empty(rows.shape, dtype=dtype)

        def put(part: slice) -> None:
            whole[part] = torch.from_numpy(rows.floats(part)).to(dtype)

        in_pieces(put, rows.shape)
        self._used(weight)
        return whole

    def _rows(self, weight: torch.Tensor) -> SourceRows | _Tensor:
        return self.skeleton.rows[weight] if self.skeleton else _Tensor(weight)

    def _used(self, weight: torch.Tensor) -> None:
        if self.skeleton:
            self.skeleton.give_back(weight)


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
