"""Packs of decoders, compared and damaged."""

from __future__ import annotations

from dataclasses import fields, is_dataclass
from typing import Any

import numpy as np

from llmpar.engine.cpu.embedding import StoredTable


def same(a: Any, b: Any) -> bool:
    """Tell whether two decoders, or parts of them, are equal to the last bit and of the same types.

    An embedding that stays in its file is equal to an array of the same numbers.
    """
    if isinstance(a, StoredTable) or isinstance(b, StoredTable):
        return same(a[:], b[:])
    if is_dataclass(a):
        return type(a) is type(b) and all(same(getattr(a, f.name), getattr(b, f.name)) for f in fields(a))
    if isinstance(a, tuple):
        return isinstance(b, tuple) and len(a) == len(b) and all(map(same, a, b))
    if isinstance(a, np.ndarray):
        return type(b) is np.ndarray and (a.dtype, a.shape) == (b.dtype, b.shape) and np.array_equal(a, b)
    return type(a) is type(b) and a == b
