"""Directories of safetensors that are mapped: what is packed is what transformers would have loaded, in less memory."""

from __future__ import annotations

import re
from copy import deepcopy
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from safetensors.torch import load_file, save_file
from support.packs import same
from support.tiny_models import OURS, make

from llmpar.errors import ModelUnavailable
from llmpar.models import load, opening
from llmpar.models.load import load_model
from llmpar.models.mapped import MappedWeights
from llmpar.models.opening import open_files


def saved(name: str, path: Path, dtype: torch.dtype = torch.bfloat16, **options: Any) -> Path:
    deepcopy(make(name)).to(dtype).save_pretrained(path, **options)
    return path


def loaded(path: Path) -> Any:
    (model,) = load_model(path, "cpu", "bf16").models
    return model.decoder  # type: ignore[attr-defined]


@pytest.mark.parametrize("name", OURS)
def test_the_decoder_is_the_one_that_transformers_weights_give(
    name: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    path = saved(name, tmp_path / "model")
    with monkeypatch.context() as patch:
        patch.setattr(load, "_from_pretrained", None)  # it is not needed
        mapped = loaded(path)
    monkeypatch.setattr(opening, "open_files", lambda path: None)
    assert same(mapped, loaded(path))


def test_weights_in_several_files_are_one_model(tmp_path: Path) -> None:
    path = saved("llama", tmp_path / "model", max_shard_size="60KB")
    assert len(list(path.glob("*.safetensors"))) > 1
    assert same(loaded(path), loaded(saved("llama", tmp_path / "whole")))


@pytest.mark.skipif(not Path("/proc/self/smaps").exists(), reason="looks at mappings as Linux shows them")
def test_what_is_given_back_takes_no_memory_and_is_there_again(tmp_path: Path) -> None:
    file = tmp_path / "model.safetensors"
    save_file({"a": torch.arange(4_000_000, dtype=torch.float32), "b": torch.ones(1000)}, file)
    weights = MappedWeights([file])
    array = weights.array("a")
    expected = float(array.sum(dtype=np.float64))
    assert _resident(file) > 15_000
    weights.give_back("a")
    assert _resident(file) < 1000
    assert float(array.sum(dtype=np.float64)) == expected


def _resident(file: Path) -> int:
    """Return how many kB of a file this process holds."""
    _, _, rest = Path("/proc/self/smaps").read_text().partition(f"{file}\n")
    found = re.search(r"^Rss: +(\d+) kB", rest, re.MULTILINE)
    assert found
    return int(found[1])


def test_each_matrix_is_given_back_when_it_is_packed(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    given: list[str] = []
    monkeypatch.setattr(MappedWeights, "give_back", lambda _, name: given.append(name))
    path = saved("llama", tmp_path / "model")
    loaded(path)
    assert set(given) == {name for name, weight in make("llama").named_parameters() if weight.ndim > 1}


def _without_one(tensors: dict[str, Any]) -> None:
    del tensors["model.norm.weight"]


def _with_another(tensors: dict[str, Any]) -> None:
    tensors["model.more.weight"] = torch.ones(3, dtype=torch.bfloat16)


def _of_another_shape(tensors: dict[str, Any]) -> None:
    tensors["lm_head.weight"] = tensors["lm_head.weight"][:-1].clone()


@pytest.mark.parametrize("change", [_without_one, _with_another, _of_another_shape])
def test_files_of_another_kind_are_left_to_transformers(tmp_path: Path, change: Any) -> None:
    path = saved("llama", tmp_path / "model")
    tensors = load_file(path / "model.safetensors")
    change(tensors)
    save_file(tensors, path / "model.safetensors", {"format": "pt"})
    assert open_files(path) is None
    if change in (_without_one, _of_another_shape):
        with pytest.raises(ModelUnavailable):
            load_model(path, "cpu", "bf16")
    else:
        assert loaded(path).vocabulary == 300


@pytest.mark.parametrize("place", [0, 9, 40, -1, None])
def test_damaged_files_are_refused_in_transformers_words(tmp_path: Path, place: int | None) -> None:
    path = saved("llama", tmp_path / "model")
    file = path / "model.safetensors"
    data = bytearray(file.read_bytes())
    if place is None:
        data.clear()
    elif place < 0:
        del data[-100:]
    else:
        data[place] ^= 0x55
    file.write_bytes(data)
    with pytest.raises(ModelUnavailable, match=r"cannot be loaded|has no weights"):
        load_model(path, "cpu", "bf16")


def test_weights_may_be_of_several_types(tmp_path: Path) -> None:
    path = saved("llama", tmp_path / "model")
    tensors = load_file(path / "model.safetensors")
    tensors["model.norm.weight"] = tensors["model.norm.weight"].float()
    save_file(tensors, path / "model.safetensors", {"format": "pt"})
    assert open_files(path)
    assert same(loaded(path), loaded(saved("llama", tmp_path / "plain")))
