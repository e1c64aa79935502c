"""A matrix of torch's in the place of one that is in a file."""

from __future__ import annotations

from dataclasses import dataclass

import torch

from llmpar.engine.quantized import Floats


@dataclass(frozen=True, slots=True)
class TensorRows:
    """A tensor (N, K), some of whose rows are looked at at a time, in float32."""

    tensor: torch.Tensor

    @property
    def shape(self) -> tuple[int, ...]:
        """How many rows and columns it has."""
        return tuple(self.tensor.shape)

    def __getitem__(self, rows: slice, /) -> Floats:
        """Return some rows (n, K)."""
        return self.floats(rows)

    def floats(self, rows: slice) -> Floats:
        """Return some rows (n, K)."""
        values: Floats = self.tensor[rows].detach().float().contiguous().numpy()
        return values
