"""Tiny models of each architecture, written as llama.cpp's conversion does: they come back as they were."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
import transformers
from support.gguf_models import write_model
from support.tiny_models import OURS, build, make

from llmpar.engine.generic.skeleton import open_skeleton
from llmpar.engine.quantized import Quantized
from llmpar.errors import ModelUnavailable
from llmpar.models.gguf import model as room
from llmpar.models.gguf.architecture import ARCHITECTURES, OtherArchitecture

LLAMA3 = {
    "rope_type": "llama3",
    "rope_theta": 500000.0,
    "factor": 32.0,
    "low_freq_factor": 1.0,
    "high_freq_factor": 4.0,
    "original_max_position_embeddings": 8192,
}
YARN = {"rope_type": "yarn", "rope_theta": 1e6, "factor": 4.0, "original_max_position_embeddings": 64}
LONG = {
    "rope_type": "longrope",
    "rope_theta": 10000.0,
    "long_factor": [1.0 + index for index in range(8)],
    "short_factor": [1.0 + index / 10 for index in range(8)],
}
GLOBAL = {
    "full_attention": {"rope_type": "linear", "factor": 8.0, "rope_theta": 1e6},
    "sliding_attention": {"rope_type": "default", "rope_theta": 10000.0},
}
GEMMA3 = {"sliding_window": 8, "query_pre_attn_scalar": 16}
SCALED: dict[str, tuple[str, dict[str, Any]]] = {
    "llama3": ("LlamaConfig", {"rope_parameters": LLAMA3}),
    "linear": ("LlamaConfig", {"rope_parameters": {"rope_type": "linear", "rope_theta": 10000.0, "factor": 4.0}}),
    "yarn": ("Qwen2Config", {"rope_parameters": YARN}),
    "longrope": ("Phi3Config", {"original_max_position_embeddings": 32, "rope_parameters": LONG}),
    "gemma3-global": ("Gemma3TextConfig", {**GEMMA3, "num_hidden_layers": 7, "rope_parameters": GLOBAL}),
    "wide-heads": ("Qwen3Config", {"head_dim": 32}),
    "smollm3": ("SmolLM3Config", {"num_hidden_layers": 5}),
}
# A file does not say that Mistral's first model sees only what is near, nor which layers of a SmolLM3 do not turn.
SAME = [name for name in OURS if name not in ("mistral-window", "smollm3-nope")]


def original(name: str) -> Any:
    return make(name) if name in OURS else build(SCALED[name][0], **SCALED[name][1])


def reopened(path: Path) -> Any:
    config = transformers.AutoConfig.for_model(**room.config(path))
    return open_skeleton(transformers.AutoModelForCausalLM, config, room.open_weights(path)).filled(torch.float32)


@torch.inference_mode()
def logits(model: Any) -> torch.Tensor:
    return model(torch.arange(60)[None] * 7 % 300).logits


@pytest.mark.parametrize("name", [*SAME, *SCALED])
def test_logits_are_the_originals(tmp_path: Path, name: str) -> None:
    model = original(name)
    found = reopened(write_model(tmp_path / "m.gguf", model))
    # Equal weights that lie otherwise in memory are summed up in another order by torch at times, and these logits,
    # which are about 3, have been seen to differ by more than 1e-5 then. Weights are compared to the bit elsewhere.
    assert torch.allclose(logits(found), logits(model), rtol=0, atol=1e-4)


def test_every_architecture_is_tried() -> None:
    tried = {original(name).config.model_type for name in [*SAME, *SCALED]}
    assert tried == {architecture.model_type for architecture in ARCHITECTURES.values()}


@pytest.mark.parametrize("name", [*SAME, *SCALED])
def test_configurations_are_the_originals(tmp_path: Path, name: str) -> None:
    model = original(name)
    found = transformers.AutoConfig.for_model(**room.config(write_model(tmp_path / "m.gguf", model)))
    own, told = model.config.to_dict(), found.to_dict()
    # What a file has no place for, and what the tests' models have of no vocabulary.
    left = {"architectures", "initializer_range", "dtype", "bos_token_id", "eos_token_id", "pad_token_id"}
    left |= {"original_max_position_embeddings"} if name.startswith("phi3") else set()  # of no use without factors
    left |= {"hidden_act", "hidden_activation"} if name == "gemma" else set()  # one name or the other
    differing = {key: (own.get(key), told.get(key)) for key in {*own, *told} - left if own.get(key) != told.get(key)}
    assert differing == {}


def test_other_factors_than_llama3s_are_kept_as_they_are(tmp_path: Path) -> None:
    odd = {**LLAMA3, "factor": 3.0, "high_freq_factor": 8.0, "original_max_position_embeddings": 16}
    model = build("LlamaConfig", rope_parameters=odd)
    path = write_model(tmp_path / "m.gguf", model)
    assert room.config(path)["rope_scaling"]["rope_type"] == "longrope"
    assert (logits(reopened(path)) - logits(model)).abs().max() < 1e-4


@pytest.mark.parametrize("kind", ["Q8_0", "Q4_0", "F16"])
def test_rows_of_queries_are_in_transformers_order_in_any_piece(tmp_path: Path, kind: str) -> None:
    weights = room.open_weights(write_model(tmp_path / "m.gguf", make("llama"), kind))
    name = "model.layers.1.self_attn.k_proj.weight"
    assert weights.kind(name) == kind
    whole = floats(weights.rows(name, slice(None)))
    assert whole.shape == weights.shapes[name] == (32, 64)
    exact = make("llama").get_parameter(name).detach().numpy()
    assert np.abs(whole - exact).max() < np.abs(exact).max() / 7  # other rows than these are farther off
    for first in range(0, 32, 5):
        assert (floats(weights.rows(name, slice(first, first + 5))) == whole[first : first + 5]).all()
    none = weights.rows(name, slice(7, 7))
    assert (none.codes if isinstance(none, Quantized) else none).shape == (0, 64)


def floats(rows: Any) -> np.ndarray:
    return rows.weights() if isinstance(rows, Quantized) else rows


def test_bits_are_those_of_most_weights(tmp_path: Path) -> None:
    for kind, bits in {"F32": 32, "F16": 16, "Q8_0": 8, "Q5_1": 5, "Q4_0": 4}.items():
        assert room.open_weights(write_model(tmp_path / f"{kind}.gguf", make("llama"), kind)).bits == bits


@pytest.mark.parametrize(
    ("fields", "told"),
    [
        ({"expert_count": 8}, "experts"),
        ({"attention.value_length": 8}, "values are of another length"),
        ({"rope.dimension_count": 8}, "turns a part"),
    ],
)
def test_what_is_not_known_for_certain_is_another_architecture(tmp_path: Path, fields: dict, told: str) -> None:
    with pytest.raises(OtherArchitecture, match=told):
        room.open_weights(write_model(tmp_path / "m.gguf", make("llama"), **fields))


@pytest.mark.parametrize(
    ("fields", "told"),
    [
        ({"block_count": 4}, r"no weights for model\.layers\.3\.input_layernorm\.weight \(9 missing\)"),
        ({"block_count": 2}, "no such was to be expected"),
        ({"feed_forward_length": 95}, "is of shape"),
        ({"attention.head_count": 0}, "head_count is 0"),
        ({"attention.head_count_kv": 1}, "is of shape"),
    ],
)
def test_what_does_not_fit_together_is_named(tmp_path: Path, fields: dict, told: str) -> None:
    with pytest.raises(ModelUnavailable, match=told):
        room.open_weights(write_model(tmp_path / "m.gguf", make("llama"), **fields))
