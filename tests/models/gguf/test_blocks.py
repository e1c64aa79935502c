"""Blocks of weights are read exactly: bit by bit as gguf's own dequantisation does."""

from __future__ import annotations

import numpy as np
import pytest
from gguf import GGML_QUANT_SIZES, GGMLQuantizationType, dequantize

from llmpar.engine.quantized import Quantized
from llmpar.models.gguf.blocks import is_ours, unpack
from llmpar.models.gguf.kinds import KINDS

ROWS, COLUMNS = 24, 1024
OURS = {
    "Q4_0": (4, 32),
    "Q4_1": (4, 32),
    "Q5_0": (5, 32),
    "Q5_1": (5, 32),
    "Q8_0": (8, 32),
    "Q4_K": (4, 32),
    "Q5_K": (5, 32),
    "Q6_K": (6, 16),
    "IQ4_NL": (4, 32),
    "IQ4_XS": (4, 32),
    "MXFP4": (4, 32),
}


def noise(name: str) -> np.ndarray:
    """Return rows of random blocks; all that bytes can say is among them."""
    group, size = GGML_QUANT_SIZES[GGMLQuantizationType[name]]
    return np.random.default_rng(7).integers(0, 256, (ROWS, COLUMNS // group * size), dtype=np.uint8)


@pytest.mark.parametrize("kind", KINDS.values(), ids=lambda kind: kind.name)
@np.errstate(all="ignore")
def test_every_kind_is_what_gguf_makes_of_it(kind) -> None:
    if kind.name == "F64":  # which gguf does not turn into floats
        values = np.random.default_rng(7).normal(size=(ROWS, COLUMNS))
        assert (unpack(kind, values.view(np.uint8)) == values.astype(np.float32)).all()
        return
    raw = noise(kind.name)
    found = unpack(kind, raw)
    floats = found.weights() if isinstance(found, Quantized) else found
    expected = dequantize(raw, GGMLQuantizationType[kind.name])
    assert floats.dtype == np.float32
    assert floats.shape == (ROWS, COLUMNS)
    assert ((floats.view(np.uint32) == expected.view(np.uint32)) | (np.isnan(floats) & np.isnan(expected))).all()


@pytest.mark.parametrize("name", OURS)
def test_ours_keep_their_codes(name: str) -> None:
    kind = next(kind for kind in KINDS.values() if kind.name == name)
    found = unpack(kind, noise(name))
    assert isinstance(found, Quantized)
    assert is_ours(kind)
    assert (found.bits, found.group) == OURS[name]
    codes = np.asarray(found.codes)
    assert (codes.shape, codes.dtype) == (found.codes.shape, found.codes.dtype)
    assert codes.dtype in (np.int8, np.uint8)
    whole = 1 << found.bits
    assert (codes.min(), codes.max()) == ((-whole // 2, whole // 2 - 1) if codes.dtype == np.int8 else (0, whole - 1))
    for scales in filter(None, (found.scales, found.offsets)):
        assert scales.values.dtype in (np.float32, np.float16, np.int8, np.uint8)
        assert scales.values.shape == (ROWS, COLUMNS // found.group)


def test_sizes_are_those_of_gguf() -> None:
    for number, kind in KINDS.items():
        assert (kind.name, (kind.group, kind.size)) == (
            GGMLQuantizationType(number).name,
            GGML_QUANT_SIZES[GGMLQuantizationType(number)],
        )
