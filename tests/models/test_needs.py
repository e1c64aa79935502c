"""A model that is too large is refused before it is read, with what it needs, what there is and what would fit."""

from __future__ import annotations

import json
from copy import deepcopy
from pathlib import Path
from typing import Any

import pytest
import torch
from support.gguf_models import write_model
from support.tiny_models import make

from llmpar.engine.cpu.precision import PRECISIONS
from llmpar.errors import ModelUnavailable, told_in_shell
from llmpar.models import convert, load, needs, opening
from llmpar.models.mapped import MappedWeights

LARGE = {
    "model.embed_tokens.weight": (128_256, 4096),
    "model.layers.0.mlp.up_proj.weight": (7_000_000_000 // 4096, 4096),
    "model.norm.weight": (4096,),
    "lm_head.weight": (128_256, 4096),
}
"""About 8 billion weights."""


def test_what_is_counted_is_what_is_packed(tmp_path: Path) -> None:
    for name in ("llama", "llama-tied-bias"):
        path = tmp_path / name
        deepcopy(make(name)).to(torch.bfloat16).save_pretrained(path)
        shapes = MappedWeights([path / "model.safetensors"]).shapes
        for precision in ("bf16", "int8"):
            (model,) = load.load_model(path, "cpu", precision).models  # type: ignore[arg-type]
            decoder: Any = model.decoder  # type: ignore[attr-defined]
            projections = [
                part for layer in decoder.layers for part in (*layer.qkv, layer.output, *layer.gate_up, layer.down)
            ]
            packed = sum(part.weight.nbytes + part.factors.nbytes for part in (*projections, decoder.head))
            counted = needs.num_bytes(shapes, precision) - needs._BESIDE  # type: ignore[arg-type]
            assert 0.5 < counted / packed < 1.3, "small ones are filled up to panels"


def test_what_is_kept_is_counted_as_it_is(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(needs, "_BESIDE", 0)
    path = write_model(tmp_path / "m.gguf", make("llama"), "Q4_0")
    source = opening.open_source(path)
    assert source
    kept = needs._kept(source, "int8")
    assert set(kept) == {name for name, shape in source.shapes.items() if len(shape) > 1}
    needed = needs.num_bytes(source.shapes, "int8", kept)
    assert needed < 0.8 * needs.num_bytes(source.shapes, "int8")
    monkeypatch.setattr(needs, "available_memory", lambda: needed)
    needs.check_room(path, "int8")
    with pytest.raises(ModelUnavailable, match="are free"):
        needs.check_room(path, "fp32")


@pytest.mark.parametrize(
    ("free", "asked", "told"),
    [
        (20, "bf16", None),
        (12, "bf16", r"needs about 15\.6 GB of memory in bf16, and 12\.0 GB are free; take --precision int8"),
        (12, "int8", None),
        (1, "bf16", r"and 1\.0 GB are free; take a model of at most 0\.\d+ billion weights, or free some"),
        (0, "int8", r"at most 0 billion weights"),
    ],
)
def test_too_large_a_model_is_refused(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path, free: float, asked: Any, told: str | None
) -> None:
    (tmp_path / "config.json").write_text("{}")

    class Weights:
        shapes = LARGE

        def __init__(self, files: object) -> None: ...

    monkeypatch.setattr(needs, "MappedWeights", Weights)
    monkeypatch.setattr(needs, "available_memory", lambda: int(free * 1e9))
    with told_in_shell():
        if told is None:
            needs.check_room(tmp_path, asked)
        else:
            with pytest.raises(ModelUnavailable, match=told):
                needs.check_room(tmp_path, asked)


@pytest.mark.parametrize(
    ("free", "asked", "native", "found"),
    [
        (40, "int8", "fp32", "fp32"),
        (20, "int8", "fp32", "bf16"),
        (20, "int8", "bf16", "bf16"),
        (
            20,
            "fp32",
            "fp32",
            r"about 32\.7 GB of memory in fp32, .* 20\.0 GB are free; take --precision bf16, or",
        ),
        (10, "fp32", "fp32", r"about 32\.7 GB of memory in fp32, and 10\.0 GB are free; let a server .*--endpoint"),
        (10, "int4", "fp32", r"about 16\.6 GB of memory in bf16"),
    ],
)
def test_torch_takes_the_floats_that_there_is_room_for(
    monkeypatch: pytest.MonkeyPatch, free: float, asked: Any, native: Any, found: str
) -> None:
    monkeypatch.setattr(needs, "available_memory", lambda: int(free * 1e9))
    with told_in_shell():
        if found in PRECISIONS:
            assert needs.floats_with_room(Path("m"), LARGE, asked, native) == found
        else:
            with pytest.raises(ModelUnavailable, match=found):
                needs.floats_with_room(Path("m"), LARGE, asked, native)


def test_it_is_said_before_anything_is_loaded(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    deepcopy(make("llama")).to(torch.bfloat16).save_pretrained(tmp_path)
    monkeypatch.setattr(needs, "available_memory", lambda: 1000)
    monkeypatch.setattr(opening, "open_files", None)
    with pytest.raises(ModelUnavailable, match=r"needs about 0\.5 GB"):
        load.load_model(tmp_path, "cpu", "bf16")


def test_what_cannot_be_judged_is_left_to_whoever_loads_it(tmp_path: Path) -> None:
    (tmp_path / "model.safetensors").write_bytes(json.dumps({}).encode())
    needs.check_room(tmp_path, "bf16")
    needs.check_room(tmp_path / "none", "bf16")


def test_a_file_that_would_be_expanded_beyond_memory(monkeypatch: pytest.MonkeyPatch) -> None:
    from collections import Counter

    monkeypatch.setattr(convert, "available_memory", lambda: 24_000_000_000)
    convert._check_room(Path("x.gguf"), Counter(Q4_0=5_000_000_000), "Q4_0")
    convert._check_room(Path("x.gguf"), Counter(F16=8_000_000_000), "F16")
    with pytest.raises(ModelUnavailable, match=r"needs about 32\.0 GB .* and 24\.0 GB are free; .* 6 billion"):
        convert._check_room(Path("x.gguf"), Counter(Q4_0=8_000_000_000), "Q4_0")


def test_every_precision_is_counted() -> None:
    sizes = {name: needs.num_bytes(LARGE, name) for name in PRECISIONS}
    assert all(sizes[a] > sizes[b] for a in sizes for b in sizes if PRECISIONS[a].bits > PRECISIONS[b].bits)
