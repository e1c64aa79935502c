"""The weights of the model for text in one that also takes images or sounds, by the names that it has alone."""

from __future__ import annotations

import re
from collections.abc import Mapping

from llmpar.engine.quantized import Floats, Quantized
from llmpar.engine.source import WeightSource

_PREFIX = re.compile(r"^(?:model\.)?language_model\.(?:model\.)?(?=.)")
_HEAD = "lm_head."


class TextPart:
    """Some weights of a WeightSource under names of their own.

    Args:
        source: has the weights of the larger model.
    """

    def __init__(self, source: WeightSource) -> None:
        self._source = source
        names = list(source.shapes)
        if any(_PREFIX.match(name) for name in names):
            own = {_own_name(name): name for name in names if _PREFIX.match(name) or name.startswith(_HEAD)}
        else:  # older files have no prefix for text, and others for the rest
            own = {name: name for name in names if name.startswith(("model.", _HEAD))}
        self._names = own

    @property
    def shapes(self) -> Mapping[str, tuple[int, ...]]:
        """The shape of each weight."""
        shapes = self._source.shapes
        return {name: shapes[other] for name, other in self._names.items()}

    @property
    def bits(self) -> int:
        """How many bits weights of the larger model have; see `WeightSource.bits`."""
        return self._source.bits

    def rows(self, name: str, rows: slice) -> Quantized | Floats:
        """Return some rows of a matrix (N, K), or elements of a vector (N,); see `WeightSource.rows`."""
        return self._source.rows(self._names[name], rows)

    def kind(self, name: str) -> str:
        """Return what the form of a weight is called."""
        return self._source.kind(self._names[name])

    def give_back(self, name: str) -> None:
        """Let go of the memory that the pages of a weight take."""
        self._source.give_back(self._names[name])


def _own_name(name: str) -> str:
    rest = _PREFIX.sub("", name)
    return rest if rest.startswith(_HEAD) else f"model.{rest}"
