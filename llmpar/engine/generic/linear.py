"""Faster modules in a model's own places: fused projections and one-pass norms. Knows no architecture.

What is replaced is recognised by its parts (`q_proj`, `k_proj`, `v_proj`; `gate_proj`, `up_proj`; a norm that a fused
one equals), so that every architecture built of them profits, and what is not recognised stays as it is.
"""

from __future__ import annotations

import threading
from typing import Any

import torch
from torch import nn
from torch.nn import functional

_GROUPS = (("q_proj", "k_proj", "v_proj"), ("gate_proj", "up_proj"))


def optimize(model: nn.Module) -> None:
    """Replace the modules of a model in place, each giving what it gave before up to rounding.

    Args:
        model: in evaluation mode.
    """
    for module in list(model.modules()):
        for names in _GROUPS:
            parts = [getattr(module, name, None) for name in names]
            if all(type(part) is nn.Linear for part in parts):
                _fuse(module, names, [part for part in parts if isinstance(part, nn.Linear)])
        for name, child in list(module.named_children()):
            if (norm := _fused_norm(child)) is not None:
                setattr(module, name, norm)


class _Fused:
    """Several linear layers with one input, computed as one product when the first is asked for."""

    def __init__(self, linears: list[nn.Linear]) -> None:
        weight = torch.cat([linear.weight.detach() for linear in linears])
        biases = [linear.bias for linear in linears]
        bias = torch.cat([b.detach() for b in biases]) if all(b is not None for b in biases) else None
        self._sizes = [linear.out_features for linear in linears]
        self._weight, self._bias = weight, bias
        # Workers share the module, and each has its own products under way.
        self._mine = threading.local()

    def part(self, index: int, x: torch.Tensor) -> torch.Tensor:
        if index == 0:
            product: Any = functional.linear(x, self._weight, self._bias)
            self._mine.parts = product.split(self._sizes, dim=-1)
        part: torch.Tensor = self._mine.parts[index]
        if index == len(self._sizes) - 1:
            del self._mine.parts
        return part


class _Part(nn.Module):
    """One of several fused layers, in the place where it was. The first must be called first."""

    def __init__(self, fused: _Fused, index: int) -> None:
        super().__init__()
        self._fused = fused
        self._index = index

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        """Return (…, out_features) of this layer for (…, in_features)."""
        return self._fused.part(self._index, x)


def _fuse(module: nn.Module, names: tuple[str, ...], linears: list[nn.Linear]) -> None:
    alike = len({linear.in_features for linear in linears}) == 1
    if alike and len({linear.bias is None for linear in linears}) == 1:
        fused = _Fused(linears)
        for index, name in enumerate(names):
            setattr(module, name, _Part(fused, index))


class _RMSNorm(nn.Module):
    """Root mean square norm in one operation (Zhang & Sennrich 2019)."""

    def __init__(self, weight: torch.Tensor, epsilon: float) -> None:
        super().__init__()
        self._weight = weight
        self._epsilon = epsilon

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        """Return the normed `x`, same shape."""
        return functional.rms_norm(x, self._weight.shape, self._weight, self._epsilon)


def rms_norm(module: nn.Module) -> tuple[torch.Tensor, float] | None:
    """Return the weight (H,) and epsilon with which `functional.rms_norm` equals `module`, None if there are none.

    It is tried, not guessed from a name: some models store the weight less 1.
    """
    weight = getattr(module, "weight", None)
    epsilon = getattr(module, "variance_epsilon", getattr(module, "eps", None))
    if "RMSNorm" not in type(module).__name__ or not isinstance(weight, torch.Tensor) or not isinstance(epsilon, float):
        return None
    sample = torch.linspace(-2, 3, 4 * len(weight)).view(4, -1).to(weight)
    expected = module(sample)
    for candidate in (weight.detach(), 1 + weight.detach()):
        found = functional.rms_norm(sample, weight.shape, candidate, epsilon)
        if torch.allclose(found, expected, rtol=1e-5 if weight.dtype == torch.float32 else 2e-2, atol=1e-6):
            return candidate, epsilon
    return None


def _fused_norm(module: nn.Module) -> nn.Module | None:
    """Return a fused norm that equals `module`, None if there is none."""
    found = rms_norm(module)
    return None if found is None else _RMSNorm(*found)
