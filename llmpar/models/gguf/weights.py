"""The weights of a GGUF file by the names that transformers gives a model's parameters, read when they are used."""

from __future__ import annotations

from collections import Counter
from collections.abc import Mapping
from dataclasses import replace
from math import prod
from typing import Any

import numpy as np

from llmpar.engine.quantized import Floats, Places, Quantized, Scales
from llmpar.models.gguf.architecture import architecture_of, parameter_names, sizes_of
from llmpar.models.gguf.blocks import Array, unpack
from llmpar.models.gguf.config import config_of
from llmpar.models.gguf.file import GgufFile
from llmpar.models.gguf.header import Damaged

_LEAST_BITS = 4  # of a form that is kept; shorter ones become float32
_INTERLEAVED = (".q_proj.", ".k_proj.")


class GgufWeights:
    """A `source.WeightSource` over a file.

    Args:
        file: the model's.

    Raises:
        OtherArchitecture: it is of none that is known.
        Damaged: what it says does not fit together.
    """

    def __init__(self, file: GgufFile) -> None:
        self._file = file
        self._architecture = architecture_of(file)
        self._names = parameter_names(file)
        config = config_of(file)
        self._head_counts = {".q_proj.": config["num_attention_heads"], ".k_proj.": config["num_key_value_heads"]}
        self._check(config)

    def _check(self, config: dict[str, Any]) -> None:
        """Raise Damaged unless all weights are there, and of the sizes that the file says."""
        expected = sizes_of(config, self._architecture)
        if missing := [name for name in expected if name not in self._names]:
            raise Damaged(f"it has no weights for {missing[0]} ({len(missing)} missing)")
        for name, shape in self.shapes.items():
            bias = f"{name.removesuffix('.bias')}.weight"
            wanted = expected.get(name) or expected.get(bias, ())[:1]
            if shape != wanted:
                raise Damaged(
                    f"{self._names[name]!r} is of shape {shape}, and {wanted or 'no such'} was to be expected"
                )

    @property
    def shapes(self) -> Mapping[str, tuple[int, ...]]:
        """The shape of each; see `source.WeightSource`."""
        return {name: self._file.tensors[own].tensor.shape for name, own in self._names.items()}

    @property
    def bits(self) -> int:
        """How many bits the longest of those that make up most of the weights have."""
        counts: Counter[int] = Counter()
        for own in self._names.values():
            tensor = self._file.tensors[own].tensor
            counts[max(_LEAST_BITS, min(32, tensor.kind.bits))] += prod(tensor.shape)
        most, half = [], sum(counts.values()) / 2
        for bits, count in counts.most_common():
            most.append(bits)
            half -= count
            if half <= 0:
                break
        return max(most)

    @property
    def main_kind(self) -> str:
        """What the file calls the form that most of its weights have."""
        counts: Counter[str] = Counter()
        for own in self._names.values():
            tensor = self._file.tensors[own].tensor
            counts[tensor.kind.name] += prod(tensor.shape)
        return counts.most_common(1)[0][0]

    def kind(self, name: str) -> str:
        """Return what the file calls the form of a tensor."""
        return self._file.tensors[self._names[name]].tensor.kind.name

    def rows(self, name: str, rows: slice | Places) -> Quantized | Floats:
        """Return some rows of a matrix (N, K), or elements of a vector (N,); see `source.WeightSource`."""
        own = self._names[name]
        tensor = self._file.tensors[own].tensor
        if len(tensor.shape) == 1:
            vector = unpack(tensor.kind, self._file.rows(own, slice(None)))
            floats = vector.weights() if isinstance(vector, Quantized) else vector
            wanted_floats: Floats = self._vector(name, floats.reshape(-1))[rows]
            return wanted_floats
        order = self._order(name, tensor.shape[0])
        if order is None:
            return unpack(tensor.kind, self._file.rows(own, rows))
        wanted = order[rows]
        if not len(wanted):
            return unpack(tensor.kind, self._file.rows(own, slice(0)))
        first, last = int(wanted.min()), int(wanted.max()) + 1
        return _chosen(unpack(tensor.kind, self._file.rows(own, slice(first, last))), wanted - first)

    def give_back(self, name: str) -> None:
        """Let go of the memory that a tensor's pages take; they are read again if they are used again."""
        self._file.give_back(self._names[name])

    def _vector(self, name: str, values: Floats) -> Floats:
        """Return a vector (N,) as transformers has it."""
        order = self._order(name, len(values))
        if order is not None:
            ordered: Floats = values[order]
            return ordered
        if self._architecture.norm_offset and "norm" in name:
            values = values - np.float32(self._architecture.norm_offset)
        return values

    def _order(self, name: str, num_rows: int) -> Array | None:
        """Return which of the file's rows each row (N,) is, None where they are in their order."""
        part = _part(name)
        if not part or not self._architecture.interleaves:
            return None
        count = self._head_counts[part]
        order: Array = np.arange(num_rows).reshape(count, num_rows // count // 2, 2).swapaxes(1, 2).reshape(-1)
        return order


def _part(name: str) -> str:
    return next((part for part in _INTERLEAVED if part in name), "")


def _chosen(rows: Quantized | Floats, order: Array) -> Quantized | Floats:
    if isinstance(rows, np.ndarray):
        return rows[order]
    return replace(
        rows,
        codes=rows.codes[order],
        scales=_chosen_scales(rows.scales, order),
        offsets=None if rows.offsets is None else _chosen_scales(rows.offsets, order),
    )


def _chosen_scales(scales: Scales, order: Array) -> Scales:
    return Scales(scales.values[order], None if scales.units is None else scales.units[order])
