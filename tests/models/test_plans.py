"""Plans: a model that stays in its own files is tried once, and loaded without torch from then on."""

from __future__ import annotations

import subprocess
import sys
from copy import deepcopy
from pathlib import Path
from typing import Any

import pytest
import torch
from support.gguf_files import write_gguf
from support.gguf_models import write_model
from support.packs import same
from support.tiny_models import make

from llmpar.models import load, opening, plans
from llmpar.models.load import load_model


@pytest.fixture(autouse=True)
def kept(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """Return where plans are kept."""
    monkeypatch.setenv("LLMPAR_CACHE", str(tmp_path / "cache"))
    monkeypatch.setattr(load, "stop_ids", lambda _: frozenset())  # most files here have no vocabulary
    return tmp_path / "cache" / "plans"


def decoder(path: Path, precision: Any = "int8") -> Any:
    (model,) = load_model(path, "cpu", precision).models
    return model.decoder  # type: ignore[attr-defined]


@pytest.mark.parametrize("name", ["llama", "qwen2", "gemma3"])
@pytest.mark.parametrize("precision", ["fp32", "int8", "int4"])
def test_a_planned_decoder_is_the_one_that_was_tried(
    tmp_path: Path, name: str, precision: str, kept: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    path = write_model(tmp_path / "m.gguf", make(name), "Q8_0")
    first = decoder(path, precision)
    assert len(list(kept.iterdir())) == 1
    monkeypatch.setattr(opening, "open_files", None)  # nobody asks transformers again
    assert same(decoder(path, precision), first)


def test_a_directory_has_one_too(tmp_path: Path, kept: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    deepcopy(make("llama")).to(torch.bfloat16).save_pretrained(tmp_path / "m")
    first = decoder(tmp_path / "m", "fp32")
    assert len(list(kept.iterdir())) == 1
    monkeypatch.setattr(opening, "open_files", None)
    assert same(decoder(tmp_path / "m", "fp32"), first)


def test_no_matrix_is_in_it(tmp_path: Path, kept: Path) -> None:
    path = write_gguf(tmp_path / "m.gguf", "Q8_0")
    decoder(path)
    (plan,) = kept.iterdir()
    assert plan.stat().st_size < 10_000 < path.stat().st_size


def test_torch_is_not_imported(tmp_path: Path, kept: Path) -> None:
    path = write_gguf(tmp_path / "m.gguf", "Q8_0")
    decoder(path)
    script = (
        "import sys\nfrom pathlib import Path\nfrom llmpar.models.load import load_model\n"
        "load_model(Path(sys.argv[1]), 'cpu', 'int8')\n"
        "print([name for name in ('torch', 'transformers') if name in sys.modules])"
    )
    done = subprocess.run([sys.executable, "-c", script, str(path)], capture_output=True, text=True, check=True)
    assert done.stdout == "[]\n"


def test_other_vectors_or_another_configuration_are_another_plan(tmp_path: Path, kept: Path) -> None:
    model = make("llama")
    decoder(write_model(tmp_path / "m.gguf", model, "Q8_0"))
    decoder(write_model(tmp_path / "m.gguf", model, "Q8_0", **{"rope.freq_base": 20_000}))
    with torch.no_grad():
        model.model.norm.weight.mul_(2)
    try:
        changed = decoder(write_model(tmp_path / "m.gguf", model, "Q8_0"))
    finally:
        with torch.no_grad():
            model.model.norm.weight.div_(2)
    assert len(list(kept.iterdir())) == 3
    assert (changed.final_norm == 2 * decoder(write_model(tmp_path / "m.gguf", model, "Q8_0")).final_norm).all()


def test_a_damaged_plan_is_made_again(tmp_path: Path, kept: Path) -> None:
    path = write_gguf(tmp_path / "m.gguf", "Q8_0")
    first = decoder(path)
    (plan,) = kept.iterdir()
    whole = plan.read_bytes()
    for content in (b"", whole[:100], whole[:-1], whole.replace(b"embed_tokens", b"embed_token5")):
        plan.write_bytes(content)
        assert same(decoder(path), first)
        assert plan.read_bytes() == whole


def test_only_the_newest_are_kept(tmp_path: Path, kept: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(plans, "_MOST", 2)
    path = write_gguf(tmp_path / "m.gguf", "Q8_0")
    for precision in ("fp32", "bf16", "int8", "int4"):
        decoder(path, precision)
    assert len(list(kept.iterdir())) == 2


def test_without_a_cache_the_model_is_tried_each_time(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (tmp_path / "file").write_text("")
    monkeypatch.setenv("LLMPAR_CACHE", str(tmp_path / "file"))
    path = write_gguf(tmp_path / "m.gguf", "Q8_0")
    said: list[str] = []
    load_model(path, "cpu", "int8", notify=said.append)
    assert [line for line in said if "cannot be kept" in line]
