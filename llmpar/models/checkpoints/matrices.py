"""Matrices of a checkpoint, made of one tensor or of several: what a row of weights is, is computed when it is read."""

from __future__ import annotations

from collections.abc import Callable
from functools import cached_property
from typing import Any, Protocol

import numpy as np
import numpy.typing as npt

from llmpar.engine.quantized import Floats, Places, Quantized, Scales
from llmpar.models.checkpoints.tensors import Tensors

_TOGETHER = 32  # rows, which stay in a cache while they are computed
Read = Callable[[slice], npt.NDArray[Any]]
"""Returns what a file has for some rows of a matrix."""


class Matrix(Protocol):
    """One weight of a model. `parts` are the tensors that it is made of."""

    parts: tuple[str, ...]
    shape: tuple[int, ...]
    bits: int
    kind: str

    def rows(self, rows: slice) -> Quantized | Floats:
        """Return some rows of a matrix (N, K), or elements of a vector (N,); see `WeightSource.rows`."""


class Plain:
    """A tensor of floats.

    Args:
        tensors: the checkpoint's.
        name: the tensor's.
    """

    def __init__(self, tensors: Tensors, name: str) -> None:
        self._tensors = tensors
        self.parts: tuple[str, ...] = (name,)
        self.shape: tuple[int, ...] = tensors.shapes[name]
        self.kind = tensors.dtype(name)
        self.bits = 32 if self.kind in ("float32", "float64") else 16

    def rows(self, rows: slice | Places) -> Floats:
        """Return a part of the tensor, of any shape, along its first axis."""
        return self._tensors.floats(self.parts[0], rows)


class Grouped:
    """A matrix (N, K) of codes. A weight is scale · (code - zero), scale · code + offset, or scale · table[code].

    Args:
        tensors: the checkpoint's.
        parts: the names of those that the matrix is made of.
        shape: N and K.
        bits: of a code.
        kind: what the form is called.
        codes: returns (n, K) codes, int8 where they are signed, else uint8.
        scales: returns (n, G) float16 or float32.
        zeros: returns (n, G) integers, where they are not all 0.
        offsets: returns (n, G) float16 or float32, where there are such.
        table: (2^bits,) what codes stand for, if not themselves.
        groups: the group (K,) of each input, where not K / G neighbours are one.
    """

    def __init__(
        self,
        tensors: Tensors,
        parts: tuple[str, ...],
        shape: tuple[int, int],
        bits: int,
        kind: str,
        codes: Read,
        scales: Read,
        zeros: Read | None = None,
        offsets: Read | None = None,
        table: Floats | None = None,
        groups: npt.NDArray[Any] | None = None,
    ) -> None:
        self._tensors, self._code_bits, self._middle = tensors, bits, 1 << (bits - 1)
        self._codes, self._scales, self._zeros, self._table = codes, scales, zeros, table
        self._offsets = offsets
        self._groups = groups
        self.parts: tuple[str, ...] = parts
        self.shape: tuple[int, ...] = shape
        self.kind = kind
        self.bits = bits if groups is None else 16

    def rows(self, rows: slice) -> Quantized | Floats:
        """Return some rows (n, K), as floats where groups are not neighbours."""
        codes, scales = self._codes(rows), self._scales(rows).astype(self._scale_type)
        if self._groups is not None:
            return self._floats(codes, scales, rows)
        if self._offsets is not None:
            return Quantized(codes, self._code_bits, Scales(scales), Scales(self._offsets(rows)))
        if self._zeros is None:
            return Quantized(codes, self._code_bits, Scales(scales), table=self._table)
        if self._is_centred:
            signed = codes if codes.dtype == np.int8 else (codes - np.uint8(self._middle)).view(np.int8)
            return Quantized(signed, self._code_bits, Scales(scales))
        # The product of a zero and a scale is exact in two levels: it need not be rounded before it is added.
        zeros = -self._zeros(rows).astype(np.int16)
        offsets = Scales(zeros.astype(np.int8 if self._code_bits < 8 else np.float16), scales)
        return Quantized(codes, self._code_bits, Scales(scales), offsets)

    def _floats(self, codes: npt.NDArray[Any], scales: npt.NDArray[Any], rows: slice) -> Floats:
        assert self._groups is not None
        factors, zeros = scales.astype(np.float32), None if self._zeros is None else self._zeros(rows)
        values = np.empty(codes.shape, np.float32)
        for first in range(0, len(codes), _TOGETHER):
            some = slice(first, first + _TOGETHER)
            values[some] = codes[some] if self._table is None else self._table[codes[some]]
            if zeros is not None:
                values[some] -= np.take(zeros[some], self._groups, axis=1)
            values[some] *= np.take(factors[some], self._groups, axis=1)
        return values

    @cached_property
    def _scale_type(self) -> type[np.floating[Any]]:
        """The shorter of the types that hold all scales exactly."""
        rows = slice(0, self.shape[0])
        scales = self._scales(rows)
        self._tensors.expect_finite(scales, self.parts[0])
        if self._offsets is not None:
            self._tensors.expect_finite(self._offsets(rows), self.parts[0])
        if scales.dtype == np.float16:
            return np.float16
        with np.errstate(over="ignore"):
            return np.float16 if (scales.astype(np.float16) == scales).all() else np.float32

    @cached_property
    def _is_centred(self) -> bool:
        """Whether every zero is the middle of the codes, so that these are signed numbers without offsets."""
        assert self._zeros
        is_signed = self._codes(slice(0, 1)).dtype == np.int8
        return bool((self._zeros(slice(0, self.shape[0])) == (0 if is_signed else self._middle)).all())


def contiguous_groups(num_inputs: int, num_groups: int, size: int) -> npt.NDArray[np.int64] | None:
    """Return the group (K,) of each input where neighbours share one, and None if all groups are equally long.

    Args:
        num_inputs: K.
        num_groups: how many there are.
        size: how many inputs each has; the last one may have fewer.
    """
    return None if num_groups * size == num_inputs else np.arange(num_inputs) // size
