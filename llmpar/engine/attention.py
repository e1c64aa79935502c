"""Our attention over ragged rows, in transformers' registry: a batch is one line of tokens, its rows known to us.

Every row sees the shared prefix, whose keys and values exist once, and then its own tokens. Projections run over the
line without padding; only the short products of attention itself are padded, in groups of rows of similar length.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any, Protocol

import torch
from transformers import AttentionInterface

from llmpar.engine.kv_cache import KVCache

IMPLEMENTATION = "llmpar"
_MASKED = float("-inf")
_MOST_SCORES = 1 << 24  # elements of one product of attention, which bounds its memory
_PADDED_SHARE = 1.5  # padded over real tokens, up to which rows share a group


class Batch(Protocol):
    """The rows of one step, as attention needs them."""

    def attend(
        self, layer: int, query: torch.Tensor, key: torch.Tensor, value: torch.Tensor, variant: Variant
    ) -> torch.Tensor:
        """Remember `key` and `value` (1, H_kv, N, D), and return the output (1, N, H, D) for `query` (1, H, N, D)."""


@dataclass(frozen=True, slots=True)
class Variant:
    """What distinguishes one layer's attention from another's: scale, sliding window, soft cap (Gemma 2)."""

    scaling: float
    window: int | None
    softcap: float | None

    def attend(
        self,
        query: torch.Tensor,  # (B, H, L, D)
        keys: torch.Tensor,  # (B, H_kv, T, D), the rows' own
        values: torch.Tensor,
        prefix: tuple[torch.Tensor, torch.Tensor] | None,  # (1, H_kv, P, D) each, for all rows
        shares: torch.Tensor | None,  # (B,) which rows see the prefix; None for all
        columns: torch.Tensor,  # (B, L), where in its row each query stands
    ) -> torch.Tensor:
        """Return (B, H, L, D): softmax over the prefix and the row's own tokens up to each query's."""
        (count, heads, length, _), num_kv_heads = query.shape, keys.shape[1]
        num_columns = keys.shape[2] + (prefix[0].shape[2] if prefix else 0)
        step = max(1, _MOST_SCORES // (count * heads * num_columns))
        outputs = []
        for first in range(0, length, step):
            part = query[:, :, first : first + step]
            q = part.reshape(count, num_kv_heads, -1, part.shape[2], part.shape[3])  # (B, H_kv, G, L, D)
            outputs.append(self._attend(q, keys, values, prefix, shares, columns[:, first : first + step]))
        return torch.cat(outputs, dim=2) if len(outputs) > 1 else outputs[0]

    def _attend(
        self,
        q: torch.Tensor,
        keys: torch.Tensor,
        values: torch.Tensor,
        prefix: tuple[torch.Tensor, torch.Tensor] | None,
        shares: torch.Tensor | None,
        columns: torch.Tensor,
    ) -> torch.Tensor:
        count, num_kv_heads, groups, length, dim = q.shape
        # Plain products are three times as fast here as SDPA with a mask.
        own = torch.matmul(q.flatten(2, 3), keys.transpose(2, 3)).view(count, num_kv_heads, groups, length, -1)
        age = columns[:, :, None] - torch.arange(keys.shape[2], device=q.device)  # (B, L, T)
        own = self._masked(own, self._visible(age, age >= 0))
        if prefix is None:
            weights = torch.softmax(own, dim=-1, dtype=torch.float32).to(values.dtype)
            output = torch.matmul(weights.flatten(2, 3), values)
        else:
            num_prefix = prefix[0].shape[2]
            # All rows at once for each head, so that the prefix is read once.
            flat = q.transpose(0, 1).reshape(1, num_kv_heads, -1, dim)  # (1, H_kv, B * G * L, D)
            common = torch.matmul(flat, prefix[0].transpose(2, 3)).view(num_kv_heads, count, groups, length, -1)
            common = common.transpose(0, 1)  # (B, H_kv, G, L, P)
            age = columns[:, :, None] + num_prefix - torch.arange(num_prefix, device=q.device)  # (B, L, P)
            shown = None if shares is None else shares[:, None, None].expand_as(age)
            scores = torch.cat([self._masked(common, self._visible(age, shown)), own], dim=-1)
            weights = torch.softmax(scores, dim=-1, dtype=torch.float32).to(values.dtype)
            output = torch.matmul(weights[..., num_prefix:].flatten(2, 3), values)
            heads_first = weights[..., :num_prefix].transpose(0, 1).reshape(1, num_kv_heads, -1, num_prefix)
            from_prefix = torch.matmul(heads_first, prefix[1]).view(num_kv_heads, count, groups * length, -1)
            output = output + from_prefix.transpose(0, 1)
        return output.view(count, num_kv_heads * groups, length, -1)

    def _visible(self, age: torch.Tensor, shown: torch.Tensor | None) -> torch.Tensor | None:
        if self.window is None:
            return shown
        within = age < self.window
        return within if shown is None else shown & within

    def _masked(self, scores: torch.Tensor, visible: torch.Tensor | None) -> torch.Tensor:
        scores = scores * self.scaling
        if self.softcap is not None:
            scores = torch.tanh(scores / self.softcap) * self.softcap
        return scores if visible is None else scores.masked_fill(~visible[:, None, None], _MASKED)


class PrefillBatch:
    """New rows one after another, from slot `first_slot` on.

    Args:
        cache: of the worker.
        first_slot: the first row's; the others follow.
        lengths: tokens of each row, without the shared prefix.
        shares: whether each row begins with the shared prefix.
        device: where the model is.
    """

    def __init__(
        self, cache: KVCache, first_slot: int, lengths: list[int], shares: list[bool], device: torch.device
    ) -> None:
        self._cache = cache
        self._groups: list[_Group] = []
        start = row = 0
        while row < len(lengths):
            end, longest, tokens = row, 0, 0
            while end < len(lengths):
                wider = max(longest, lengths[end])
                if end > row and wider * (end - row + 1) > _PADDED_SHARE * (tokens + lengths[end]):
                    break
                longest, tokens, end = wider, tokens + lengths[end], end + 1
            self._groups.append(_Group.of(first_slot + row, start, lengths[row:end], shares[row:end], device))
            start, row = start + tokens, end

    def attend(
        self, layer: int, query: torch.Tensor, key: torch.Tensor, value: torch.Tensor, variant: Variant
    ) -> torch.Tensor:
        """Attend causally within each row, after the shared prefix."""
        outputs = []
        for group in self._groups:
            q, k, v = (tensor[0][:, group.tokens].transpose(0, 1) for tensor in (query, key, value))  # (B, H, L, D)
            self._cache.write(layer, slice(group.slot, group.slot + len(k)), slice(0, k.shape[2]), k, v)
            prefix = self._cache.prefix(layer)
            output = variant.attend(q, k, v, prefix, group.shares if prefix else None, group.columns)
            outputs.append(output.transpose(1, 2).flatten(0, 1)[group.real])  # (tokens, H, D)
        return torch.cat(outputs)[None] if len(outputs) > 1 else outputs[0][None]


@dataclass(frozen=True, slots=True)
class _Group:
    """Rows of similar length, padded to the longest: `tokens` (B, L) gathers them, `real` takes the padding out."""

    slot: int
    tokens: torch.Tensor
    columns: torch.Tensor
    real: torch.Tensor
    shares: torch.Tensor | None

    @staticmethod
    def of(slot: int, start: int, lengths: list[int], shares: list[bool], device: torch.device) -> _Group:
        longest = max(lengths)
        columns = torch.arange(longest, device=device).expand(len(lengths), -1)
        sizes = torch.tensor(lengths, device=device)[:, None]
        starts = start + sizes.cumsum(0) - sizes
        # Padding repeats a row's last token; what attention makes of it is dropped.
        tokens = starts + torch.minimum(columns, sizes - 1)
        real = (columns < sizes).flatten().nonzero()[:, 0]
        return _Group(slot, tokens, columns, real, None if all(shares) else torch.tensor(shares, device=device))


class DecodeBatch:
    """One new token for each of the slots 0 to B-1.

    Args:
        cache: of the worker.
        columns: (B,) where in its row each token stands, the shared prefix not counted.
        shares: (B,) which rows begin with the shared prefix; None for all.
    """

    def __init__(self, cache: KVCache, columns: torch.Tensor, shares: torch.Tensor | None) -> None:
        self._cache = cache
        self._columns = columns
        self._shares = shares
        self._rows = torch.arange(len(columns), device=columns.device)
        self._length = int(columns.max()) + 1

    def attend(
        self, layer: int, query: torch.Tensor, key: torch.Tensor, value: torch.Tensor, variant: Variant
    ) -> torch.Tensor:
        """Attend from each token to its own row."""
        count = len(self._columns)
        self._cache.write(layer, self._rows, self._columns, key[0].transpose(0, 1), value[0].transpose(0, 1))
        keys, values = self._cache.rows(layer, count, self._length)
        prefix = self._cache.prefix(layer)
        q = query.transpose(0, 2)  # (B, H, 1, D)
        output = variant.attend(q, keys, values, prefix, self._shares if prefix else None, self._columns[:, None])
        return output.permute(2, 0, 1, 3)


def attend(
    module: torch.nn.Module,
    query: torch.Tensor,
    key: torch.Tensor,
    value: torch.Tensor,
    attention_mask: torch.Tensor | None,  # noqa: ARG001 (we make our own)
    scaling: float | None = None,
    sliding_window: int | None = None,
    softcap: float | None = None,
    *,
    batch: Batch,
    **_: Any,
) -> tuple[torch.Tensor, None]:
    """Attend as transformers' attention interface asks, over the rows of `batch`, handed through `model(...)`.

    Shapes: `query` (1, H, N, D), `key` and `value` (1, H_kv, N, D); the result is (1, N, H, D) and no weights.
    """
    scaling = query.shape[-1] ** -0.5 if scaling is None else scaling
    layer: Any = module.layer_idx
    return batch.attend(layer, query, key, value, Variant(scaling, sliding_window, softcap)), None


AttentionInterface.register(IMPLEMENTATION, attend)


def is_supported(model: Any) -> bool:
    """Tell whether a transformers model leaves attention to us, and nothing else in it looks across rows.

    Not so: older architectures, layers that are not attention (Mamba, linear attention), attention sinks, and
    rotary embeddings that follow the longest row of a batch.
    """
    config = model.config.get_text_config()
    kinds = set(getattr(config, "layer_types", None) or ["full_attention"])
    rope = getattr(config, "rope_parameters", None) or {}
    types = {rope.get("rope_type")} | {value.get("rope_type") for value in rope.values() if isinstance(value, dict)}
    return bool(
        model._supports_attention_backend  # noqa: SLF001 (transformers' own class attribute for this question)
        and kinds <= {"full_attention", "sliding_attention"}
        and not types & {"dynamic", "longrope"}
        and not any(hasattr(module, "sinks") for module in model.modules())
    )
