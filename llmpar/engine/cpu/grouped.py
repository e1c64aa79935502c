"""Weights as a file has them (`engine.quantized`) → the arrays that kernels take, with the same numbers.

Codes are moved, never rounded. Scales and offsets stay what they are, too: as float16 where that holds all of a
matrix's, as whole numbers of a float16 unit where the file has these, else as float32.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator
from concurrent.futures import ThreadPoolExecutor
from typing import Any, NamedTuple, Protocol, TypeVar

import numpy as np
import numpy.typing as npt

from llmpar.engine.cpu.block_codes import BlockCodes
from llmpar.engine.cpu.dots import INPUT_GROUP, LOOKUPS, NIBBLES, OCTETS, SIXES, Dot
from llmpar.engine.cpu.precision import PANEL, Array, Floats, by_panel, round_up
from llmpar.engine.quantized import Places, Quantized, Scales
from llmpar.engine.resources import usable_cores

_SHORTEST = 16  # inputs of a group
_PIECE = 1 << 20  # codes that are packed at once
_MOST_SIGNED = 127
_Item = TypeVar("_Item")
_Result = TypeVar("_Result")


class StoredRows(Protocol):
    """A matrix as a file has it, of which some rows are looked at at a time, by several threads.

    All of it is Quantized, or none.
    """

    @property
    def shape(self) -> tuple[int, ...]:
        """How many rows and columns it has."""

    def __getitem__(self, rows: slice | Places, /) -> Quantized | Floats:
        """Return some rows (n, K): neighbouring ones, or those at some places."""


class NamedRows(StoredRows, Protocol):
    """Such a matrix, and what its source calls it."""

    @property
    def name(self) -> str:
        """Its name."""


class Numbers(NamedTuple):
    """Scales or offsets: `values` (…, G, PANEL), and `units` (…, G/s, PANEL) where these are whole numbers of such."""

    values: Array
    units: Array | None = None


class Grouped(NamedTuple):
    """Arrays of a matrix, for `decoder.Projection`."""

    dot: Dot
    weight: Array
    factors: Numbers
    biases: Numbers | None
    table: Array | None
    zero: float


def form_of(rows: StoredRows, most: int = 8) -> Dot | None:
    """Return the form in which a matrix is kept as it is, None where there is no such.

    There is none for floats, for groups that are no multiple of 16 inputs, and for tables of more than 16 values or of
    others than whole numbers from -128 to 127.

    Args:
        rows: the matrix (N, K).
        most: of how many bits its codes may be.
    """
    sample = rows[0:1]
    if not isinstance(sample, Quantized) or sample.bits > min(most, OCTETS.bits) or sample.group % _SHORTEST:
        return None
    if sample.table is not None:
        is_whole = bool((np.rint(sample.table) == sample.table).all() and (np.abs(sample.table + 0.5) < 128).all())
        return LOOKUPS if sample.bits <= NIBBLES.bits and is_whole else None
    return next(dot for dot in (NIBBLES, SIXES, OCTETS) if sample.bits <= dot.bits)


def pack(rows: StoredRows, dot: Dot) -> Grouped:
    """Return the arrays of a matrix that has this form (see `form_of`); pieces of it are packed side by side."""
    num_outputs, num_inputs = rows.shape
    width, num_panels = round_up(num_inputs, INPUT_GROUP), -(-num_outputs // PANEL)
    words = np.empty((num_panels, width // dot.inputs_per_word, PANEL), np.uint32)
    sample = _codes(rows, slice(0, 1))
    is_signed = sample.table is None and sample.codes.dtype == np.int8

    def put(panels: slice) -> tuple[Numbers, Numbers | None]:
        some = _codes(rows, slice(panels.start * PANEL, panels.stop * PANEL))
        codes = some.codes if isinstance(some.codes, BlockCodes) else BlockCodes.of(np.asarray(some.codes))
        codes.lay(dot.inputs_per_word, dot.middle, words[panels])
        scales = _of_panels(some.scales, some.group, width)
        return scales, None if some.offsets is None else _of_panels(some.offsets, some.group, width)

    found = list(side_by_side(put, pieces(num_panels, max(1, _PIECE // (PANEL * width)))))
    offsets = [each for _, each in found if each is not None]
    table = None
    if sample.table is not None:
        table = np.zeros(16, np.uint8)
        table[: len(sample.table)] = sample.table + dot.middle
    return Grouped(
        dot,
        words[..., None].view(np.uint8),
        _shortest([scales for scales, _ in found]),
        _shortest(offsets) if offsets else None,
        table,
        float(dot.middle if is_signed or table is not None else 0),
    )


def _codes(rows: StoredRows, part: slice) -> Quantized:
    found = rows[part]
    if not isinstance(found, Quantized):
        raise TypeError("these rows are no codes")
    return found


def floats(rows: StoredRows, part: slice | Places) -> Floats:
    """Return some rows (n, K) of a matrix in float32."""
    found = rows[part]
    return found.weights() if isinstance(found, Quantized) else np.asarray(found, np.float32)


def pieces(count: int, step: int) -> Iterator[slice]:
    """Yield slices of so many that cover them all."""
    return (slice(first, min(first + step, count)) for first in range(0, count, step))


def side_by_side(work: Callable[[_Item], _Result], items: Iterable[_Item]) -> Iterator[_Result]:
    """Yield what the work makes of each item, in order, computed by as many threads as there are cores."""
    with ThreadPoolExecutor(usable_cores()) as pool:
        yield from pool.map(work, items)


def _of_panels(scales: Scales, group: int, width: int) -> Numbers:
    """Return numbers (N, G) by panel, for groups that kernels know and inputs up to `width`; none is rounded."""
    values, units = scales.values, scales.units
    if group % INPUT_GROUP:
        values, group = np.repeat(values, group // _SHORTEST, axis=1), _SHORTEST
    missing = width // group - values.shape[1]
    shared = 0 if units is None else values.shape[1] // units.shape[1]
    if units is not None and (missing or shared & (shared - 1) or values.dtype.itemsize > 1):
        values = values.astype(np.float32) * np.repeat(units.astype(np.float32), shared, axis=1)
        units = None
    if missing:
        values = np.pad(values, ((0, 0), (0, missing)))
    if units is None and values.dtype.itemsize == 1:
        values = values.astype(np.float32)
    return Numbers(_padded(values), None if units is None else _padded(units))


def _padded(table: npt.NDArray[Any]) -> Array:
    rows = round_up(len(table), PANEL)
    whole = table if len(table) == rows else np.pad(table, ((0, rows - len(table)), (0, 0)))
    return np.ascontiguousarray(by_panel(whole))


def _shortest(found: list[Numbers]) -> Numbers:
    """Return numbers as one, in the shortest type that holds each of them."""
    values = np.concatenate([each.values for each in found])
    units = [each.units for each in found if each.units is not None]
    if not units:
        return Numbers(_halved(values))
    whole = _halved(np.concatenate(units))
    if whole.dtype == np.uint16 and (values.dtype == np.int8 or values.max(initial=0) <= _MOST_SIGNED):
        return Numbers(values.view(np.int8), whole)
    floats = whole.view(np.float16).astype(np.float32) if whole.dtype == np.uint16 else whole
    return Numbers(_halved(values * np.repeat(floats, values.shape[1] // floats.shape[1], axis=1)))


def _halved(values: Array) -> Array:
    """Return the bits of float16 where it holds all of the numbers, else float32."""
    with np.errstate(over="ignore"):
        halves = values.astype(np.float16)
    if values.dtype == np.float16 or np.array_equal(halves.astype(np.float32), values, equal_nan=True):
        return halves.view(np.uint16)
    return values.astype(np.float32)
