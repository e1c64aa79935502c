"""One worker's keys and values: a row (slot) for each sequence, a column for each position."""

from __future__ import annotations

import torch

_GROWTH = 1.25  # so that copying on growth stays a small share of the work
_COLUMNS = 32  # lengths are rounded up to a multiple of this


class KVCache:
    """Keys and values of every layer, (num_slots, H_kv, T, D) each, made when a layer first writes.

    T grows with the longest sequence. Shapes may differ from layer to layer.
    """

    def __init__(self, num_slots: int) -> None:
        self._num_slots = num_slots
        self._num_columns = 0
        self._layers: dict[int, tuple[torch.Tensor, torch.Tensor]] = {}

    def reserve(self, num_columns: int) -> None:
        """Make room for sequences of `num_columns` tokens."""
        if num_columns <= self._num_columns:
            return
        self._num_columns = -(-max(num_columns, int(self._num_columns * _GROWTH)) // _COLUMNS) * _COLUMNS
        for index, (keys, values) in self._layers.items():
            self._layers[index] = (self._grown(keys), self._grown(values))

    def layer(self, index: int, key: torch.Tensor, value: torch.Tensor) -> tuple[torch.Tensor, torch.Tensor]:
        """Return the keys and values of a layer; `key` and `value` (1, H_kv, N, D) tell their shape and type."""
        if index not in self._layers:
            self._layers[index] = (self._empty(key), self._empty(value))
        return self._layers[index]

    def move(self, source: int, target: int, num_columns: int) -> None:
        """Copy the first columns of one slot to another."""
        for keys, values in self._layers.values():
            keys[target, :, :num_columns] = keys[source, :, :num_columns]
            values[target, :, :num_columns] = values[source, :, :num_columns]

    def _empty(self, like: torch.Tensor) -> torch.Tensor:
        # Zeros, not whatever was there: a masked NaN would still poison a sum.
        return like.new_zeros(self._num_slots, like.shape[1], self._num_columns, like.shape[3])

    def _grown(self, old: torch.Tensor) -> torch.Tensor:
        new = old.new_zeros(*old.shape[:2], self._num_columns, old.shape[3])
        new[:, :, : old.shape[2]] = old
        return new
