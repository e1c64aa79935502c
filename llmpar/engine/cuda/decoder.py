"""A decoder of the Llama shape on a GPU: its weights, and one pass of tokens through its layers.

Knows no sequences; whose tokens these are is told by slots, positions and page tables.
"""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass, replace

import torch
import triton
from torch.nn import functional

from llmpar.engine.cuda import kernels
from llmpar.engine.cuda.experts import Experts
from llmpar.engine.cuda.linear import FloatLinear, Linear, moved, scratch
from llmpar.engine.cuda.share import Share
from llmpar.engine.cuda.sizes import most_recorded, pass_size, step_size
from llmpar.engine.generic.attention import Variant
from llmpar.engine.pages import PAGE, num_pages_of
from llmpar.engine.precision_names import PrecisionName

_PROMPT_ROWS = 64  # queries times tokens that one program of attention takes of a prompt
_PREFIX_ROWS = 64
# Positions whose keys a program takes at once, of prompts and in steps. Both are cut at multiples of it, however many
# rows there are and wherever the prefix ends, so that attention's sums are made in one order. As measured on an H100,
# small programs hide each other's waiting best.
BLOCK, _STEP_BLOCK = 64, 32
_WIDE = 256  # bytes of a head
_WORTH_SHARING = 128  # tokens of a prefix, from which on reading it once for all rows beats finding it in the cache


@dataclass(frozen=True, slots=True)
class Layer:
    """One layer; see `parts.LayerParts`."""

    attention_norm: torch.Tensor
    qkv: Linear
    head_norms: torch.Tensor | None
    output: Linear
    after_attention_norm: torch.Tensor | None
    mlp_norm: torch.Tensor
    gate_up: Linear | None
    down: Linear | None
    after_mlp_norm: torch.Tensor | None
    rope: int
    variant: Variant
    experts: Experts | None = None
    wide_norms: tuple[torch.Tensor, torch.Tensor] | None = None


@dataclass(frozen=True, slots=True)
class Tokens:
    """N tokens of one pass: `ids` int64, `positions` and `slots` int32, each (N,).

    `starts` and `counts` (B,) int32 cut them into blocks: neighbours in one sequence, at most `most` of them.
    """

    ids: torch.Tensor
    positions: torch.Tensor
    slots: torch.Tensor
    starts: torch.Tensor
    counts: torch.Tensor
    most: int


@dataclass(frozen=True, slots=True)
class PagedCache:
    """Where the keys and values of one worker are.

    `pages` (layers, 2, pages, H_kv, PAGE, D) and `tables` (slots, W) int32; the first `prefix_length` positions, whole
    pages, of slots with `shares` (slots,) int32 are in the first pages. Pages of bytes have `exponents` (layers, 2,
    pages, H_kv, PAGE) int8; see `short_keys_kernels`.
    """

    pages: torch.Tensor
    tables: torch.Tensor
    shares: torch.Tensor
    prefix_length: int
    exponents: torch.Tensor | None = None

    def copy(self, source: int, targets: torch.Tensor) -> None:
        """Copy a page to others (n,) int64."""
        for each in (self.pages, self.exponents):
            if each is not None:
                each[:, :, targets] = each[:, :, source : source + 1]


