"""Prompts are padded to few sizes, and nothing comes out otherwise for it."""

from __future__ import annotations

from copy import deepcopy
from typing import Any

import numpy as np
import pytest
import torch

DEVICE = torch.device("cuda:0" if torch.cuda.is_available() else "cpu")
pytest.importorskip("triton")

from support.tiny_models import make_shallow  # noqa: E402

from llmpar.engine.cuda import reading  # noqa: E402
from llmpar.engine.cuda.decoder import PagedCache, Pass  # noqa: E402
from llmpar.engine.cuda.from_transformers import build_decoder  # noqa: E402
from llmpar.engine.cuda.reading import Reader  # noqa: E402
from llmpar.engine.cuda.sizes import most_recorded, pass_size, step_size  # noqa: E402
from llmpar.engine.cuda.stream import Stream  # noqa: E402

LENGTHS = [5, 1, 19]


def test_sizes_are_few_and_near() -> None:
    sizes = [pass_size(count) for count in range(1, 8193)]
    assert sizes == sorted(sizes)
    assert all(count <= size <= max(16, 2 * count) for count, size in enumerate(sizes, 1))
    assert all(size <= 1.25 * count for count, size in enumerate(sizes, 1) if count > 512)
    assert len(set(sizes)) == 22
    assert [step_size(count) for count in (1, 3, 128, 129, 1024)] == [1, 4, 128, 256, 1024]


def test_what_keeps_the_device_busy_is_not_recorded() -> None:
    assert most_recorded(8192, 3_500_000) == 8192  # 135M
    assert most_recorded(8192, 218_000_000) == 128  # 8B
    assert most_recorded(8192, 1 << 40) == 16
    assert most_recorded(7, 1 << 20) == 16


@torch.inference_mode()
@pytest.mark.parametrize("spare", [64, 1], ids=["padded", "of too many blocks"])
def test_a_padded_pass_gives_what_the_plain_one_gives(spare: int, monkeypatch: pytest.MonkeyPatch) -> None:
    """Even where padding has keys and values of its own on the page that is nobody's."""
    monkeypatch.setattr(reading, "_SPARE_BLOCKS", spare)
    decoder = build_decoder(deepcopy(make_shallow("llama")).to(DEVICE))
    found, rows = [], []
    plain = Pass.forward

    def counted(self: Pass, tokens: Any) -> torch.Tensor:
        rows.append(len(tokens.ids))
        return plain(self, tokens)

    monkeypatch.setattr(Pass, "forward", counted)
    for name in ("read", "read_as_they_are"):
        tables = torch.tensor([[0, 1], [2, 3], [4, 5], [6, 6]], dtype=torch.int32, device=DEVICE)
        pages = decoder.make_pages(7).zero_()
        cache = PagedCache(pages, tables, torch.zeros(4, dtype=torch.int32, device=DEVICE), 0)
        reader = Reader(decoder, Pass(decoder, cache), Stream(DEVICE), 3, 32)
        ids = np.arange(sum(LENGTHS), dtype=np.int32) * 7 % 290
        positions = np.concatenate([np.arange(length, dtype=np.int32) for length in LENGTHS])
        slots = np.repeat(np.arange(3, dtype=np.int32), LENGTHS)
        for _ in range(3 if DEVICE.type == "cuda" else 1):  # recorded the second time, and replayed the third
            hidden = getattr(reader, name)(ids, positions, slots, LENGTHS).clone()
        found.append((hidden, pages[:, :, :6].clone()))
    assert all(torch.equal(*pair) for pair in zip(*found, strict=True))
    assert rows[0] == (32 if spare > 1 else 25)
