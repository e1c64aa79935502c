"""Our attention over ragged rows, in transformers' registry: a batch is one line of tokens, its rows known to us.

Every row sees the shared prefix, whose keys and values exist once, and then its own tokens. Projections run over the
line without padding; only the short products of attention itself are padded, in groups of rows of similar length.
"""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Any, Protocol

import torch

from llmpar.engine.generic.kv_cache import KVCache

_IMPLEMENTATION = "llmpar"
_MASKED = float("-inf")
_MOST_SCORES = 1 << 24  # elements of one product of attention, which bounds its memory
_PADDED_SHARE = 1.5  # padded over real tokens, up to which rows share a group


class RaggedBatch(Protocol):
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


@dataclass(frozen=True, slots=True)
class PaddedRows:
    """Where the queries of padded rows stand, and from that what each may see; masks are made once for all layers.

    Args:
        columns: (B, L), the column of each query in its own row.
        shares: (B,) which rows begin with the shared prefix; None for all.
    """

    columns: torch.Tensor
    shares: torch.Tensor | None
    _masks: dict[tuple[int | None, int, int], tuple[torch.Tensor | None, torch.Tensor]] = field(default_factory=dict)

    def masks(self, window: int | None, num_prefix: int, num_columns: int) -> tuple[torch.Tensor | None, torch.Tensor]:
        """Return what to add to scores: (B, 1, 1, L, P) for the prefix, None for nothing, and (B, 1, 1, L, T)."""
        key = (window, num_prefix, num_columns)
        if key not in self._masks:
            columns = self.columns[:, :, None]
            age = columns - torch.arange(num_columns, device=columns.device)  # (B, L, T)
            own = age < 0 if window is None else (age < 0) | (age >= window)
            common = None
            if num_prefix and (window is not None or self.shares is not None):
                age = columns + num_prefix - torch.arange(num_prefix, device=columns.device)  # (B, L, P)
                common = age >= (window or num_prefix + num_columns)
                if self.shares is not None:
                    common = common | ~self.shares[:, None, None]
            self._masks[key] = (None if common is None else _added(common), _added(own))
        return self._masks[key]

    def attend(
        self,
        query: torch.Tensor,  # (B, H, L, D)
        keys: torch.Tensor,  # (B, H_kv, D, T), the rows' own
        values: torch.Tensor,  # (B, H_kv, T, D)
        prefix: tuple[torch.Tensor, torch.Tensor] | None,  # (1, H_kv, D, P) and (1, H_kv, P, D), for all rows
        variant: Variant,
    ) -> torch.Tensor:
        """Return (B, H, L, D): softmax over the prefix and the row's own tokens up to each query's."""
        (count, heads, length, _), (num_kv_heads, num_columns) = query.shape, keys.shape[1::2]
        num_prefix = prefix[0].shape[3] if prefix else 0
        common_mask, own_mask = self.masks(variant.window, num_prefix, num_columns)
        query = query * variant.scaling
        step = max(1, _MOST_SCORES // (count * heads * (num_columns + num_prefix)))
        outputs = []
        for first in range(0, length, step):
            part = query[:, :, first : first + step]
            q = part.reshape(count, num_kv_heads, heads // num_kv_heads, part.shape[2], part.shape[3])
            masks = [None if m is None else m[:, :, :, first : first + step] for m in (common_mask, own_mask)]
            outputs.append(_attend(q, keys, values, prefix, masks, variant.softcap))
        return torch.cat(outputs, dim=2) if len(outputs) > 1 else outputs[0]


def _attend(
    q: torch.Tensor,  # (B, H_kv, G, L, D)
    keys: torch.Tensor,
    values: torch.Tensor,
    prefix: tuple[torch.Tensor, torch.Tensor] | None,
    masks: list[torch.Tensor | None],
    softcap: float | None,
) -> torch.Tensor:
    count, num_kv_heads, groups, length, _ = q.shape
    num_queries = groups * length

    def masked(scores: torch.Tensor, mask: torch.Tensor | None) -> torch.Tensor:
        if softcap is not None:
            scores = torch.tanh(scores / softcap) * softcap
        return scores if mask is None else scores + mask

    # Plain products are three times as fast here as SDPA with a mask.
    scores = torch.matmul(q.flatten(2, 3), keys).view(count, num_kv_heads, groups, length, -1)
    scores = masked(scores, masks[1])
    if prefix is None:
        weights = torch.softmax(scores, dim=-1, dtype=torch.float32).to(values.dtype)
        output = torch.matmul(weights.flatten(2, 3), values)
    else:
        num_prefix = prefix[0].shape[3]
        # All rows at once for each head, so that the prefix is read once.
        flat = q.transpose(0, 1).reshape(num_kv_heads, count * num_queries, -1)
        common = torch.bmm(flat, prefix[0][0]).view(num_kv_heads, count, groups, length, num_prefix).transpose(0, 1)
        scores = torch.cat([masked(common, masks[0]), scores], dim=-1)
        weights = torch.softmax(scores, dim=-1, dtype=torch.float32).to(values.dtype)
        flat = weights[..., :num_prefix].transpose(0, 1).reshape(num_kv_heads, count * num_queries, num_prefix)
        common = torch.bmm(flat, prefix[1][0]).view(num_kv_heads, count, num_queries, -1).transpose(0, 1)
        output = torch.matmul(weights[..., num_prefix:].flatten(2, 3), values) + common
    return output.view(count, num_kv_heads * groups, length, -1)


def _added(hidden: torch.Tensor) -> torch.Tensor:
    """Return minus infinity where `hidden` (B, L, T) and 0 elsewhere, as (B, 1, 1, L, T) to add to scores."""
    return torch.zeros(hidden.shape, device=hidden.device).masked_fill_(hidden, _MASKED)[:, None, None]


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
        """Attend causally within each row, after the shared prefix; query (1, H, N, D) becomes (1, N, H, D)."""
        outputs = []
        for group in self._groups:
            q, k, v = (tensor[0][:, group.tokens].transpose(0, 1) for tensor in (query, key, value))  # (B, H, L, D)
            keys, values = self._cache.write(layer, group.slot, k, v)
            output = group.rows.attend(q, keys, values, self._cache.prefix(layer), variant)
            outputs.append(output.transpose(1, 2).flatten(0, 1)[group.real])  # (tokens, H, D)
        return torch.cat(outputs)[None] if len(outputs) > 1 else outputs[0][None]


@dataclass(frozen=True, slots=True)
class _Group:
    """Rows of similar length, padded to the longest: `tokens` (B, L) gathers them, `real` takes the padding out."""

    slot: int
    tokens: torch.Tensor
    real: torch.Tensor
    rows: PaddedRows

    @staticmethod
    def of(slot: int, start: int, lengths: list[int], shares: list[bool], device: torch.device) -> _Group:
        longest = max(lengths)
        columns = torch.arange(longest, device=device).expand(len(lengths), -1)
        sizes = torch.tensor(lengths, device=device)[:, None]
        starts = start + sizes.cumsum(0) - sizes
        # Padding repeats a row's last token; what attention makes of it is dropped.
        tokens = starts + torch.minimum(columns, sizes - 1)
        real = (columns < sizes).flatten().nonzero()[:, 0]
        some = None if all(shares) else torch.tensor(shares, device=device)
        return _Group(slot, tokens, real, PaddedRows(columns, some))


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
        self._rows = PaddedRows(columns[:, None], shares)
        self._length = int(columns.max()) + 1

    def attend(
        self, layer: int, query: torch.Tensor, key: torch.Tensor, value: torch.Tensor, variant: Variant
    ) -> torch.Tensor:
        """Attend from each token to its own row; query (1, H, N, D) becomes (1, N, H, D)."""
        self._cache.append(layer, self._columns, key[0].transpose(0, 1), value[0].transpose(0, 1))
        keys, values = self._cache.rows(layer, len(self._columns), self._length)
        output = self._rows.attend(query.transpose(0, 2), keys, values, self._cache.prefix(layer), variant)
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
    batch: RaggedBatch,
    **_: Any,
) -> tuple[torch.Tensor, None]:
    """Attend as transformers' attention interface asks, over the rows of `batch`, handed through `model(...)`.

    Shapes: `query` (1, H, N, D), `key` and `value` (1, H_kv, N, D); the result is (1, N, H, D) and no weights.
    """
    scaling = query.shape[-1] ** -0.5 if scaling is None else scaling
    layer: Any = module.layer_idx
    return batch.attend(layer, query, key, value, Variant(scaling, sliding_window, softcap)), None


def take_over(model: Any) -> None:
    """Let a transformers model leave attention to us; see `is_supported`."""
    from transformers import AttentionInterface  # who has no model of transformers need not wait for it

    AttentionInterface.register(_IMPLEMENTATION, attend)
    model.set_attn_implementation(_IMPLEMENTATION)


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
