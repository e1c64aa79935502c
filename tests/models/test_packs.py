"""Packs of others' directories: kept in the cache, by what the files are, as many as there is room for."""

from __future__ import annotations

import os
from copy import deepcopy
from pathlib import Path
from typing import Any

import pytest
import torch
from support.packs import same
from support.tiny_models import make

from llmpar.models import load, opening, packs, verification
from llmpar.models.load import load_model


@pytest.fixture(autouse=True)
def kept(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """Return where packs are kept."""
    monkeypatch.setenv("LLMPAR_CACHE", str(tmp_path / "cache"))
    monkeypatch.setattr(load, "stop_ids", lambda _: frozenset())
    return tmp_path / "cache" / "packs"


@pytest.fixture
def directory(tmp_path: Path) -> Path:
    deepcopy(make("llama")).to(torch.bfloat16).save_pretrained(tmp_path / "m")
    return tmp_path / "m"


def decoder(path: Path, precision: Any = "int8", warned: list[str] | None = None) -> Any:
    (model,) = load_model(path, "cpu", precision, warn=(warned if warned is not None else []).append).models
    return model.decoder  # type: ignore[attr-defined]


@pytest.mark.parametrize("precision", ["bf16", "int8", "int4"])
def test_the_next_run_packs_nothing(
    directory: Path, kept: Path, precision: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    first = decoder(directory, precision)
    assert len(list(kept.iterdir())) == 1
    monkeypatch.setattr(opening, "open_files", None)
    assert same(decoder(directory, precision), first)


def test_a_directory_that_changed_is_another(directory: Path, kept: Path) -> None:
    first = decoder(directory)
    model = deepcopy(make("llama"))
    with torch.no_grad():
        model.model.layers[0].mlp.down_proj.weight.mul_(2)
    model.to(torch.bfloat16).save_pretrained(directory)
    assert not same(decoder(directory), first)
    assert len(list(kept.iterdir())) == 2


def test_a_damaged_pack_is_made_again_and_told(directory: Path, kept: Path) -> None:
    first = decoder(directory)
    (pack,) = kept.iterdir()
    whole = bytearray(pack.read_bytes())
    whole[-100] ^= 1
    pack.write_bytes(whole)
    assert any(str(pack) in line for line in verification.everything())
    warned: list[str] = []
    (model,) = load_model(directory, "cpu", "int8", warn=warned.append, doubts=True).models
    assert same(model.decoder, first)  # type: ignore[attr-defined]
    assert len(warned) == 1
    assert "making it again" in warned[0]
    assert verification.everything() == []


def test_what_was_used_longest_ago_goes_first(directory: Path, kept: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    made: dict[str, Path] = {}
    for precision in ("bf16", "int8", "int4"):
        decoder(directory, precision)
        (made[precision],) = set(kept.iterdir()) - set(made.values())
    monkeypatch.setattr(packs, "_MOST_BYTES", sum(pack.stat().st_size for pack in made.values()) - 1)
    made["int4"].unlink()
    bf16, int8 = made["bf16"], made["int8"]
    os.utime(bf16, (1, 1))
    os.utime(int8, (2, 2))
    decoder(directory, "bf16")  # is used, and so newer than the other
    decoder(directory, "int4")
    assert bf16.exists()
    assert not int8.exists()
    assert len(list(kept.iterdir())) == 2


def test_one_that_is_too_large_is_not_kept(directory: Path, kept: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(packs, "_MOST_BYTES", 1000)
    said: list[str] = []
    load_model(directory, "cpu", "int8", notify=said.append)
    assert not list(kept.iterdir())
    assert [line for line in said if "too large to be kept" in line]


def test_without_a_cache_every_run_packs(directory: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (tmp_path / "file").write_text("")
    monkeypatch.setenv("LLMPAR_CACHE", str(tmp_path / "file"))
    said: list[str] = []
    load_model(directory, "cpu", "int8", notify=said.append)
    assert [line for line in said if "every run will pack the weights anew" in line]
