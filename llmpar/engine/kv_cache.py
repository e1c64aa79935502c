"""One worker's keys and values: a row (slot) for each sequence, a column for each position; the prefix for all."""

from __future__ import annotations

import torch

_GROWTH = 1.25  # so that copying on growth stays a small share of the work
_COLUMNS = 32  # lengths are rounded up to a multiple of this

Layers = dict[int, tuple[torch.Tensor, torch.Tensor]]


class KVCache:
    """Keys (num_slots, H_kv, D, T) and values (num_slots, H_kv, T, D) of every layer, made when a layer first writes.

    Keys lie as the products of attention read them. T grows with the longest sequence; shapes may differ from layer
    to layer.

    Args:
        num_slots: how many rows.
        prefix: the keys (1, H_kv, D, P) and values (1, H_kv, P, D) of what every prompt begins with, by layer; shared
            by all workers and never written to.
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
        old = self._num_columns
        self._num_columns = -(-max(num_columns, int(old * _GROWTH)) // _COLUMNS) * _COLUMNS
        for index, (keys, values) in self._layers.items():
            grown = self._empty(keys.transpose(2, 3), values)
            grown[0][..., :old] = keys
            grown[1][:, :, :old] = values
            self._layers[index] = grown

    def write(self, layer: int, slot: int, key: torch.Tensor, value: torch.Tensor) -> tuple[torch.Tensor, torch.Tensor]:
        """Store the first L columns of rows from `slot` on, and return them as they are kept.

        Args:
            layer: the layer.
            slot: the first row's.
            key: (B, H_kv, L, D); comes back as (B, H_kv, D, L).
            value: (B, H_kv, L, D).
        """
        if layer not in self._layers:
            self._layers[layer] = self._empty(key, value)
        keys, values = self._layers[layer]
        key = key.transpose(2, 3)
        keys[slot : slot + len(key), ..., : key.shape[3]] = key
        values[slot : slot + len(value), :, : value.shape[2]] = value
        return key, value

    def append(self, layer: int, columns: torch.Tensor, key: torch.Tensor, value: torch.Tensor) -> None:
        """Store one column in each of the first B rows: `columns` (B,), `key` and `value` (B, H_kv, D)."""
        rows = torch.arange(len(columns), device=columns.device)
        keys, values = self._layers[layer]
        keys[rows, :, :, columns] = key
        values[rows, :, columns] = value

    def rows(self, layer: int, count: int, num_columns: int) -> tuple[torch.Tensor, torch.Tensor]:
        """Return the first rows and columns: (count, H_kv, D, num_columns) and (count, H_kv, num_columns, D)."""
        keys, values = self._layers[layer]
        return keys[:count, ..., :num_columns], values[:count, :, :num_columns]

    def prefix(self, layer: int) -> tuple[torch.Tensor, torch.Tensor] | None:
        """Return the shared prefix's keys (1, H_kv, D, P) and values (1, H_kv, P, D), None if nothing is shared."""
        return self._prefix.get(layer)

    def row_as_prefix(self, num_columns: int) -> Layers:
        """Return a copy of the first row's first columns, for caches that share it."""
        copies = {}
        for layer in self._layers:
            keys, values = self.rows(layer, 1, num_columns)
            copies[layer] = (keys.contiguous(), values.contiguous())
        return copies

    def move(self, source: int, target: int, num_columns: int) -> None:
        """Copy the first columns of one slot to another."""
        for keys, values in self._layers.values():
            keys[target, ..., :num_columns] = keys[source, ..., :num_columns]
            values[target, :, :num_columns] = values[source, :, :num_columns]

    def _empty(self, key: torch.Tensor, value: torch.Tensor) -> tuple[torch.Tensor, torch.Tensor]:
        """Return a layer for keys and values like these, (B, H_kv, L, D)."""
        # Zeros, not whatever was there: a masked NaN would still poison a sum.
        return (
            key.new_zeros(self._num_slots, key.shape[1], key.shape[3], self._num_columns),
            value.new_zeros(self._num_slots, value.shape[1], self._num_columns, value.shape[3]),
        )
