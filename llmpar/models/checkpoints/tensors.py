"""The tensors of a checkpoint as arrays of numpy, and the words that say what is wrong with one."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt

from llmpar.engine.quantized import Floats, Places
from llmpar.errors import ModelUnavailable
from llmpar.models.configuration import read_json
from llmpar.models.mapped import MappedWeights, OtherFiles

FLOATS = ("float32", "float16", "bfloat16", "float64")
EIGHT_BIT_FLOATS = ("float8_e4m3fn", "float8_e5m2")
INTEGERS = ("int8", "uint8", "int16", "uint16", "int32", "uint32", "int64", "uint64")

_LARGEST = 1e30  # that a scale may be: times the largest of all codes it is finite

Shape = tuple[int | None, ...]
"""The lengths of a tensor, None for any."""


_INDEX, _WHOLE = "model.safetensors.index.json", "model.safetensors"


class Tensors:
    """All tensors of a directory of safetensors: of the files that its index names, or of the one there is.

    Args:
        path: the directory.

    Raises:
        ModelUnavailable: a file is missing, is damaged, or has tensors of types that are not known.
    """

    def __init__(self, path: Path) -> None:
        self._path = path
        try:
            self._mapped = MappedWeights(_files(path), with_codes=True)
        except OtherFiles as error:
            raise ModelUnavailable(f"{str(path)!r}: cannot be loaded: {error}") from error
        self.shapes: Mapping[str, tuple[int, ...]] = self._mapped.shapes
        """The shape of each tensor, by its name."""

    @property
    def metadata(self) -> Mapping[str, str]:
        """What the files say beside their tensors."""
        return self._mapped.metadata

    def ending(self, suffix: str) -> list[str]:
        """Return what stands before `suffix` in the names that end so, in the alphabet's order."""
        return sorted(name.removesuffix(suffix) for name in self.shapes if name.endswith(suffix))

    def dtype(self, name: str) -> str:
        """Return a tensor's type, by torch's name."""
        return self._mapped.dtype(name)

    def expect(self, name: str, dtypes: tuple[str, ...], *shapes: Shape) -> None:
        """Raise ModelUnavailable unless there is a tensor of one of these types and shapes (of any, if none is named).

        Args:
            name: its name.
            dtypes: types by torch's names.
            shapes: lengths, with None for any.
        """
        if name not in self.shapes:
            raise self.damaged(f"has no {name}")
        if self.dtype(name) not in dtypes:
            raise self.damaged(f"{name} is of the type {self.dtype(name)}, which is not {' or '.join(dtypes)}")
        found = self.shapes[name]
        if shapes and not any(_fits(found, shape) for shape in shapes):
            wanted = " or ".join(str(list(shape)).replace("None", "any") for shape in shapes)
            raise self.damaged(f"{name} has the shape {list(found)}, which is not {wanted}")

    def expect_finite(self, scales: npt.NDArray[Any], name: str) -> None:
        """Raise ModelUnavailable unless all of these are numbers that a code can be multiplied by.

        Args:
            scales: of any shape, or what is added to what they give.
            name: of the tensor whose they are.
        """
        if not (np.abs(scales.astype(np.float32)) < _LARGEST).all():  # nor is it a number, if it is NaN
            raise self.damaged(f"a scale of {name} is no finite number, or too large a one")

    def array(self, name: str) -> npt.NDArray[Any]:
        """Return a tensor of any shape as the file has it; see `MappedWeights.array`."""
        return self._mapped.array(name)

    def floats(self, name: str, rows: slice | Places = slice(None)) -> Floats:
        """Return a part of a tensor of floats of any shape along its first axis, as float32."""
        values = self._mapped.array(name)
        return to_floats(values[rows] if values.ndim else values, self.dtype(name))

    def codes(self, name: str, bits: int, rows: slice) -> npt.NDArray[np.int8]:
        """Return some rows of a matrix (N, K) of integers of 8 bits, of which so many are used.

        Raises:
            ModelUnavailable: one is larger.
        """
        codes: npt.NDArray[np.int8] = self._mapped.array(name)[rows]
        if bits < 8 and (codes.min() < -(1 << (bits - 1)) or codes.max() >= 1 << (bits - 1)):
            raise self.damaged(f"{name} has codes that {bits} bits do not hold")
        return codes

    def scales(self, name: str, rows: npt.NDArray[np.int64]) -> npt.NDArray[Any]:
        """Return some rows (n, G) of a matrix (R, G) or vector (R,) of floats, as float16 if it is of that type."""
        values = self._mapped.array(name)
        values = values.reshape(-1, values.shape[1] if values.ndim == 2 else 1)[rows]
        return values if values.dtype == np.float16 else to_floats(values, self.dtype(name))

    def columns(self, name: str, columns: slice) -> npt.NDArray[Any]:
        """Return some columns (G, N) of a matrix of floats as rows (N, G), as float16 if it is of that type."""
        values = self._mapped.array(name)[:, columns].T
        return values if values.dtype == np.float16 else to_floats(values, self.dtype(name))

    def give_back(self, name: str) -> None:
        """Let go of the memory that a tensor's pages take."""
        self._mapped.give_back(name)

    def damaged(self, reason: str) -> ModelUnavailable:
        """Return the error that says what is wrong with the directory's weights."""
        return ModelUnavailable(f"{str(self._path)!r}: is damaged: {reason}")

    def unknown(self, what: str) -> ModelUnavailable:
        """Return the error that says which option of a quantised checkpoint is not read."""
        return ModelUnavailable(
            f"{str(self._path)!r}: its weights are quantised in a way that is not read: {what}; take the model itself "
            "or another quantisation of it"
        )


