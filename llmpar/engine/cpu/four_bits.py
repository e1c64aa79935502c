"""Weights as whole numbers of four bits in groups, with a scale in float16 for each, and an offset where it helps.

What a group's least and greatest weights should become is searched for in whole numbers: sums of floats depend on a
processor's order, and a model must be packed alike on all.
"""

from __future__ import annotations

from typing import Any, NamedTuple

import numpy as np
import numpy.typing as npt

from llmpar.engine.cpu.compiled import kernel

GROUP = 32
"""How many neighbouring inputs share a scale."""
MIDDLE = 8
"""The whole number that stands for 0 where there is no offset."""
_MOST = 15
_UNITS = 4096  # what a group is measured in for the search, in its extreme or its range
# What the extreme of a group becomes, in sixteenths. 8 comes first: what it makes without a loss, the others may too,
# but by a scale that float16 rounds.
_EXTREMES = np.array([128, 112, 116, 120, 124, 132, 136, 140, 144, 148], np.int32)
# How many steps there are from the least of a group to the greatest; of more than 15, both ends are cut. A group that
# had four bits once had 1 to 15 steps. One of these is a multiple, and the first such is one by a power of two, which
# float16 divides its scale by.
_RANGES = np.array([8, 10, 12, 14, 9, 11, 13, 15, 16, 17], np.int32)


class Quantized(NamedTuple):
    """Whole numbers (N, K / GROUP, GROUP) from 0 to 15, and for each group what a unit is worth and what is added.

    A weight is (whole - MIDDLE) · scale, or whole · scale + offset where there are `offsets` (N, K / GROUP).
    """

    whole: npt.NDArray[np.uint8]
    scales: npt.NDArray[np.float16]
    offsets: npt.NDArray[np.float16] | None = None

    def weights(self) -> npt.NDArray[np.float32]:
        """Return the weights (N, K) that these stand for."""
        scales, whole = self.scales.astype(np.float32)[..., None], self.whole.astype(np.float32)
        if self.offsets is None:
            found = (whole - MIDDLE) * scales
        else:
            found = whole * scales + self.offsets.astype(np.float32)[..., None]
        return found.reshape(len(found), -1)


@kernel
def _fit_extreme(units: Any, extremes: Any, found: Any) -> None:
    """Set found (N,) to the scale, in units, with which whole numbers of four bits come closest to `units` (N, GROUP).

    The extreme of each group is -4096 units. Of those scales that make it -extreme / 16, each once fitted by least
    squares to the whole numbers that it leads to, the one with the least squared error is taken.
    """
    for group in range(len(units)):
        best, scale = 0.0, 0.0
        for extreme in extremes:
            product, square = np.int32(0), np.int32(0)
            for k in range(units.shape[1]):
                unit = np.int32(units[group, k])
                # Each cast keeps Numba from 64 bits, of which a vector holds half as many.
                whole = np.int32(np.int32(np.int32(unit * extreme) + np.int32(32768)) >> np.int32(16))
                whole = min(max(whole, np.int32(-8)), np.int32(7))
                product = np.int32(product + np.int32(unit * whole))
                square = np.int32(square + np.int32(whole * whole))
            gained = np.float64(product) * np.float64(product) / np.float64(max(square, np.int32(1)))
            if gained > best:
                best, scale = gained, np.float64(product) / np.float64(max(square, np.int32(1)))
        found[group] = scale


@kernel
def _fit_range(units: Any, ranges: Any, found: Any) -> None:
    """Set found (N,) to the number of steps that brings whole numbers closest to `units` (N, GROUP).

    The least of each group is 0 units, and the greatest 4096. The squared error is that of a line through them.
    """
    length = np.int32(units.shape[1])
    for group in range(len(units)):
        best, steps = -1.0, ranges[0]
        for tried in ranges:
            product, square, first, second = np.int32(0), np.int32(0), np.int32(0), np.int32(0)
            cut = np.int32(np.int32(max(tried, np.int32(15)) - np.int32(15)) * np.int32(2048))  # half at each end
            for k in range(units.shape[1]):
                unit = np.int32(units[group, k])
                moved = np.int32(np.int32(unit * tried) - cut)
                whole = np.int32(np.int32(moved + np.int32(2048)) >> np.int32(12))
                whole = min(max(whole, np.int32(0)), np.int32(15))
                product = np.int32(product + np.int32(unit * whole))
                square = np.int32(square + np.int32(whole * whole))
                first = np.int32(first + unit)
                second = np.int32(second + whole)
            covariance = np.float64(length * product) - np.float64(first) * np.float64(second)
            variance = np.float64(length * square) - np.float64(second) * np.float64(second)
            gained = covariance * covariance / max(variance, 1.0)
            if gained > best:
                best, steps = gained, tried
        found[group] = steps


