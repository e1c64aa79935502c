"""One of several shares of a decoder, each on a rank of torch's process group, and what these say to each other.

The cut is Megatron's (Shoeybi et al. 2019): heads and columns of the MLP are divided by output channels, what follows
them by input channels, so that all that is missing are two sums a layer. Tokens are divided, too: each rank has the
embeddings and the scores of some. Rank 0 gathers the scores and chooses, and its choice is everyone's.

All of it is given out like other work on a device, and recorded with it.
"""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import Any

import torch
from torch import distributed
from torch.nn import functional

# Newer versions of torch have it under another name, and warn of this one.
_gather: Any = getattr(distributed, "all_gather_single", None) or distributed.all_gather_into_tensor
_EVEN = 16  # of which what does not divide is made a multiple, with nothing: products like such widths


@dataclass(frozen=True, slots=True)
class Share:
    """What a decoder knows of its being one of several.

    Args:
        rank: which one it is.
        size: how many there are.
        vocabulary: how many tokens all of them know.
    """

    rank: int
    size: int
    vocabulary: int

    def cut(self, length: int, even: int = 1) -> tuple[slice, int]:
        """Return this rank's part of so many rows or columns, and how many each has, filled up where it has fewer.

        Each has a multiple of `even`.
        """
        step = math.lcm(even, _EVEN if length % self.size else 1)
        each = -(-length // self.size // step) * step
        first = min(length, self.rank * each)
        return slice(first, min(length, first + each)), each

    def add(self, part: torch.Tensor) -> torch.Tensor:
        """Return the sum of all ranks' parts of rows (N, H), which this rank's own may become.

        It is made in the order of the ranks, and so is the same for any number of rows. Of two numbers there is but
        one sum; of more, a ring makes it in as many orders as there are ranks, by where a number stands.
        """
        if self.size > 2:
            return self._add_in_order(part)
        distributed.all_reduce(part)
        return part

    def _add_in_order(self, part: torch.Tensor) -> torch.Tensor:
        """Return the sum (N, H) of all parts: each rank adds some numbers and gives them to all, as in a ring."""
        count = part.numel()
        flat = functional.pad(part.view(-1), (0, -count % self.size))
        theirs, whole = torch.empty_like(flat), torch.empty_like(flat)
        distributed.all_to_all_single(theirs, flat)
        own, *others = theirs.view(self.size, -1)
        for other in others:
            own = own + other
        _gather(whole, own)
        return whole[:count].view(part.shape)

    def embed(self, ids: torch.Tensor, embedding: torch.Tensor) -> torch.Tensor:
        """Return the embeddings (N, H) of tokens, of which each rank has some."""
        own = ids - self.rank * len(embedding)
        is_own = (own >= 0) & (own < len(embedding))
        found = functional.embedding(torch.where(is_own, own, 0), embedding)
        # Not multiplied: another's token must not fail for what is not finite in ours.
        return self.add(torch.where(is_own[:, None], found, 0))

    def gather(self, part: torch.Tensor) -> torch.Tensor | None:
        """Return on rank 0 the logits (B, V) of all tokens, of which each rank has some; None on the others."""
        if self.rank:
            distributed.gather(part, dst=0)
            return None
        parts = part.new_empty(self.size, *part.shape)
        distributed.gather(part, list(parts), dst=0)
        whole = parts.transpose(0, 1).reshape(len(part), -1)
        return whole[:, : self.vocabulary].contiguous()

    def go_on(
        self, chosen: torch.Tensor, slots: torch.Tensor, ids: torch.Tensor, positions: torch.Tensor, num_slots: int
    ) -> None:
        """Let slots (B,) go on from the tokens (B,) that rank 0 has chosen, as they do there; see `kernels.choose`."""
        distributed.broadcast(chosen, src=0)
        if self.rank:
            is_there, index = slots < num_slots, slots.long()
            ids[index] = torch.where(is_there, chosen.clamp(min=0), 0)
            positions[index] += is_there

    def least(self, number: float) -> float:
        """Return the least of all ranks' numbers."""
        return self._together(number, distributed.ReduceOp.MIN)

    def of_first(self, number: float) -> float:
        """Return rank 0's number."""
        return self._together(0.0 if self.rank else number, distributed.ReduceOp.SUM)

    def _together(self, number: float, how: Any) -> float:
        on_cpu = distributed.get_backend() == "gloo"
        found = torch.tensor([number], dtype=torch.float64, device="cpu" if on_cpu else "cuda")
        distributed.all_reduce(found, how)
        return float(found)
