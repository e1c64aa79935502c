"""How GGUF files name the weights of each architecture that is known for certain, and in what these differ.

What is not the same as in transformers is told by llama.cpp's conversion of each architecture:
https://github.com/ggml-org/llama.cpp/tree/master/conversion.
"""

from __future__ import annotations

import re
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any

from llmpar.models.gguf.file import GgufFile

_LLAMA = {
    "attn_norm": "input_layernorm",
    "attn_q": "self_attn.q_proj",
    "attn_k": "self_attn.k_proj",
    "attn_v": "self_attn.v_proj",
    "attn_output": "self_attn.o_proj",
    "ffn_norm": "post_attention_layernorm",
    "ffn_gate": "mlp.gate_proj",
    "ffn_up": "mlp.up_proj",
    "ffn_down": "mlp.down_proj",
}
_HEAD_NORMS = {"attn_q_norm": "self_attn.q_norm", "attn_k_norm": "self_attn.k_norm"}
_FOUR_NORMS = {
    "post_attention_norm": "post_attention_layernorm",
    "ffn_norm": "pre_feedforward_layernorm",
    "post_ffw_norm": "post_feedforward_layernorm",
}
_PHI3 = {
    **{name: _LLAMA[name] for name in ("attn_norm", "attn_output", "ffn_norm", "ffn_down")},
    "attn_qkv": "self_attn.qkv_proj",
    "ffn_up": "mlp.gate_up_proj",
}
_OUTSIDE = {"token_embd": "model.embed_tokens", "output_norm": "model.norm", "output": "lm_head"}
FACTORS = {"rope_freqs.weight", "rope_factors_long.weight", "rope_factors_short.weight"}
"""Tensors that are no weights: by what rotary frequencies are divided."""
_NAME = re.compile(r"(?:blk\.(\d{1,5})\.)?([a-z0-9_]+)\.(weight|bias)")


class OtherArchitecture(Exception):
    """The architecture of a file is not one of these, or has something more; the message says what."""


@dataclass(frozen=True, slots=True)
class Architecture:
    """What transformers calls an architecture, and how its weights are named and kept.

    `layer` has the names of a layer's weights, by those in files. Where `interleaves` is set, files have the two
    halves of each head's queries and keys row by row in turn. `norm_offset` is what files add to the weights of norms.
    """

    model_type: str
    layer: Mapping[str, str] = field(default_factory=lambda: _LLAMA)
    interleaves: bool = False
    norm_offset: float = 0.0


ARCHITECTURES = {
    "llama": Architecture("llama", interleaves=True),
    "qwen2": Architecture("qwen2"),
    "qwen3": Architecture("qwen3", _LLAMA | _HEAD_NORMS),
    "gemma": Architecture("gemma", norm_offset=1.0),
    "gemma2": Architecture("gemma2", _LLAMA | _FOUR_NORMS, norm_offset=1.0),
    "gemma3": Architecture("gemma3_text", _LLAMA | _FOUR_NORMS | _HEAD_NORMS, norm_offset=1.0),
    "phi3": Architecture("phi3", _PHI3),
    "smollm3": Architecture("smollm3", interleaves=True),
}
"""By the names in files. Mistral's models are told as "llama" there, and compute the same."""


def architecture_of(file: GgufFile) -> Architecture:
    """Return the architecture of a file.

    Raises:
        OtherArchitecture: it is none of these.
    """
    found = ARCHITECTURES.get(file.architecture)
    if found is None:
        raise OtherArchitecture(f"its architecture is {file.architecture!r}")
    if file.of_architecture("expert_count", 0):
        raise OtherArchitecture("it has experts")
    return found


def parameter_names(file: GgufFile) -> dict[str, str]:
    """Return the names of a file's tensors, by those that transformers gives the parameters.

    Raises:
        OtherArchitecture: it has tensors that are not known.
    """
    layer_names = architecture_of(file).layer
    found = {}
    for name in file.tensors:
        if name in FACTORS:
            continue
        match = _NAME.fullmatch(name)
        layer, inner, ending = match.groups() if match else (None, "", "")
        known = (_OUTSIDE if layer is None else layer_names).get(inner)
        if known is None:
            raise OtherArchitecture(f"it has a tensor {name!r}")
        found[f"{known}.{ending}" if layer is None else f"model.layers.{int(layer)}.{known}.{ending}"] = name
    return found


def sizes_of(config: Mapping[str, Any], architecture: Architecture) -> dict[str, tuple[int, ...]]:
    """Return the shapes of all matrices and norms that a model has, by transformers' names.

    Args:
        config: its configuration.
        architecture: its own.
    """
    hidden, inner, head = config["hidden_size"], config["intermediate_size"], config["head_dim"]
    queries, keys = config["num_attention_heads"] * head, config["num_key_value_heads"] * head
    shapes = {
        "self_attn.q_proj": (queries, hidden),
        "self_attn.k_proj": (keys, hidden),
        "self_attn.v_proj": (keys, hidden),
        "self_attn.qkv_proj": (queries + 2 * keys, hidden),
        "self_attn.o_proj": (hidden, queries),
        "self_attn.q_norm": (head,),
        "self_attn.k_norm": (head,),
        "mlp.gate_proj": (inner, hidden),
        "mlp.up_proj": (inner, hidden),
        "mlp.gate_up_proj": (2 * inner, hidden),
        "mlp.down_proj": (hidden, inner),
    }
    found: dict[str, tuple[int, ...]] = {"model.embed_tokens.weight": (config["vocab_size"], hidden)}
    for layer in range(config["num_hidden_layers"]):
        for name in architecture.layer.values():
            found[f"model.layers.{layer}.{name}.weight"] = shapes.get(name, (hidden,))
    found["model.norm.weight"] = (hidden,)
    if not config["tie_word_embeddings"]:
        found["lm_head.weight"] = (config["vocab_size"], hidden)
    return found