def _files(path: Path) -> list[Path]:
    """Return the files that hold the model; others may lie beside them, such as the same in its maker's own layout."""
    if (path / _INDEX).exists():
        places = read_json(path / _INDEX).get("weight_map")
        names = list(places.values()) if isinstance(places, dict) else []
        if not names or not all(isinstance(name, str) and Path(name).name == name for name in names):
            raise ModelUnavailable(f"{str(path / _INDEX)!r}: is damaged: it does not say which files there are")
        if absent := sorted(name for name in names if not (path / name).exists()):
            raise ModelUnavailable(f"{str(path)!r}: has no file {absent[0]}, which its index names")
        return [path / name for name in sorted(set(names))]
    return [path / _WHOLE] if (path / _WHOLE).exists() else sorted(path.glob("*.safetensors"))


def _fits(found: tuple[int, ...], shape: Shape) -> bool:
    return len(found) == len(shape) and all(
        wanted in (None, length) for length, wanted in zip(found, shape, strict=True)
    )


def to_floats(values: npt.NDArray[Any], dtype: str) -> Floats:
    """Return floats of any shape as float32 of their own, which holds all but those of 64 bits exactly.

    Args:
        values: of any shape, as `MappedWeights.array` returns them.
        dtype: their type, by torch's name.
    """
    if dtype == "bfloat16":
        widened: Floats = np.left_shift(values, 16, dtype=np.uint32).view(np.float32)
        return widened
    found: Floats = np.take(_TABLES[dtype], values) if dtype in _TABLES else values.astype(np.float32)
    return found


def _table_of_bytes(exponent: int, mantissa: int, specials: Mapping[int, float]) -> Floats:
    """Return what each of the 256 bytes of a float with a sign stands for.

    Args:
        exponent: how many bits it has.
        mantissa: how many bits it has.
        specials: what bytes without the sign stand for that are no ordinary numbers.
    """
    codes = np.arange(128)
    powers, steps = codes >> mantissa, codes & ((1 << mantissa) - 1)
    bias = (1 << (exponent - 1)) - 1
    values = np.ldexp(steps + (powers > 0) * float(1 << mantissa), np.maximum(powers, 1) - bias - mantissa)
    values[list(specials)] = list(specials.values())
    return np.concatenate([values, -values]).astype(np.float32)


_TABLES = {
    "float8_e4m3fn": _table_of_bytes(4, 3, {127: np.nan}),
    "float8_e5m2": _table_of_bytes(5, 2, {124: np.inf, 125: np.nan, 126: np.nan, 127: np.nan}),
    "float8_e8m0fnu": np.append(np.ldexp(1.0, np.arange(255) - 127), np.nan).astype(np.float32),
}