def quantize(weights: npt.NDArray[np.float32]) -> Quantized:
    """Return weights (N, K) as whole numbers around 0; the scale of a group may be negative."""
    grouped = weights.reshape(-1, GROUP)
    largest, smallest = grouped.max(1), grouped.min(1)
    extreme = np.where(largest > -smallest, largest, smallest)
    unit = np.where(extreme == 0, np.float32(1), extreme) / np.float32(-_UNITS)
    fitted = np.empty(len(grouped), np.float64)
    with np.errstate(all="ignore"):  # what is not finite has a scale that is not, and is found in the logits
        _fit_extreme(np.rint(grouped / unit[:, None]).astype(np.int16), _EXTREMES, fitted)
        scales = np.where(np.isfinite(extreme), fitted * unit, np.nan).astype(np.float16)
        whole = _nearest(grouped, scales) + np.float32(MIDDLE)
    return _result(weights, whole, scales)


def quantize_from_least(weights: npt.NDArray[np.float32]) -> Quantized:
    """Return weights (N, K) as whole numbers from the least of each group on, with offsets."""
    grouped = weights.reshape(-1, GROUP)
    least, steps = grouped.min(1), np.empty(len(grouped), np.int32)
    extent = grouped.max(1) - least
    with np.errstate(all="ignore"):
        share = (grouped - least[:, None]) / np.where(extent == 0, np.float32(1), extent)[:, None]
        _fit_range(np.rint(share * np.float32(_UNITS)).astype(np.int16), _RANGES, steps)
        cut = np.maximum(steps - _MOST, 0) / np.float32(2)
        moved = share * steps[:, None].astype(np.float32) - cut[:, None]
        whole = np.clip(np.rint(moved), 0, _MOST).astype(np.float64)
        # The line through them, by least squares.
        centre, mean = whole.mean(1), grouped.mean(1, dtype=np.float64)
        deviation = whole - centre[:, None]
        slope = (grouped * deviation).sum(1) / np.maximum(np.square(deviation).sum(1), 1e-9)
        scales, offsets = slope.astype(np.float16), (mean - slope * centre).astype(np.float16)
        whole = _nearest(grouped - offsets.astype(np.float32)[:, None], scales)
    return _result(weights, whole, scales, offsets)


def best_for(weights: npt.NDArray[np.float32]) -> Any:
    """Return which of the two functions to quantize with all weights that are like these (N, K).

    Offsets take half a bit a weight. They are worth it where they halve the squared error at least, which they do for
    weights that had four bits and offsets once, and hardly for others.
    """
    errors = [np.square(way(weights).weights() - weights).sum() for way in (quantize, quantize_from_least)]
    return quantize_from_least if errors[1] < errors[0] / 2 else quantize


def _nearest(grouped: npt.NDArray[np.float32], scales: npt.NDArray[np.float16]) -> npt.NDArray[np.float32]:
    wide = scales.astype(np.float32)
    units: npt.NDArray[np.float32] = np.rint(grouped / np.where(wide == 0, np.float32(np.inf), wide)[:, None])
    return units


def _result(
    weights: npt.NDArray[np.float32],
    whole: npt.NDArray[np.float32],
    scales: npt.NDArray[np.float16],
    offsets: npt.NDArray[np.float16] | None = None,
) -> Quantized:
    rows = (len(weights), -1)
    with np.errstate(invalid="ignore"):
        stored = np.clip(whole, 0, _MOST).astype(np.uint8).reshape(*rows, GROUP)
    return Quantized(stored, scales.reshape(rows), None if offsets is None else offsets.reshape(rows))


def pack(whole: npt.NDArray[np.uint8]) -> npt.NDArray[np.uint32]:
    """Return whole numbers from 0 to 15 (N, …) as words (N, K / 8).

    The lower halves of a word's bytes are four neighbouring weights, the upper halves the next four.
    """
    halves = whole.reshape(len(whole), -1, 2, 4)
    return np.ascontiguousarray(halves[:, :, 0] | halves[:, :, 1] << 4).view(np.uint32)[..., 0]
