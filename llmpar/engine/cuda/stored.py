"""The parts of a model whose weights are read one by one → a decoder's parts on a GPU."""

from __future__ import annotations

from dataclasses import dataclass

import torch
from torch import nn

from llmpar.engine.cuda.cuts import Cut
from llmpar.engine.cuda.linear import FloatLinear, Linear, joined
from llmpar.engine.cuda.short_weights import floats_of, make_head, make_layer
from llmpar.engine.generic.skeleton import Skeleton
from llmpar.engine.precision_names import PrecisionName
from llmpar.engine.tensor_rows import TensorRows


@dataclass(frozen=True, slots=True)
class Stored:
    """Makes a decoder's parts.

    Args:
        precision: what weights are to be in.
        device: where they will be.
        dtype: of rows, and of weights that are not short.
        skeleton: knows the weights in the model's files; None where the parts have them.
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
        found = floats_of(self._whole(weight), self.dtype, self.device)
        self._used(weight)
        return found

    def head(self, linear: nn.Linear, embedding: torch.Tensor | None) -> Linear:
        """Return the last layer, which may have the embedding's weights (V, H)."""
        bias = self._bias(linear)
        if embedding is not None:
            return FloatLinear(embedding, bias)
        found = make_head(self._whole(linear.weight), bias, self.precision, self.device, self.dtype)
        self._used(linear.weight)
        return found

    def linear(self, linears: tuple[nn.Linear, ...]) -> Linear:
        """Return linear layers with one input as one."""
        return joined([self._one(linear) for linear in linears])

    def _one(self, linear: nn.Linear) -> Linear:
        found = make_layer(self._whole(linear.weight), self._bias(linear), self.precision, self.device, self.dtype)
        self._used(linear.weight)
        return found

    def _bias(self, linear: nn.Linear) -> torch.Tensor | None:
        return None if linear.bias is None else linear.bias.detach().to(self.device, self.dtype)

    def _whole(self, weight: torch.Tensor) -> Cut:
        num_outputs, num_inputs = weight.shape
        rows = self.skeleton.rows[weight] if self.skeleton else TensorRows(weight)
        return Cut(rows, slice(0, num_outputs), slice(0, num_inputs), (num_outputs, num_inputs))

    def _used(self, weight: torch.Tensor) -> None:
        if self.skeleton:
            self.skeleton.give_back(weight)
