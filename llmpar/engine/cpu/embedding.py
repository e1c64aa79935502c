"""The embedding of a decoder: an array, or rows that stay in their file until they are looked up.

A file's own embedding is as large as a head: of a model of 8 billion weights with 128,000 tokens, a gigabyte in 16
bits. A pass looks up one row for each of its tokens, which costs nothing beside its layers.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from math import prod
from typing import Any

import numpy as np
import numpy.typing as npt

from llmpar.engine.cpu.floats import stored
from llmpar.engine.cpu.grouped import NamedRows, floats, pieces, side_by_side
from llmpar.engine.cpu.precision import Array, Precision
from llmpar.engine.cpu.projection import WeightRows

_ROWS = 4096  # that are in float32 at a time


@dataclass(frozen=True, slots=True)
class StoredTable:
    """An embedding (V, H) that stays where it is: `rows` are read when they are looked up.

    `dtype` is what they are given in: float32, or uint16 for bfloat16. They are the numbers that an array would have.
    """

    rows: NamedRows
    dtype: Any

    @property
    def shape(self) -> tuple[int, ...]:
        """V and H."""
        return self.rows.shape

    @property
    def nbytes(self) -> int:
        """How many bytes it has as an array."""
        return prod(self.shape) * int(np.dtype(self.dtype).itemsize)

    def parts(self) -> Iterator[Array]:
        """Yield its rows, some (n, H) at a time."""
        return (self[rows] for rows in pieces(self.shape[0], _ROWS))

    def __getitem__(self, places: slice | npt.NDArray[np.intp], /) -> Array:
        """Return some rows (n, H)."""
        return stored(floats(self.rows, places), self.dtype)


Embedding = Array | StoredTable


def make_table(source: WeightRows, precision: Precision) -> Array:
    """Return an embedding (V, H) as an array, made a piece at a time."""
    table = np.empty(source.shape, precision.embedding)

    def put(rows: slice) -> None:
        table[rows] = stored(source[rows], precision.embedding)

    for _ in side_by_side(put, pieces(source.shape[0], _ROWS)):
        pass
    return table


def looked_up(embedding: Embedding, ids: npt.NDArray[np.int32]) -> tuple[npt.NDArray[np.int32], Array]:
    """Return places (n,) and a table in which the embeddings of some tokens (n,) are at these places."""
    if not isinstance(embedding, StoredTable):
        return ids, embedding
    used, places = np.unique(ids, return_inverse=True)
    return places.astype(np.int32), embedding[used.astype(np.intp)]
