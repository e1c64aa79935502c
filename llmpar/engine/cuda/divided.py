"""The parts of a model → one rank's share of them on its device: nothing else of the weights goes there."""

from __future__ import annotations

import math
from dataclasses import dataclass

import torch
from torch import nn

from llmpar.engine.cuda.cuts import Cut
from llmpar.engine.cuda.linear import FloatLinear, Linear, joined
from llmpar.engine.cuda.share import Share
from llmpar.engine.cuda.short_weights import even_inputs, floats_of, make_head, make_layer
from llmpar.engine.generic.skeleton import Skeleton
from llmpar.engine.parts import LayerParts, ModelParts, OtherShape
from llmpar.engine.precision_names import PrecisionName

_ALL = slice(None)


@dataclass(frozen=True, slots=True)
class _Portion:
    """What a rank has of a linear layer, filled up with nothing to a `shape`; see `Cut`.

    `has_bias` is false where other ranks add it.
    """

    linear: nn.Linear
    rows: slice
    columns: slice
    shape: tuple[int, int]
    has_bias: bool = True


class Divider:
    """Makes the parts of one rank's decoder.

    Args:
        share: which share it is.
        parts: of the whole model.
        precision: what weights are to be in.
        device: where this rank computes.
        dtype: of rows, and of weights that are not short.
        skeleton: has the weights in its files.

    Raises:
        OtherShape: the model cannot be divided so.
    """

    def __init__(
        self,
        share: Share,
        parts: ModelParts,
        precision: PrecisionName,
        device: torch.device,
        dtype: torch.dtype,
        skeleton: Skeleton,
    ) -> None:
        self.precision = precision
        self._share = share
        self._device = device
        self._dtype = dtype
        self._skeleton = skeleton
        if any(layer.wide_norms for layer in parts.layers):
            raise OtherShape("it has norms over heads of several devices")
        self._portions: dict[nn.Linear, list[_Portion]] = {}  # by the first of the layers that are made one
        heads, kv_heads, size = parts.num_heads, parts.num_kv_heads, share.size
        if heads % size or (kv_heads % size and size % kv_heads):
            raise OtherShape(f"its {heads} heads, {kv_heads} for keys and values, do not divide by {size}")
        self.num_heads, self.num_kv_heads = heads // size, max(1, kv_heads // size)
        downs = (skeleton.rows[layer.down[0].weight] for layer in parts.layers if layer.down)
        even = math.lcm(*(even_inputs(rows, precision) for rows in downs))
        self._columns, self.mlp_size = share.cut(parts.mlp_size, even)
        for layer in parts.layers:
            self._divide(layer, parts)

    def tensor(self, tensor: torch.Tensor) -> torch.Tensor:
        """Return a norm's weights (H,), or the frequencies (R / 2,) of a rotary embedding: every rank has all."""
        return tensor.to(self._device)

    def embedding(self, weight: torch.Tensor) -> torch.Tensor:
        """Return the embeddings (V / size, H) of this rank's tokens."""
        rows, each = self._share.cut(len(weight))
        found = floats_of(self._cut(weight, rows, _ALL, (each, weight.shape[1])), self._dtype, self._device)
        self._skeleton.give_back(weight)
        return found

    def head(self, linear: nn.Linear, embedding: torch.Tensor | None) -> Linear:
        """Return what scores this rank's tokens, whose embeddings (V / size, H) it may have."""
        rows, each = self._share.cut(linear.out_features)
        portion = _Portion(linear, rows, _ALL, (each, linear.in_features))
        if embedding is not None:
            return FloatLinear(embedding, self._bias(portion))
        return self._made(portion, is_head=True)

    def linear(self, linears: tuple[nn.Linear, ...]) -> Linear:
        """Return this rank's share of linear layers with one input as one."""
        return joined([self._made(portion) for portion in self._portions[linears[0]]])

    def _divide(self, layer: LayerParts, parts: ModelParts) -> None:
        """Note a rank's portions of a layer."""
        share, size = self._share, parts.head_dim
        kv_first = share.rank * parts.num_kv_heads // share.size
        first, kv_end = share.rank * self.num_heads, parts.num_heads + parts.num_kv_heads
        heads = [  # of queries, keys and values, one kind below the other
            (first, self.num_heads),
            (parts.num_heads + kv_first, self.num_kv_heads),
            (kv_end + kv_first, self.num_kv_heads),
        ]
        self._portions[layer.qkv[0]] = [
            _of_rows(layer.qkv, slice(start * size, (start + count) * size), count * size) for start, count in heads
        ]
        own = slice(first * size, (first + self.num_heads) * size)
        self._portions[layer.output] = [self._of_columns(layer.output, own, self.num_heads * size)]
        self._portions[layer.gate_up[0]] = [
            _of_rows(layer.gate_up, slice(start + self._columns.start, start + self._columns.stop), self.mlp_size)
            for start in (0, parts.mlp_size)
        ]
        (down,) = layer.down
        self._portions[down] = [self._of_columns(down, self._columns, self.mlp_size)]

    def _of_columns(self, linear: nn.Linear, columns: slice, each: int) -> _Portion:
        count = linear.out_features
        return _Portion(linear, slice(0, count), columns, (count, each), not self._share.rank)

    def _made(self, portion: _Portion, *, is_head: bool = False) -> Linear:
        weight = portion.linear.weight
        cut, bias = self._cut(weight, portion.rows, portion.columns, portion.shape), self._bias(portion)
        make = make_head if is_head else make_layer
        found = make(cut, bias, self.precision, self._device, self._dtype)
        self._skeleton.give_back(weight)
        return found

    def _cut(self, weight: torch.Tensor, rows: slice, columns: slice, shape: tuple[int, int]) -> Cut:
        own = slice(*columns.indices(weight.shape[1])[:2])
        return Cut(self._skeleton.rows[weight], rows, own, shape)

    def _bias(self, portion: _Portion) -> torch.Tensor | None:
        """Return a bias, filled up with nothing."""
        whole = portion.linear.bias
        if whole is None or not portion.has_bias:
            return None
        bias = torch.zeros(portion.shape[0], dtype=self._dtype)
        bias[: portion.rows.stop - portion.rows.start] = whole.detach()[portion.rows]
        return bias.to(self._device)


def _of_rows(linears: tuple[nn.Linear, ...], rows: slice, each: int) -> _Portion:
    """Return the portion of rows, which are counted through all layers and lie in one of them."""
    first = 0
    for linear in linears:
        if rows.stop <= first + linear.out_features:
            own = slice(rows.start - first, rows.stop - first)
            return _Portion(linear, own, _ALL, (each, linear.in_features))
        first += linear.out_features
    raise OtherShape("its layers have fewer outputs than they should")
