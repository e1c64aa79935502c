"""A checkpoint as a source of weights: its matrices by the names that transformers gives the parameters."""

from __future__ import annotations

from collections import Counter
from collections.abc import Mapping
from math import prod

import numpy as np

from llmpar.engine.quantized import Floats, Places, Quantized
from llmpar.models.checkpoints.matrices import Matrix, Plain
from llmpar.models.checkpoints.tensors import EIGHT_BIT_FLOATS, FLOATS, INTEGERS, Tensors

_MOST = 0.9  # of the weights, which a precision must hold
# These are of no use here: activations, keys and values are not rounded to few bits, and buffers are computed.
_LEFT_OUT = (
    ".input_scale",
    ".input_zero_point",
    ".input_global_scale",
    ".activation_scale",
    ".output_scale",
    ".output_zero_point",
    ".q_scale",
    ".k_scale",
    ".v_scale",
    ".kv_scale",
    ".rotary_emb.inv_freq",
)


class CheckpointSource:
    """A WeightSource over a directory of safetensors.

    Args:
        tensors: the directory's.
        quantized: the weights that are quantised, by their parameters' names. All other tensors are plain.

    Raises:
        ModelUnavailable: a tensor of codes belongs to no weight.
    """

    def __init__(self, tensors: Tensors, quantized: Mapping[str, Matrix]) -> None:
        self._tensors = tensors
        self._quantized = quantized
        self._matrices = dict(quantized)
        used = {part for matrix in quantized.values() for part in matrix.parts}
        for name in sorted(tensors.shapes.keys() - used):
            dtype = tensors.dtype(name)
            if quantized and dtype in (*INTEGERS, *EIGHT_BIT_FLOATS):
                raise tensors.damaged(f"{name} is of the type {dtype}, and nothing says what it stands for")
            if dtype in (*FLOATS, *EIGHT_BIT_FLOATS) and tensors.shapes[name] and not name.endswith(_LEFT_OUT):
                self._matrices[name] = Plain(tensors, name)

    @property
    def shapes(self) -> Mapping[str, tuple[int, ...]]:
        """The shape of each weight."""
        return {name: matrix.shape for name, matrix in self._matrices.items()}

    @property
    def bits(self) -> int:
        """The bits that hold nine tenths of the weights that are quantised, or of all where none is.

        Fewer than 4 count as 4. Those that are read as floats, since no integers in groups hold them, count as 16.
        """
        counts: Counter[int] = Counter()
        for matrix in (self._quantized or self._matrices).values():
            counts[max(4, matrix.bits)] += prod(matrix.shape)
        held = 0
        for bits in sorted(counts):
            held += counts[bits]
            if held >= _MOST * counts.total():
                return bits
        return 32

    def rows(self, name: str, rows: slice | Places) -> Quantized | Floats:
        """Return some rows of a matrix (N, K), or elements of a vector (N,); see `WeightSource.rows`.

        Raises:
            ModelUnavailable: what the file has there is damaged.
        """
        matrix = self._matrices[name]
        if isinstance(rows, slice):
            return matrix.rows(slice(*rows.indices(matrix.shape[0])[:2]))
        if isinstance(matrix, Plain):
            return matrix.rows(rows)
        found = [matrix.rows(slice(place, place + 1)) for place in rows.tolist()]
        return np.concatenate([each.weights() if isinstance(each, Quantized) else each for each in found])

    def kind(self, name: str) -> str:
        """Return what the form of a weight is called."""
        return self._matrices[name].kind

    def give_back(self, name: str) -> None:
        """Let go of the memory that the pages of a weight take."""
        for part in self._matrices[name].parts:
            self._tensors.give_back(part)
