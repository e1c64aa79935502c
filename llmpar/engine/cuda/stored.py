"""Weights of a model that are in its files → linear layers on a GPU, in the floats that it computes with."""

from __future__ import annotations

from dataclasses import dataclass

import torch
from torch import nn

from llmpar.engine.cuda.linear import FloatLinear, Linear, joined
from llmpar.engine.generic.skeleton import Skeleton, in_pieces
from llmpar.engine.precision_names import PrecisionName


@dataclass(frozen=True, slots=True)
class Stored:
    """Makes a decoder's parts.

    Args:
        device: where they will be.
        dtype: of weights and rows.
        skeleton: knows the weights in the files.
    """

    device: torch.device
    dtype: torch.dtype
    skeleton: Skeleton

    @property
    def precision(self) -> PrecisionName:
        """What is computed in."""
        return "fp32" if self.dtype == torch.float32 else "bf16"

    def tensor(self, tensor: torch.Tensor) -> torch.Tensor:
        """Return a norm's weights (H,), or the frequencies (R / 2,) of a rotary embedding."""
        return tensor.to(self.device)

    def embedding(self, weight: torch.Tensor) -> torch.Tensor:
        """Return the embedding (V, H)."""
        return self._floats(weight)

    def head(self, linear: nn.Linear, embedding: torch.Tensor | None) -> Linear:
        """Return the last layer, which may have the embedding's weights (V, H)."""
        return FloatLinear(self._floats(linear.weight) if embedding is None else embedding, self._bias(linear))

    def linear(self, linears: tuple[nn.Linear, ...]) -> Linear:
        """Return linear layers with one input as one."""
        return joined([FloatLinear(self._floats(each.weight), self._bias(each)) for each in linears])

    def _bias(self, linear: nn.Linear) -> torch.Tensor | None:
        return None if linear.bias is None else linear.bias.detach().to(self.device, self.dtype)

    def _floats(self, weight: torch.Tensor) -> torch.Tensor:
        rows = self.skeleton.rows[weight]
        whole = torch.empty(rows.shape, dtype=self.dtype)

        def put(part: slice) -> None:
            whole[part] = torch.from_numpy(rows.floats(part))

        in_pieces(put, rows.shape)
        rows.give_back()
        return whole.to(self.device)
