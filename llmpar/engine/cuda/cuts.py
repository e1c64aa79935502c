"""A part of a matrix of weights, read from its source as if it were a matrix of its own: rows of floats, or codes.

Codes stay what they are, and so do their scales. So inputs of codes can be divided only where groups of them end.
"""

from __future__ import annotations

from dataclasses import dataclass, replace
from typing import Any, Protocol

import numpy as np
import numpy.typing as npt

from llmpar.engine.parts import OtherShape
from llmpar.engine.quantized import Floats, Quantized, Scales


class Weights(Protocol):
    """A matrix of which some rows are looked at at a time, by several threads: all of it Quantized, or none."""

    @property
    def shape(self) -> tuple[int, ...]:
        """How many rows and columns it has."""

    def __getitem__(self, rows: slice, /) -> Quantized | Floats:
        """Return some rows (n, K)."""


class FloatWeights(Weights, Protocol):
    """One that can tell its rows in float32 as well."""

    def floats(self, rows: slice, /) -> Floats:
        """Return some rows (n, K)."""


@dataclass(frozen=True, slots=True)
class Cut:
    """Some `rows` and `columns` of a matrix, which become the first of a matrix of this `shape`, with nothing behind.

    Columns behind are nothing only for inputs that are 0.
    """

    source: FloatWeights
    rows: slice
    columns: slice
    shape: tuple[int, int]

    def __getitem__(self, part: slice, /) -> Quantized | Floats:
        """Return some rows (n, K), as the source has them.

        Raises:
            OtherShape: columns are not cut where groups end.
        """
        span = self._span(part)
        # Where there are none, another row tells what they are like.
        found = self.source[span if span.stop > span.start else slice(0, 1)]
        count, wanted = span.stop - span.start, part.stop - part.start
        if not isinstance(found, Quantized):
            return self._filled(found[:count], wanted)
        some = self._inputs_of(found)
        if count == wanted:
            return some
        return replace(
            some,
            codes=_longer(np.asarray(some.codes)[:count], wanted),
            scales=_longer_scales(some.scales, count, wanted),
            offsets=None if some.offsets is None else _longer_scales(some.offsets, count, wanted),
        )

    def floats(self, part: slice, /) -> Floats:
        """Return some rows (n, K) in float32."""
        return self._filled(self.source.floats(self._span(part)), part.stop - part.start)

    def _span(self, part: slice) -> slice:
        """Return which rows of the source some are, without those that are nothing."""
        first, last = (min(self.rows.start + place, self.rows.stop) for place in (part.start, part.stop))
        return slice(first, last)

    def _filled(self, found: Floats, count: int) -> Floats:
        some = found[:, self.columns]
        if some.shape == (count, self.shape[1]):
            return np.ascontiguousarray(some)
        whole = np.zeros((count, self.shape[1]), np.float32)
        whole[: len(some), : some.shape[1]] = some
        return whole

    def _inputs_of(self, found: Quantized) -> Quantized:
        """Return all rows of codes, cut to the columns."""
        first, last, num_inputs = self.columns.start, self.columns.stop, self.source.shape[1]
        if (first, last) == (0, num_inputs) and self.shape[1] == num_inputs:
            return found
        if found.order is not None:
            raise OtherShape("the groups of its weights are not of neighbouring inputs, which cannot be divided")
        group = found.group
        if group < num_inputs and any(place % group for place in (first, last, self.shape[1])):
            raise OtherShape(f"its groups of {group} inputs do not end where inputs are divided ({first} to {last})")
        some = np.asarray(found.codes)[:, self.columns]
        codes = np.zeros((len(some), self.shape[1]), some.dtype)
        codes[:, : some.shape[1]] = some
        if group == num_inputs:
            return replace(found, codes=codes)
        groups, width = slice(first // group, last // group), self.shape[1] // group
        return replace(
            found,
            codes=codes,
            scales=_scales_of(found.scales, groups, width),
            offsets=None if found.offsets is None else _scales_of(found.offsets, groups, width),
        )


def _scales_of(scales: Scales, groups: slice, width: int) -> Scales:
    """Return the numbers of some groups, in two levels only where units end there, too."""
    values, units = scales
    if units is not None:
        shared = values.shape[1] // units.shape[1]
        if any(place % shared for place in (groups.start, groups.stop, width)):
            values, units = scales.floats(), None
        else:
            units = _wider(units[:, groups.start // shared : groups.stop // shared], width // shared)
    return Scales(_wider(values[:, groups], width), units)


def _longer_scales(scales: Scales, count: int, wanted: int) -> Scales:
    values, units = scales
    return Scales(_longer(values[:count], wanted), None if units is None else _longer(units[:count], wanted))


def _longer(found: npt.NDArray[Any], count: int) -> npt.NDArray[Any]:
    whole = np.zeros((count, found.shape[1]), found.dtype)
    whole[: len(found)] = found
    return whole


def _wider(found: npt.NDArray[Any], width: int) -> npt.NDArray[Any]:
    whole = np.zeros((len(found), width), found.dtype)
    whole[:, : found.shape[1]] = found
    return whole
