"""Of a model that also takes images, the part for text: read where it lies, plain or quantised."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch
import transformers
from safetensors.torch import load_file, save_file
from support.engines import collected
from support.tiny_models import PARAMS, SMALL, generated
from support.translators import gemma3

from llmpar.engine.build import build_engine
from llmpar.engine.cpu.model import CpuModel
from llmpar.models import load, plans
from llmpar.models.opening import open_files, open_source

PROMPTS = [[1, *range(start, start + 9)] for start in (5, 40, 77, 130)]


def llava(path: Path) -> Any:
    """Save a tiny model for images and text of another kind, and return it."""
    torch.manual_seed(0)
    vision = {"hidden_size": 32, "intermediate_size": 32, "num_hidden_layers": 1, "num_attention_heads": 2,
              "image_size": 28, "patch_size": 14, "projection_dim": 32}  # fmt: skip
    config = transformers.LlavaConfig(
        vision_config=transformers.CLIPVisionConfig(**vision),
        text_config=transformers.LlamaConfig(**SMALL),
        image_token_index=299,
    )
    model: Any = transformers.LlavaForConditionalGeneration(config).eval()
    model.save_pretrained(path)
    return model


def quantise(path: Path, model: Any) -> None:
    """Give the layers for text whole numbers of 8 bits, as compressed-tensors writes them; the model has them, too."""
    tensors, parameters = load_file(path / "model.safetensors"), dict(model.named_parameters())
    by_end = {name.partition("layers.")[2]: name for name in parameters if "language_model" in name}
    for name in [name for name in tensors if "language_model" in name and name.endswith("_proj.weight")]:
        scale = tensors[name].abs().amax(1, keepdim=True) / 127
        codes = (tensors[name] / scale).round()
        tensors[name], tensors[name + "_scale"] = codes.to(torch.int8), scale
        parameters[by_end[name.partition("layers.")[2]]].data.copy_(codes * scale)
    save_file(tensors, path / "model.safetensors", {"format": "pt"})
    weights = {"num_bits": 8, "type": "int", "strategy": "channel", "symmetric": True}
    groups = {"0": {"weights": weights}}
    about = {"quant_method": "compressed-tensors", "format": "int-quantized", "config_groups": groups}
    config = json.loads((path / "config.json").read_text())
    (path / "config.json").write_text(json.dumps(config | {"quantization_config": about}))


@pytest.mark.parametrize("is_quantised", [False, True], ids=["plain", "quantised"])
@pytest.mark.parametrize("make", [gemma3, llava])
def test_answers_are_those_of_generate(
    make: Callable[[Path], Any], is_quantised: bool, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("LLMPAR_CACHE", str(tmp_path / "cache"))
    monkeypatch.setattr(load, "_from_pretrained", None)  # nothing is loaded by transformers
    path = tmp_path / "model"
    model = make(path)
    if is_quantised:
        quantise(path, model)
    expected = generated(model, PROMPTS, PARAMS.max_new_tokens)
    for _ in range(2):  # the second time, by the plan of the first
        loaded = load.load_model(path, "cpu", "fp32")
        assert isinstance(loaded.models[0], CpuModel)
        engine = build_engine(loaded.models, 256, frozenset({2}), 1, 4)
        assert collected(engine, PROMPTS, PARAMS) == expected
    plan = plans.find(path, "fp32")
    assert plan
    assert plan.file.exists()


def test_its_bits_are_those_of_the_layers_for_text(tmp_path: Path) -> None:
    quantise(tmp_path, llava(tmp_path))
    source, skeleton = open_source(tmp_path), open_files(tmp_path)
    assert source
    assert skeleton
    assert source.bits == 8
    assert not any("vision" in name or "language_model" in name for name in source.shapes)
    assert skeleton.module.config.model_type == "llama"
