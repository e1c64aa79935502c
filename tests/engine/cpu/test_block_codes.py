"""Codes in blocks are put into words, and scales of 6 bits taken apart, as slow and plain code would do it."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest

from llmpar.engine.cpu.block_codes import BlockCodes, BlockLayout, put_six_bits
from llmpar.engine.cpu.precision import PANEL

_LAYOUTS = {
    "Q8_0": (BlockLayout(34, 32, 2, 0), 4),
    "Q4_0": (BlockLayout(18, 32, 2, zero=8), 8),
    "Q4_K": (BlockLayout(144, 256, 16, 4, 32), 8),
    "Q5_0": (BlockLayout(22, 32, 6, high=2, high_bits=1), 4),
    "Q6_K": (BlockLayout(210, 256, 0, 2, 64, 128, 2, 2, 32), 4),
}


@pytest.mark.parametrize("name", _LAYOUTS)
@pytest.mark.parametrize(("rows", "blocks", "more"), [(1, 1, 0), (PANEL, 2, 1), (2 * PANEL + 1, 17, 0), (50, 3, 2)])
def test_words_hold_the_codes_of_all_rows_whatever_their_number(name: str, rows: int, blocks: int, more: int) -> None:
    layout, per_word = _LAYOUTS[name]
    raw = np.random.default_rng(rows).integers(0, 256, (rows, blocks * layout.size), dtype=np.uint8)
    codes = BlockCodes(raw, layout, is_signed=bool(layout.zero))
    words = np.full((-(-rows // PANEL), blocks * layout.codes // per_word + more, PANEL), 0xDEADBEEF, np.uint32)
    codes.lay(per_word, layout.zero, words)
    stored = (np.asarray(codes).astype(np.int32) + layout.zero).astype(np.uint8)
    assert np.array_equal(words, _words(stored, per_word, *words.shape[:2]))


def _words(codes: Any, per_word: int, num_panels: int, length: int) -> Any:
    whole = np.zeros((num_panels * PANEL, length * per_word), np.uint8)
    whole[: len(codes), : codes.shape[1]] = codes
    bytes_: Any = whole.reshape(num_panels, PANEL, length, per_word)
    if per_word == 8:
        bytes_ = bytes_[..., :4] | bytes_[..., 4:] << 4
    return np.ascontiguousarray(bytes_).view("<u4")[..., 0].transpose(0, 2, 1)


@pytest.mark.parametrize("size", [144, 176])
@pytest.mark.parametrize("shift", [0, 1])
def test_scales_of_six_bits_wherever_they_lie(size: int, shift: int) -> None:
    data = np.random.default_rng(size).integers(0, 256, 5 * 7 * size + shift, dtype=np.uint8)
    raw = data[shift:].reshape(5, 7 * size)
    found = [np.zeros((5, 56), np.uint8) for _ in range(2)]
    put_six_bits(raw, size, 4, *found)
    packed = raw.reshape(5, 7, size)[:, :, 4:16]
    first, second, upper = packed[..., :4], packed[..., 4:8], packed[..., 8:]
    scales = np.concatenate([first & 63, upper & 15 | first >> 2 & 48], axis=-1)
    offsets = np.concatenate([second & 63, upper >> 4 | second >> 2 & 48], axis=-1)
    assert np.array_equal(found[0], scales.reshape(5, 56))
    assert np.array_equal(found[1], offsets.reshape(5, 56))
