"""The parts of a model → one rank's share of them on its device: nothing else of the weights goes there."""

from __future__ import annotations

from dataclasses import dataclass

import torch
from torch import nn

from llmpar.engine.cuda.linear import FloatLinear, Linear
from llmpar.engine.cuda.share import Share
from llmpar.engine.generic.skeleton import Skeleton, in_pieces
from llmpar.engine.parts import LayerParts, ModelParts, OtherShape
from llmpar.engine.precision_names import PrecisionName

_ALL = slice(None)


@dataclass(frozen=True, slots=True)
class _Cut:
    """Some `rows` and `columns` of a matrix, which become the first of a matrix of this `shape`, with nothing behind.

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
        device: where this rank computes.
        dtype: what it computes in.
        skeleton: has the weights in its files.

    Raises:
        OtherShape: the model cannot be divided so.
    """

    def __init__(
        self, share: Share, parts: ModelParts, device: torch.device, dtype: torch.dtype, skeleton: Skeleton
    ) -> None:
        self.precision: PrecisionName = "fp32" if dtype == torch.float32 else "bf16"
        self._share = share
        self._device = device
        self._dtype = dtype
        self._skeleton = skeleton
        self._cuts: dict[nn.Linear, list[_Cut]] = {}  # by the first of the layers that are made one
        heads, kv_heads, size = parts.num_heads, parts.num_kv_heads, share.size
        if heads % size or (kv_heads % size and size % kv_heads):
            raise OtherShape(f"its {heads} heads, {kv_heads} for keys and values, do not divide by {size}")
        self.num_heads, self.num_kv_heads = heads // size, max(1, kv_heads // size)
        self.mlp_size = share.cut(parts.mlp_size)[1]
        for layer in parts.layers:
            self._divide(layer, parts)

    def tensor(self, tensor: torch.Tensor) -> torch.Tensor:
        """Return a norm's weights (H,), or the frequencies (R / 2,) of a rotary embedding: every rank has all."""
        return tensor.to(self._device)

    def embedding(self, weight: torch.Tensor) -> torch.Tensor:
        """Return the embeddings (V / size, H) of this rank's tokens."""
        rows, each = self._share.cut(len(weight))
        return self._floats(weight, rows, _ALL, (each, weight.shape[1]))

    def head(self, linear: nn.Linear, embedding: torch.Tensor | None) -> Linear:
        """Return what scores this rank's tokens, whose embeddings (V / size, H) it may have."""
        rows, each = self._share.cut(linear.out_features)
        cut = _Cut(linear, rows, _ALL, (each, linear.in_features))
        return FloatLinear(self._weight(cut) if embedding is None else embedding, self._biases([cut]))

    def linear(self, linears: tuple[nn.Linear, ...]) -> Linear:
        """Return this rank's share of linear layers with one input as one."""
        cuts = self._cuts[linears[0]]
        whole = torch.cat([self._weight(cut) for cut in cuts]) if len(cuts) > 1 else self._weight(cuts[0])
        return FloatLinear(whole, self._biases(cuts))

    def _divide(self, layer: LayerParts, parts: ModelParts) -> None:
        """Note the cuts of a layer."""
        share, size = self._share, parts.head_dim
        kv_first = share.rank * parts.num_kv_heads // share.size
        first, kv_end = share.rank * self.num_heads, parts.num_heads + parts.num_kv_heads
        heads = [  # of queries, keys and values, one kind below the other
            (first, self.num_heads),
            (parts.num_heads + kv_first, self.num_kv_heads),
            (kv_end + kv_first, self.num_kv_heads),
        ]
        self._cuts[layer.qkv[0]] = [
            _of_rows(layer.qkv, slice(start * size, (start + count) * size), count * size) for start, count in heads
        ]
        own = slice(first * size, (first + self.num_heads) * size)
        self._cuts[layer.output] = [self._of_columns(layer.output, own, self.num_heads * size)]
        columns, each = share.cut(parts.mlp_size)
        self._cuts[layer.gate_up[0]] = [
            _of_rows(layer.gate_up, slice(start + columns.start, start + columns.stop), each)
            for start in (0, parts.mlp_size)
        ]
        (down,) = layer.down
        self._cuts[down] = [self._of_columns(down, columns, each)]

    def _of_columns(self, linear: nn.Linear, columns: slice, each: int) -> _Cut:
        return _Cut(linear, slice(0, linear.out_features), columns, (linear.out_features, each), not self._share.rank)

    def _weight(self, cut: _Cut) -> torch.Tensor:
        return self._floats(cut.linear.weight, cut.rows, cut.columns, cut.shape)

    def _biases(self, cuts: list[_Cut]) -> torch.Tensor | None:
        if all(cut.linear.bias is None or not cut.has_bias for cut in cuts):
            return None
        found = []
        for cut in cuts:
            bias = torch.zeros(cut.shape[0], dtype=self._dtype)
            if cut.linear.bias is not None:
                bias[: cut.rows.stop - cut.rows.start] = cut.linear.bias.detach()[cut.rows]
            found.append(bias)
        return torch.cat(found).to(self._device)

    def _floats(self, weight: torch.Tensor, rows: slice, columns: slice, shape: tuple[int, int]) -> torch.Tensor:
        """Return a part of a matrix, filled up to a shape."""
        whole, source = torch.zeros(shape, dtype=self._dtype), self._skeleton.rows[weight]

        def put(part: slice) -> None:
            some = source.floats(slice(rows.start + part.start, rows.start + part.stop))[:, columns]
            whole[part, : some.shape[1]] = torch.from_numpy(some)

        in_pieces(put, (rows.stop - rows.start, weight.shape[1]))
        source.give_back()
        return whole.to(self._device)


def _of_rows(linears: tuple[nn.Linear, ...], rows: slice, each: int) -> _Cut:
    """Return the cut of rows, which are counted through all layers and lie in one of them."""
    first = 0
    for linear in linears:
        if rows.stop <= first + linear.out_features:
            own = slice(rows.start - first, rows.stop - first)
            return _Cut(linear, own, _ALL, (each, linear.in_features))
        first += linear.out_features
    raise OtherShape("its layers have fewer outputs than they should")
