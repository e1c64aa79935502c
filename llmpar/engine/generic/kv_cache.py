"""One worker's keys and values: a row (slot) for each sequence, a column for each position; the prefix for all."""

from __future__ import annotations

import torch

COLUMNS = 32  # lengths are rounded up to a multiple of this
_GROWTH = 1.25  # so that copying on growth stays a small share of the work

Layers = dict[int, tuple[torch.Tensor, torch.Tensor]]


class Room:
    """What the sequences of one worker will have become when they end: rows, all as long as the longest.

    Args:
        num_cells: how many rows times columns there may be; None for any number.
    """

    def __init__(self, num_cells: int | None) -> None:
        self.num_cells = num_cells
        self._num_rows = self._longest_prompt = self._longest_answer = 0

    @property
    def is_empty(self) -> bool:
        """Whether there is no row."""
        return not self._num_rows

    @property
    def num_columns(self) -> int:
        """The length of a row."""
        return round_up(self._longest_prompt + self._longest_answer)

    def take(self, num_prompt_tokens: int, num_answer_tokens: int) -> bool:
        """Add a row, if there is room."""
        prompt = max(self._longest_prompt, num_prompt_tokens)
        answer = max(self._longest_answer, num_answer_tokens)
        if self.num_cells is not None and (self._num_rows + 1) * round_up(prompt + answer) > self.num_cells:
            return False
        self._num_rows, self._longest_prompt, self._longest_answer = self._num_rows + 1, prompt, answer
        return True

    def leave(self) -> None:
        """Take a row away. Lengths are forgotten with the last: until then, what was made for them stays."""
        self._num_rows -= 1
        if not self._num_rows:
            self._longest_prompt = self._longest_answer = 0


def round_up(num_columns: int) -> int:
    """Return the length that is made for so many columns."""
    return -(-num_columns // COLUMNS) * COLUMNS


class KVCache:
    """Keys (num_slots, H_kv, D, T) and values (num_slots, H_kv, T, D) of every layer, made when a layer first writes.

    Keys lie as the products of attention read them. T grows with the longest sequence; shapes may differ from layer
    to layer.

    Args:
        num_slots: how many rows.
        prefix: the keys (1, H_kv, D, P) and values (1, H_kv, P, D) of what every prompt begins with, by layer; shared
            by all workers and never written to.
        num_cells: how many rows times columns there may be, None for any number. With it there are fewer rows, the
            longer they get.
    """

    def __init__(self, num_slots: int, prefix: Layers | None = None, num_cells: int | None = None) -> None:
        self._num_slots = self._num_rows = num_slots
        self._num_cells = num_cells
        self._num_columns = 0
        self._layers: Layers = {}
        self._prefix = prefix or {}

    def reserve(self, num_columns: int) -> None:
        """Make room for sequences of `num_columns` tokens."""
        if num_columns <= self._num_columns:
            return
        old = self._num_columns
        if self._num_cells is None:
            self._num_columns = round_up(max(num_columns, int(old * _GROWTH)))
        else:
            self._num_columns = round_up(num_columns)
            self._num_rows = min(self._num_slots, self._num_cells // self._num_columns)
        rows = self._num_rows
        for index, (keys, values) in self._layers.items():
            grown = self._empty(keys.transpose(2, 3), values)
            grown[0][..., :old] = keys[:rows]
            grown[1][:, :, :old] = values[:rows]
            self._layers[index] = grown

    def clear(self) -> None:
        """Forget all rows, and how long they were."""
        self._layers = {}
        self._num_columns = 0

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

    def wipe(self, slots: int | slice) -> None:
        """Set rows to zeros: those after them may be shorter, and a masked NaN poisons a sum."""
        for keys, values in self._layers.values():
            keys[slots], values[slots] = 0, 0

    def move(self, source: int, target: int, num_columns: int) -> None:
        """Copy the first columns of one slot to another."""
        for keys, values in self._layers.values():
            keys[target, ..., :num_columns] = keys[source, ..., :num_columns]
            values[target, :, :num_columns] = values[source, :, :num_columns]

    def _empty(self, key: torch.Tensor, value: torch.Tensor) -> tuple[torch.Tensor, torch.Tensor]:
        """Return a layer for keys and values like these, (B, H_kv, L, D)."""
        # Zeros, not whatever was there: a masked NaN would still poison a sum.
        return (
            key.new_zeros(self._num_rows, key.shape[1], key.shape[3], self._num_columns),
            value.new_zeros(self._num_rows, value.shape[1], self._num_columns, value.shape[3]),
        )
