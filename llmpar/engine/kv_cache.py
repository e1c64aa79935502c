"""One worker's keys and values: a row (slot) for each sequence, a column for each position; the prefix for all."""

from __future__ import annotations

import torch

_GROWTH = 1.25  # so that copying on growth stays a small share of the work
_COLUMNS = 32  # lengths are rounded up to a multiple of this

Index = slice | torch.Tensor
Layers = dict[int, tuple[torch.Tensor, torch.Tensor]]


class KVCache:
    """Keys and values of every layer, (num_slots, H_kv, T, D) each, made when a layer first writes.

    T grows with the longest sequence. Shapes may differ from layer to layer.

    Args:
        num_slots: how many rows.
        prefix: the keys and values (1, H_kv, P, D) of what every prompt begins with, by layer; shared by all workers
            and never written to.
    """

    def __init__(self, num_slots: int, prefix: Layers | None = None) -> None:
        self._num_slots = num_slots
        self._num_columns = 0
        self._layers: Layers = {}
        self._prefix = prefix or {}

    def reserve(self, num_columns: int) -> None:
        """Make room for sequences of `num_columns` tokens."""
        if num_columns <= self._num_columns:
            return
        self._num_columns = -(-max(num_columns, int(self._num_columns * _GROWTH)) // _COLUMNS) * _COLUMNS
        for index, (keys, values) in self._layers.items():
            self._layers[index] = (self._grown(keys), self._grown(values))

    def write(self, layer: int, rows: Index, columns: Index, key: torch.Tensor, value: torch.Tensor) -> None:
        """Store keys and values: (B, H_kv, L, D) for slices, (B, H_kv, D) for one position in each of B rows."""
        if layer not in self._layers:
            self._layers[layer] = (self._empty(key), self._empty(value))
        keys, values = self._layers[layer]
        keys[rows, :, columns] = key
        values[rows, :, columns] = value

    def rows(self, layer: int, count: int, num_columns: int) -> tuple[torch.Tensor, torch.Tensor]:
        """Return the first rows and columns: (count, H_kv, num_columns, D) each."""
        keys, values = self._layers[layer]
        return keys[:count, :, :num_columns], values[:count, :, :num_columns]

    def prefix(self, layer: int) -> tuple[torch.Tensor, torch.Tensor] | None:
        """Return the shared prefix's keys and values, (1, H_kv, P, D) each, None if nothing is shared."""
        return self._prefix.get(layer)

    def row_as_prefix(self, num_columns: int) -> Layers:
        """Return a copy of the first row's first columns, for caches that share it."""
        return {
            layer: (keys[:1, :, :num_columns].clone(), values[:1, :, :num_columns].clone())
            for layer, (keys, values) in self._layers.items()
        }

    def move(self, source: int, target: int, num_columns: int) -> None:
        """Copy the first columns of one slot to another."""
        for keys, values in self._layers.values():
            keys[target, :, :num_columns] = keys[source, :, :num_columns]
            values[target, :, :num_columns] = values[source, :, :num_columns]

    def _empty(self, like: torch.Tensor) -> torch.Tensor:
        # Zeros, not whatever was there: a masked NaN would still poison a sum.
        return like.new_zeros(self._num_slots, like.shape[1], self._num_columns, like.shape[-1])

    def _grown(self, old: torch.Tensor) -> torch.Tensor:
        new = old.new_zeros(*old.shape[:2], self._num_columns, old.shape[3])
        new[:, :, : old.shape[2]] = old
        return new
