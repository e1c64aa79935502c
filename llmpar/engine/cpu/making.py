"""Matrices out of a file → the parts of a decoder that hold them. Knows no transformers and no torch."""

from __future__ import annotations

from collections.abc import Callable
from collections.abc import Sequence as SequenceOf
from dataclasses import dataclass

import numpy as np

from llmpar.engine.cpu.dots import DOTS
from llmpar.engine.cpu.embedding import StoredTable
from llmpar.engine.cpu.grouped import NamedRows, StoredRows, floats, form_of
from llmpar.engine.cpu.precision import Floats, Precision
from llmpar.engine.cpu.projection import Projection, WeightRows


@dataclass(frozen=True, slots=True)
class Recipe:
    """What a part of a decoder is made of, so that it can be made again.

    `names` are a source's matrices, one below the other. `form` is the name of the dot product for which codes are kept
    as they are; None where they become floats and are packed for `precision`. `bias` (N,) is a projection's, or empty.
    An embedding `is_table`.
    """

    names: tuple[str, ...]
    precision: Precision
    form: str | None
    bias: Floats
    is_table: bool = False


def form_in(rows: StoredRows, precision: Precision) -> str | None:
    """Return the name of the form in which a matrix (N, K) is kept as its file has it, None if it is not."""
    found = None if precision.group is None else form_of(rows, precision.bits)
    return found.name if found else None


def make(recipe: Recipe, rows_of: Callable[[str], NamedRows]) -> Projection | StoredTable:
    """Return the projection, or the embedding (V, H), that a recipe is for.

    Args:
        recipe: the recipe.
        rows_of: returns the matrix (N, K) of a name.
    """
    rows = [rows_of(name) for name in recipe.names]
    if recipe.is_table:
        return StoredTable(rows[0], recipe.precision.embedding)
    bias = recipe.bias if recipe.bias.size else None
    if recipe.form:
        return Projection.keep(rows[0], bias, DOTS[recipe.form])
    return Projection.pack(OneBelowTheOther([AsFloats(each) for each in rows]), bias, recipe.precision)


@dataclass(frozen=True, slots=True)
class AsFloats:
    """A matrix as a file has it, in float32 where it is looked at."""

    rows: StoredRows

    @property
    def shape(self) -> tuple[int, ...]:
        """How many rows and columns it has."""
        return self.rows.shape

    def __getitem__(self, rows: slice, /) -> Floats:
        """Return some rows (n, K)."""
        return floats(self.rows, rows)


class OneBelowTheOther:
    """Matrices with as many columns, as one."""

    def __init__(self, sources: SequenceOf[WeightRows]) -> None:
        self._sources = sources

    @property
    def shape(self) -> tuple[int, ...]:
        """How many rows and columns they have together."""
        return sum(source.shape[0] for source in self._sources), self._sources[0].shape[1]

    def __getitem__(self, rows: slice, /) -> Floats:
        """Return some rows (n, K)."""
        found, first = [], 0
        begin, end, _ = rows.indices(self.shape[0])
        for source in self._sources:
            start, stop = max(begin - first, 0), min(end - first, source.shape[0])
            if start < stop:
                found.append(source[start:stop])
            first += source.shape[0]
        return found[0] if len(found) == 1 else np.concatenate(found)
