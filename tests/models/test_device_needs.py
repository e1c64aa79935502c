"""What a model's weights take on a GPU is told from headers, and one that is too large is refused before it is read."""

from __future__ import annotations

from copy import deepcopy
from dataclasses import fields, is_dataclass
from pathlib import Path
from typing import Any

import pytest
import torch

pytest.importorskip("triton")

from support.gguf_models import write_model
from support.tiny_models import make_shallow

from llmpar.engine.cuda.from_transformers import _assembled
from llmpar.engine.cuda.stored import Stored
from llmpar.engine.parts import take_apart
from llmpar.errors import ModelUnavailable, told_in_shell
from llmpar.models import device_needs
from llmpar.models.opening import open_files

CPU = torch.device("cpu")


def directory(path: Path) -> Path:
    deepcopy(make_shallow("llama")).to(torch.bfloat16).save_pretrained(path)
    return path


def bytes_of(part: Any) -> int:
    """Return the bytes of all tensors in a decoder or a part of it."""
    if isinstance(part, torch.Tensor):
        return part.numel() * part.element_size()
    if isinstance(part, tuple):
        return sum(map(bytes_of, part))
    return sum(bytes_of(getattr(part, field.name)) for field in fields(part)) if is_dataclass(part) else 0


@pytest.mark.parametrize("precision", ["fp8", "int8", "int4"])
@pytest.mark.parametrize("kind", ["bf16", "Q4_0", "Q8_0"])
@torch.inference_mode()
def test_what_is_counted_is_what_is_there(precision: Any, kind: str, tmp_path: Path) -> None:
    path = directory(tmp_path) if kind == "bf16" else write_model(tmp_path / "m.gguf", make_shallow("llama"), kind)
    skeleton = open_files(path)
    assert skeleton
    with skeleton.reading(skeleton.extent):
        parts = take_apart(skeleton.module, skeleton.extent)
    decoder = _assembled(parts, Stored(precision, CPU, torch.bfloat16, skeleton), "auto")
    counted = device_needs.device_bytes(path, precision)
    assert counted is not None
    assert 0.9 < counted / bytes_of(decoder) < 1.1


def test_a_model_that_is_too_large_is_refused_with_what_fits(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    path, free = directory(tmp_path), 0
    monkeypatch.setattr("llmpar.engine.resources.free_memory", lambda _: free)
    monkeypatch.setattr(device_needs, "has_fp8", lambda _: False)
    monkeypatch.setattr(device_needs, "_BESIDE", 0)
    sizes = {name: device_needs.device_bytes(path, name) or 0 for name in ("fp32", "bf16", "int8", "int4")}  # type: ignore[arg-type]
    assert sorted(sizes, key=lambda name: -sizes[name]) == ["fp32", "bf16", "int8", "int4"]
    with told_in_shell():
        for fits, remedy in (
            ("bf16", "take --precision bf16"),
            ("int4", "take --precision int4"),
            (None, "smaller model"),
        ):
            free = sizes[fits] if fits else 1000
            with pytest.raises(ModelUnavailable, match=rf"on cuda:1 in fp32, and .* GB are free; .*{remedy}"):
                device_needs.check_device(path, "fp32", "cuda:1")
            free = free // 2
            with pytest.raises(ModelUnavailable, match=rf"each of 2 shares .* GB are free on cuda:1; .*{remedy}"):
                device_needs.check_device(path, "fp32", "cuda:1", 2)
        free = sizes["int8"]
        device_needs.check_device(path, "int8", "cuda:1")
        device_needs.check_device(path, "fp32", "mps")
