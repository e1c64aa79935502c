"""Quantised checkpoints in use: what they hold is multiplied as it is, and answers are those of their numbers."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch

from llmpar.engine.cpu.decoder import Decoder, Pass, Tokens
from llmpar.engine.pages import num_pages_of
from llmpar.models import registry
from llmpar.models.load import load_model
from llmpar.models.opening import open_files

PLACE = Path(__file__).parent / "checkpoints"
FOUR, EIGHT, TABLE = "int4", "codes of 8 bits", "int4 by table"


def logits_of(decoder: Decoder, ids: Any) -> Any:
    count = num_pages_of(len(ids))
    places = np.arange(len(ids), dtype=np.int32)
    work = Pass(decoder, len(ids), *decoder.make_pages(count))
    tables = np.arange(count, dtype=np.int32)[None]
    return work.logits(work.forward(Tokens(ids, places, np.zeros_like(places), tables)))


@pytest.fixture(autouse=True)
def cache(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("LLMPAR_CACHE", str(tmp_path / "cache"))


@pytest.mark.parametrize(
    ("name", "form"),
    [
        ("gptq-4-bits", FOUR),
        ("gptq-8-bits", EIGHT),
        ("awq", FOUR),
        ("compressed-w4a16", FOUR),
        ("compressed-w8a8", EIGHT),
        ("gptq-4-bits-act-order", "int8"),  # whose codes cannot be kept in groups
    ],
)
def test_codes_are_kept_and_logits_are_those_of_their_numbers(name: str, form: str) -> None:
    (model,) = load_model(PLACE / name, "cpu", "int8").models
    decoder = model.decoder  # type: ignore[attr-defined]
    assert {projection.dot.name for projection in decoder.layers[0].gate_up} == {form}
    skeleton = open_files(PLACE / name)
    assert skeleton
    ids = np.arange(1, 15, dtype=np.int32)
    with torch.inference_mode():
        filled = skeleton.filled(torch.float32)
        expected = filled(torch.from_numpy(ids).long()[None]).logits[0].numpy()
    found = logits_of(decoder, ids)
    assert np.linalg.norm(found - expected) < 0.1 * np.linalg.norm(expected - expected.mean(-1, keepdims=True))


@pytest.mark.parametrize(("name", "bits"), [("awq", 4), ("compressed-w8a8", 8), ("gptq-4-bits-act-order", 16)])
def test_auto_knows_how_many_bits_they_have(name: str, bits: int, tmp_path: Path) -> None:
    directory = tmp_path / name
    directory.mkdir()
    for file in ("config.json", "model.safetensors"):
        (directory / file).write_bytes((PLACE / name / file).read_bytes())
    (directory / "tokenizer.json").write_text(json.dumps({}))
    assert registry.resolve(str(directory)).source_bits == bits
