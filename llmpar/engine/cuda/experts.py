"""A mixture of experts on a GPU: a layer that takes rows (N, H) and returns (N, H), as an MLP does.

Which experts take a row follows from the row alone, and so do the numbers that come out. Launches and their shapes
follow from the number of rows, so that a step can be recorded.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import torch
import triton
from torch import nn

from llmpar.engine.cuda import experts_kernels as kernels
from llmpar.engine.cuda.kernels import activate
from llmpar.engine.cuda.linear import Linear
from llmpar.engine.parts import ExpertParts

_ROWS = 64  # of a block, always: blocks of other heights are multiplied by other instructions, which round otherwise
_OUTPUTS = 64  # with fewer, another instruction multiplies, which rounds otherwise
_BYTES = 128  # of a row that are multiplied at a time
_LOOKED_AT = 1024  # pairs, at once
_WRITTEN = 1024  # numbers, at once


@dataclass(frozen=True, slots=True)
class Shared:
    """What takes every row, as far as `scale` (1, H) says; see `parts.SharedParts`."""

    gate_up: Linear
    down: Linear
    scale: torch.Tensor
    width: int

    def __call__(self, x: torch.Tensor, activation: str) -> torch.Tensor:
        """Return (N, H) for (N, H)."""
        active = x.new_empty(len(x), self.width)
        activate[(len(x), triton.cdiv(self.width, _WRITTEN))](
            self.gate_up(x), active, self.width, GELU=activation == "gelu_tanh", BLOCK=_WRITTEN, num_warps=4
        )
        return torch.sigmoid(_scores(x, self.scale)) * self.down(active)


@dataclass(frozen=True, slots=True)
class Experts:
    """E experts, of which `num_chosen` take each row; see `parts.ExpertParts`.

    Args:
        router: (E, H), what scores experts.
        gate_up: (E, 2 M, H).
        down: (E, H, M).
        num_chosen: K.
        is_normed: whether the shares of those that are chosen make up 1.
        activation: between the two.
        shared: what takes every row besides; None for nothing.
    """

    router: torch.Tensor
    gate_up: torch.Tensor
    down: torch.Tensor
    num_chosen: int
    is_normed: bool
    activation: str
    shared: Shared | None = None

    @property
    def width(self) -> int:
        """How many numbers a row takes on the way."""
        _, outputs, size = self.gate_up.shape
        return self.num_chosen * (outputs // 2 + size) + size + (3 * self.shared.width + size if self.shared else 0)

    def __call__(self, x: torch.Tensor, /) -> torch.Tensor:
        """Return (N, H) for (N, H)."""
        scores = _scores(x, self.router)
        (num_rows, num_experts), size, inner = scores.shape, x.shape[1], self.down.shape[2]
        num_pairs = num_rows * self.num_chosen
        shares = x.new_empty(num_rows, self.num_chosen, dtype=torch.float32)
        chosen = torch.empty_like(shares, dtype=torch.int32)
        among = triton.next_power_of_2(num_experts)
        kernels.route[(num_rows,)](
            scores, chosen, shares, num_experts, K=self.num_chosen, KP=triton.next_power_of_2(self.num_chosen),
            IS_NORMED=self.is_normed, BLOCK=among, num_warps=1,
        )  # fmt: skip
        num_blocks = most_blocks(num_pairs, num_experts)
        counts, experts = chosen.new_empty(num_experts), chosen.new_empty(num_blocks)
        pairs = chosen.new_empty(num_blocks, _ROWS)
        kernels.count[(num_experts,)](chosen, counts, num_pairs, BLOCK=_LOOKED_AT, num_warps=4)
        kernels.arrange[(num_experts,)](
            chosen, counts, pairs, experts, num_pairs, num_blocks, num_experts,
            ROWS=_ROWS, EXPERTS=among, BLOCK=_LOOKED_AT, num_warps=4,
        )  # fmt: skip
        how = _how(x)
        active, found, out = x.new_empty(num_pairs, inner), x.new_empty(num_pairs, size), torch.empty_like(x)
        kernels.multiply[(triton.cdiv(inner, _OUTPUTS), num_blocks)](
            x, self.gate_up, pairs, experts, active, num_pairs, inner,
            K=self.num_chosen, H=size, GATED=True, GELU=self.activation == "gelu_tanh", **how,
        )  # fmt: skip
        kernels.multiply[(triton.cdiv(size, _OUTPUTS), num_blocks)](
            active, self.down, pairs, experts, found, num_pairs, size, K=1, H=inner, GATED=False, GELU=False, **how
        )
        kernels.combine[(num_rows, triton.cdiv(size, _WRITTEN))](
            found, shares, out, H=size, K=self.num_chosen, BLOCK=_WRITTEN, num_warps=4
        )
        return out if self.shared is None else out.add_(self.shared(x, self.activation))


def experts_of(parts: ExpertParts, activation: str, linear: Callable[[tuple[nn.Linear, ...]], Linear]) -> Experts:
    """Return a mixture with a model's own weights; `linear` makes one layer of several with the same input."""
    shared = None
    if parts.shared:
        layers = (linear(parts.shared.gate_up), linear((parts.shared.down,)))
        shared = Shared(*layers, parts.shared.scale.weight.detach(), parts.shared.down.in_features)
    router, gate_up, down = (each.detach() for each in (parts.router, parts.gate_up, parts.down))
    return Experts(router, gate_up, down, parts.num_chosen, parts.is_normed, activation, shared)


def most_blocks(num_pairs: int, num_experts: int) -> int:
    """Return how many blocks there can be: each expert may have one that is not full, if it has a pair."""
    return min(num_pairs, num_pairs // _ROWS + min(num_pairs, num_experts))


def _scores(x: torch.Tensor, weight: torch.Tensor) -> torch.Tensor:
    """Return rows (N, H) times a few weights (E, H): (N, E).

    A product like all others here. Of so few outputs, cuBLAS makes sums in another order for other numbers of rows.
    """
    (num_rows, size), num_outputs = x.shape, len(weight)
    num_blocks = triton.cdiv(num_rows, _ROWS)
    everyone = torch.arange(num_blocks * _ROWS, dtype=torch.int32, device=x.device)
    scores = x.new_empty(num_rows, num_outputs)
    kernels.multiply[(triton.cdiv(num_outputs, _OUTPUTS), num_blocks)](
        x, weight, everyone, torch.zeros_like(everyone[:num_blocks]), scores, num_rows, num_outputs,
        K=1, H=size, GATED=False, GELU=False, **_how(x),
    )  # fmt: skip
    return scores


def _how(x: torch.Tensor) -> dict[str, Any]:
    """Return how products of rows are computed; the same for any number of them."""
    return {
        "ROWS": _ROWS,
        "BLOCK_N": _OUTPUTS,
        "BLOCK_K": _BYTES // x.element_size(),
        "PRECISION": "ieee" if x.dtype == torch.float32 else "tf32",
        "num_warps": 4,
        "num_stages": 3,
    }
