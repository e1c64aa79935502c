"""What the weights of a model are read from, whatever the form of their files."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Protocol

import numpy as np

from llmpar.engine.quantized import Floats, Places, Quantized


class WeightSource(Protocol):
    """The weights of a model, by the names that transformers gives its parameters. They are read when they are used."""

    @property
    def shapes(self) -> Mapping[str, tuple[int, ...]]:
        """The shape of each. One that is another's under a second name (a tied head) may be left out."""

    @property
    def bits(self) -> int:
        """How many bits the longest of those that make up most of the weights have: 4 to 8, 16 or 32."""

    def rows(self, name: str, rows: slice | Places) -> Quantized | Floats:
        """Return some rows of a matrix (N, K), or elements of a vector (N,), as their file has them.

        All neighbouring rows of one matrix are of one kind: Quantized with one group, table and type of scales, or
        float32. Those at some places, as an embedding's, may be float32 in any case.
        """

    def kind(self, name: str) -> str:
        """Return what the file calls the form of a tensor, for people."""

    def give_back(self, name: str) -> None:
        """Let go of the memory that a tensor's pages take; they are read again if they are used again."""


@dataclass(frozen=True, slots=True)
class SourceRows:
    """A matrix of a source, of which some rows are looked at at a time."""

    source: WeightSource
    name: str

    @property
    def shape(self) -> tuple[int, ...]:
        """How many rows and columns it has."""
        return self.source.shapes[self.name]

    def __getitem__(self, rows: slice | Places, /) -> Quantized | Floats:
        """Return some rows (n, K), or elements (n,) of a vector, as the file has them."""
        return self.source.rows(self.name, rows)

    def floats(self, rows: slice | Places = slice(None)) -> Floats:
        """Return some rows (n, K), or elements (n,) of a vector, in float32."""
        found = self[rows]
        # A mapped file is not writable, which torch does not like.
        return found.weights() if isinstance(found, Quantized) else np.require(found, np.float32, ["C", "W"])

    def give_back(self) -> None:
        """Let go of the memory that its pages take."""
        self.source.give_back(self.name)