@dataclass(frozen=True, slots=True)
class Decoder:
    """A whole model; its workers share it, and nothing writes to it."""

    layers: tuple[Layer, ...]
    ropes: tuple[tuple[torch.Tensor, float], ...]
    embedding: torch.Tensor
    embedding_scale: float
    final_norm: torch.Tensor
    head: Linear
    context_length: int
    softcap: float
    epsilon: float
    activation: str
    mlp_size: int
    num_heads: int
    num_kv_heads: int
    head_dim: int
    precision: PrecisionName
    is_steady: bool = True
    """Whether a row's numbers are the same however many rows there are, as far as was tried."""
    share: Share | None = None
    """Which share of a model this is; None for a whole one. Heads, columns and weights are the share's own."""
    has_short_keys: bool = False
    """Whether keys and values have 8 bits."""

    @property
    def vocabulary(self) -> int:
        """How many tokens there are."""
        return self.share.vocabulary if self.share else len(self.embedding)

    @property
    def device(self) -> torch.device:
        """Where it is."""
        return self.embedding.device

    @property
    def dtype(self) -> torch.dtype:
        """What it computes in."""
        return self.embedding.dtype

    @property
    def page_bytes(self) -> int:
        """The size of a page of keys and values in all layers."""
        each = self.head_dim + 1 if self.has_short_keys else self.head_dim * self.embedding.element_size()
        return len(self.layers) * 2 * self.num_kv_heads * PAGE * each

    @property
    def layer_weights(self) -> int:
        """How many weights each layer multiplies a token with."""
        heads = 2 * (self.num_heads + self.num_kv_heads) * self.head_dim
        return self.embedding.shape[1] * (heads + 3 * self.mlp_size)

    def recorded_bytes(self, num_tokens: int, num_rows: int) -> int:
        """Return how many bytes what is recorded takes, of which never two run at once: passes of prompts, and steps.

        Args:
            num_tokens: of the largest pass, recorded or not.
            num_rows: of the largest step.
        """
        recorded = most_recorded(num_tokens, self.layer_weights)
        rows = step_size(num_rows)
        scores = (2 if self.share else 1) * self.vocabulary  # gathered, and put in order
        return max(recorded * self._widths, rows * (self._widths + scores)) * self.embedding.element_size()

    @property
    def _widths(self) -> int:
        """How many numbers a token takes at most while it is in a layer."""
        experts = self.layers[0].experts
        plain = 3 * self.mlp_size + 4 * self.embedding.shape[1] + 4 * self.num_heads * self.head_dim
        return plain + (experts.width if experts else 0)

    def bytes_beside(self, num_tokens: int, num_rows: int, length: int) -> int:
        """Return how many bytes a worker takes beside its pages.

        They are for a pass of `num_tokens`, for steps of `num_rows`, for both once more where they are recorded, which
        has memory of its own, and for tables of sequences of `length`.
        """
        read = most_recorded(num_tokens, self.layer_weights) * self.embedding.shape[1]  # what a recorded pass returns
        passing = (num_tokens * self._widths + num_rows * self.vocabulary + read) * self.embedding.element_size()
        passing += self.recorded_bytes(num_tokens, num_rows)
        linears = (each for one in self.layers for each in (one.qkv, one.output, one.gate_up, one.down))
        rows = step_size(num_rows)
        most = max(pass_size(num_tokens), rows)
        written = max(scratch(self.head, rows), *(scratch(each, most) for each in linears if each))
        written *= self.embedding.element_size()
        angles = sum(4 * 4 * length * len(frequencies) for frequencies, _ in self.ropes)  # with what they are made of
        return passing + written + angles + 4 * num_rows * (num_pages_of(length) + self.vocabulary // 32)

    def make_pages(self, count: int) -> torch.Tensor:
        """Return room for the keys and values of pages: (layers, 2, count, H_kv, PAGE, D); see `PagedCache`."""
        shape = (len(self.layers), 2, count, self.num_kv_heads, PAGE, self.head_dim)
        return torch.empty(shape, dtype=torch.uint8 if self.has_short_keys else self.dtype, device=self.device)

    def make_exponents(self, count: int) -> torch.Tensor | None:
        """Return room for their exponents (layers, 2, count, H_kv, PAGE), if they have such."""
        shape = (len(self.layers), 2, count, self.num_kv_heads, PAGE)
        return torch.empty(shape, dtype=torch.int8, device=self.device) if self.has_short_keys else None

    def embed(self, ids: torch.Tensor) -> torch.Tensor:
        """Return what tokens begin as: (N, H)."""
        share = self.share
        hidden = share.embed(ids, self.embedding) if share else functional.embedding(ids, self.embedding)
        return hidden if self.embedding_scale == 1 else hidden * torch.tensor(self.embedding_scale, dtype=self.dtype)

    def whole(self, update: torch.Tensor) -> torch.Tensor:
        """Return what a layer adds to its rows (N, H), of which a share computes a part."""
        return self.share.add(update) if self.share else update

    def scores(self, hidden: torch.Tensor) -> torch.Tensor | None:
        """Return the logits (B, V) after hidden states (B, H), as the head gives them; None where others have them."""
        logits = self.head(hidden)
        return self.share.gather(logits) if self.share else logits

    def angles(self, length: int) -> list[tuple[torch.Tensor, torch.Tensor]]:
        """Return for each rotary embedding cosines and sines (length, R / 2) of the positions below `length`."""
        positions = torch.arange(length, device=self.device, dtype=torch.float32)[:, None]
        found = []
        for frequencies, scaling in self.ropes:
            angles = positions * frequencies
            found.append(((angles.cos() * scaling).to(self.dtype), (angles.sin() * scaling).to(self.dtype)))
        return found

    def to(self, device: torch.device) -> Decoder:
        """Return a copy on another device."""
        parts = {name: getattr(self, name) for name in Decoder.__slots__ if name not in ("layers", "head")}
        copy = replace(self, **{name: moved(part, device) for name, part in parts.items()})
        layers = (
            replace(layer, **{name: moved(getattr(layer, name), device) for name in Layer.__slots__})
            for layer in self.layers
        )
        head = self.head
        if isinstance(head, FloatLinear) and head.weight is self.embedding:
            return replace(copy, layers=tuple(layers), head=FloatLinear(copy.embedding, moved(head.bias, device)))
        return replace(copy, layers=tuple(layers), head=moved(head, device))


class Pass:
    """One worker's way through a decoder.

    Args:
        decoder: shared.
        cache: this worker's keys and values.
        shares_much: whether the prefix is read once for all rows; None where it is long enough.
    """

    def __init__(self, decoder: Decoder, cache: PagedCache, shares_much: bool | None = None) -> None:
        self._decoder = decoder
        self._shares_much = cache.prefix_length >= _WORTH_SHARING if shares_much is None else shares_much
        self._cache = cache
        longest = min(decoder.context_length, cache.tables.shape[1] * PAGE)
        nothing = decoder.embedding.new_zeros(1)
        self._angles = [*decoder.angles(longest), (nothing, nothing)]  # the last, -1, is for layers without
        self._no_partials = torch.zeros(1, dtype=torch.float32, device=decoder.device)
        self._precision = "ieee" if decoder.dtype == torch.float32 else "tf32"

    def forward(self, tokens: Tokens) -> torch.Tensor:
        """Run tokens through the layers, and return its last hidden states (N, H), normed."""
        decoder = self._decoder
        hidden = decoder.embed(tokens.ids)
        normed = torch.empty_like(hidden)
        update: torch.Tensor | None = None
        after: torch.Tensor | None = None
        for index, layer in enumerate(decoder.layers):
            self._add_norm(hidden, update, after, layer.attention_norm, normed)
            attended = self._attend(index, layer, layer.qkv(normed), tokens)
            update = decoder.whole(layer.output(attended))
            self._add_norm(hidden, update, layer.after_attention_norm, layer.mlp_norm, normed)
            update, after = decoder.whole(self._mlp(layer, normed)), layer.after_mlp_norm
        self._add_norm(hidden, update, after, decoder.final_norm, normed)
        return normed

    def _add_norm(
        self,
        hidden: torch.Tensor,
        update: torch.Tensor | None,
        after: torch.Tensor | None,
        weight: torch.Tensor,
        normed: torch.Tensor,
    ) -> None:
        size = hidden.shape[1]
        block = triton.next_power_of_2(size)
        kernels.add_norm[(len(hidden),)](
            hidden, hidden if update is None else update, weight if after is None else after, weight, normed, size,
            self._decoder.epsilon, HAS_UPDATE=update is not None, HAS_AFTER=after is not None, BLOCK=block,
            num_warps=max(1, min(8, block // 512)),
        )  # fmt: skip

    def _attend(self, index: int, layer: Layer, qkv: torch.Tensor, tokens: Tokens) -> torch.Tensor:
        """Return (N, H D)."""
        decoder, cache, variant = self._decoder, self._cache, layer.variant
        num_tokens, (heads, kv_heads, size) = len(qkv), (decoder.num_heads, decoder.num_kv_heads, decoder.head_dim)
        if layer.wide_norms:
            self._norm_wide(qkv, layer.wide_norms)
        kept = (*cache.pages[index], *(cache.pages if cache.exponents is None else cache.exponents)[index])
        cosines, sines = self._angles[layer.rope]
        queries = qkv.new_empty(num_tokens, heads, size)
        has_norms, all_heads = layer.head_norms is not None, heads + 2 * kv_heads
        per_program = min(8, triton.next_power_of_2(all_heads))
        shape = {"H": heads, "H_KV": kv_heads, "D": size, "DP": triton.next_power_of_2(size), "PAGE": PAGE,
                 "SHORT": decoder.has_short_keys}  # fmt: skip
        kernels.place[(num_tokens, triton.cdiv(all_heads, per_program))](
            qkv, queries, *kept, tokens.positions, tokens.slots, cache.tables, cache.tables.shape[1], cosines, sines,
            layer.head_norms if has_norms else decoder.final_norm, decoder.epsilon, **shape,
            HALF=0 if layer.rope < 0 else cosines.shape[1], HAS_NORMS=has_norms, HEADS=per_program, num_warps=4,
        )  # fmt: skip
        group = heads // kv_heads
        how = {
            "HAS_WINDOW": variant.window is not None,
            "HAS_SOFTCAP": variant.softcap is not None,
            "PRECISION": self._precision,
            **shape,
        }
        numbers = (float(variant.scaling), variant.window or 0, float(variant.softcap or 0))
        # Of wide heads, blocks are shorter: a program's keys and values must fit the least shared memory of any card.
        is_wide = size * qkv.element_size() > _WIDE
        block = BLOCK if tokens.most > 1 and not is_wide else _STEP_BLOCK
        tops = sums = outputs = self._no_partials
        if self._shares_much:
            tops, sums = (queries.new_empty(num_tokens, heads, dtype=torch.float32) for _ in range(2))
            outputs = queries.new_empty(num_tokens, heads, size, dtype=torch.float32)
            kernels.attend_prefix[(triton.cdiv(num_tokens * group, _PREFIX_ROWS), kv_heads)](
                queries, *kept, tokens.positions, cache.shares, tokens.slots, num_tokens, cache.prefix_length,
                tops, sums, outputs, *numbers, **how, BLOCK_M=_PREFIX_ROWS,
                BLOCK_T=block, num_warps=4, num_stages=2 if is_wide else 3,
            )  # fmt: skip
        found = torch.empty_like(queries)
        kernels.attend[(len(tokens.starts), kv_heads)](
            queries, found, *kept, tokens.starts, tokens.counts, tokens.positions, cache.shares, tokens.slots,
            cache.tables, cache.tables.shape[1], cache.prefix_length, tops, sums, outputs, *numbers, **how,
            HAS_PREFIX=self._shares_much, BLOCK_M=max(16, triton.next_power_of_2(tokens.most * group)),
            BLOCK_T=block, num_warps=4 if tokens.most > 1 else 1,
        )  # fmt: skip
        return found.view(num_tokens, heads * size)

    def _norm_wide(self, qkv: torch.Tensor, weights: tuple[torch.Tensor, torch.Tensor]) -> None:
        """Norm, in place, all queries of a token together, and all keys."""
        first = 0
        for weight in weights:
            size = len(weight)
            block = triton.next_power_of_2(size)
            kernels.norm_part[(len(qkv),)](
                qkv, weight, first, size, qkv.shape[1], self._decoder.epsilon,
                BLOCK=block, num_warps=max(1, min(8, block // 512)),
            )  # fmt: skip
            first += size

    def _mlp(self, layer: Layer, normed: torch.Tensor) -> torch.Tensor:
        """Return what a layer's MLP, or its experts, make of (N, H)."""
        if layer.experts:
            return layer.experts(normed)
        assert layer.gate_up
        assert layer.down
        return layer.down(self._activate(layer.gate_up(normed)))

    def _activate(self, gate_up: torch.Tensor) -> torch.Tensor:
        decoder, block = self._decoder, 1024
        active = gate_up.new_empty(len(gate_up), decoder.mlp_size)
        kernels.activate[(len(gate_up), triton.cdiv(decoder.mlp_size, block))](
            gate_up, active, decoder.mlp_size, GELU=decoder.activation == "gelu_tanh", BLOCK=block, num_warps=4
        )
        return active


def tokens_per_block(decoder: Decoder) -> int:
    """Return how many neighbouring tokens of a prompt one block takes at most."""
    return max(1, _PROMPT_ROWS // (decoder.num_heads // decoder.num_kv_heads))


def blocks(lengths: Iterable[int], most: int) -> tuple[list[int], list[int]]:
    """Return starts and counts of blocks for sequences that stand one after another, so many tokens of each."""
    starts, counts, place = [], [], 0
    for length in lengths:
        for first in range(0, length, most):
            starts.append(place + first)
            counts.append(min(most, length - first))
        place += length
    return starts, counts
