"""A linear layer as kernels take it, packed from floats or from codes that a file has."""

from __future__ import annotations

from dataclasses import dataclass, field
from functools import cached_property
from typing import Any, Protocol

import numpy as np

from llmpar.engine.cpu import grouped
from llmpar.engine.cpu.dots import INPUT_GROUP, Dot, Weights
from llmpar.engine.cpu.grouped import StoredRows
from llmpar.engine.cpu.precision import PANEL, Array, Encode, Floats, Precision, by_panel, round_up

_PIECE = 1 << 20  # weights that are packed at once


class WeightRows(Protocol):
    """A matrix of float32 of which some rows are looked at at a time: an array, or what becomes one then."""

    @property
    def shape(self) -> tuple[int, ...]:
        """How many rows and columns it has."""

    def __getitem__(self, rows: slice, /) -> Floats:
        """Return some rows."""


def _whole(pieces: list[Array], kind: Any) -> Array:
    """Return tables (…, G, PANEL), one below the other; an empty one of this type for none."""
    return np.ascontiguousarray(np.concatenate(pieces)) if pieces else np.empty((0, 0, PANEL), kind)


def _nothing() -> Array:
    return np.empty((0, 0, PANEL), np.uint16)


@dataclass(frozen=True)
class Projection:
    """A linear layer, in a form of its own: a decoder's layers need not all have the same.

    `weight` (P, K/k, PANEL, k) holds k neighbouring inputs in 32 bits (see `dots.Weights`). Where weights are whole
    numbers, `factors` (P, G, PANEL) are their scales, and `biases` (P, G, PANEL) what sums begin with, or what is added
    to each weight (see `precision.Encoded`); both may be whole numbers, of `factor_units` and `bias_units` (P, G/s,
    PANEL). What is not needed is empty. A group is a run of inputs of one output channel: a scale for the whole channel
    would cost a model whose file has few bits. The README beside this file has an example with its numbers.
    """

    dot: Dot
    size: int  # N; the last panel is filled up beyond that
    weight: Array
    factors: Array
    biases: Array
    bias: Floats  # (N,), or empty
    factor_units: Array = field(default_factory=_nothing)
    bias_units: Array = field(default_factory=_nothing)
    table: Array = field(default_factory=lambda: np.empty(0, np.uint8))  # (16,), in which codes are looked up
    zero: float = 0  # what is stored where a code is 0
    order: Array = field(default_factory=lambda: np.empty(0, np.int32))  # (K,) of the inputs, where it is another

    @staticmethod
    def pack(weight: WeightRows, bias: Floats | None, precision: Precision) -> Projection:
        """Return the projection with `weight` (out_features, in_features) and `bias` (out_features,).

        It is made in pieces: whole, a large layer's steps would wait for memory more than they compute.
        """
        num_outputs, num_inputs = weight.shape
        per_word = precision.dot.inputs_per_word
        group = precision.group(num_inputs) if precision.group else per_word
        width, num_panels = round_up(num_inputs, group), -(-num_outputs // PANEL)
        words = np.empty((num_panels, width // per_word, PANEL), np.uint32)
        factors: list[Array] = []
        biases: list[Array] = []
        encode: Encode | None = None
        zero = 0.0
        for panels in grouped.pieces(num_panels, max(1, _PIECE // (PANEL * width))):
            rows = weight[panels.start * PANEL : panels.stop * PANEL]
            padded = np.zeros(((panels.stop - panels.start) * PANEL, width), np.float32)
            padded[: len(rows), :num_inputs] = rows
            encode = encode or precision.encoder(padded[:PANEL])
            encoded = encode(padded, group)
            words[panels], zero = by_panel(encoded.words), encoded.zero
            for pieces, table in ((factors, encoded.scales), (biases, encoded.biases)):
                if table is not None:
                    pieces.append(by_panel(table))
        return Projection(
            precision.dot,
            num_outputs,
            words[..., None].view(precision.weights),
            _whole(factors, np.float32),
            _whole(biases, np.int32),
            np.zeros(0, np.float32) if bias is None else bias,
            zero=zero,
        )

    @staticmethod
    def keep(weight: StoredRows, bias: Floats | None, dot: Dot) -> Projection:
        """Return the projection with a file's own codes and scales, in this form (see `grouped.form_of`).

        Args:
            weight: (out_features, in_features).
            bias: (out_features,).
            dot: the form.
        """
        found = grouped.pack(weight, dot)
        factors, biases = found.factors, found.biases
        return Projection(
            dot,
            weight.shape[0],
            found.weight,
            factors.values,
            _nothing() if biases is None else biases.values,
            np.zeros(0, np.float32) if bias is None else bias,
            _nothing() if factors.units is None else factors.units,
            _nothing() if biases is None or biases.units is None else biases.units,
            np.empty(0, np.uint8) if found.table is None else found.table,
            found.zero,
            np.empty(0, np.int32) if found.order is None else found.order,
        )

    @cached_property
    def weights(self) -> Weights:
        """The arrays as kernels take them."""
        parts = (self.weight, self.factors, self.factor_units, self.biases, self.bias_units, self.table)
        given = dict(zip(Weights._fields, (part if part.size else None for part in parts), strict=False))
        return self.dot.kind(**given, zero=np.float32(self.zero) if self.zero else None)

    @cached_property
    def num_inputs(self) -> int:
        """K, with what was added to make it even."""
        return int(self.weight.shape[1]) * self.dot.inputs_per_word

    @cached_property
    def num_outputs(self) -> int:
        """N, with what was added to fill the last panel."""
        return len(self.weight) * PANEL

    @cached_property
    def num_groups(self) -> int:
        """How many scales a row of inputs has; 0 where it has none."""
        return self.num_inputs // INPUT_GROUP if self.dot.bits else int(self.factors.shape[1])

    @cached_property
    def input_numbers(self) -> int:
        """How many numbers tell about the whole numbers of a row of inputs."""
        return self.num_groups * self.dot.numbers_per_group
