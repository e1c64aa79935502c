"""GGUF files of tiny models of transformers, written as llama.cpp's conversion writes them."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import gguf
import numpy as np
from benchmarks.device.gguf_sizes import describe_sizes

_KINDS = {"gemma3_text": "gemma3"}
_NAMES = {
    "model.embed_tokens": "token_embd",
    "model.norm": "output_norm",
    "lm_head": "output",
    "input_layernorm": "attn_norm",
    "self_attn.q_proj": "attn_q",
    "self_attn.k_proj": "attn_k",
    "self_attn.v_proj": "attn_v",
    "self_attn.qkv_proj": "attn_qkv",
    "self_attn.o_proj": "attn_output",
    "self_attn.q_norm": "attn_q_norm",
    "self_attn.k_norm": "attn_k_norm",
    "mlp.gate_proj": "ffn_gate",
    "mlp.up_proj": "ffn_up",
    "mlp.gate_up_proj": "ffn_up",
    "mlp.down_proj": "ffn_down",
    "pre_feedforward_layernorm": "ffn_norm",
    "post_feedforward_layernorm": "post_ffw_norm",
}


def write_model(path: Path, model: Any, kind: str = "F32", *, with_tokens: bool = False, **fields: Any) -> Path:
    """Write a model's weights and sizes, its matrices in the form `kind`; `fields` are numbers that it says instead.

    There is no vocabulary in it, but for names of tokens where these are wanted.
    """
    config = model.config
    architecture = _KINDS.get(config.model_type, config.model_type)
    architecture = "llama" if architecture == "mistral" else architecture
    writer = gguf.GGUFWriter(path, architecture)
    told = writer.add_key_value
    own = {f"{architecture}.{name}": value for name, value in fields.items()}

    def add(key: str, value: Any, kind: gguf.GGUFValueType, *more: Any) -> None:
        if key not in own:
            told(key, value, kind, *more)

    writer.add_key_value = add  # type: ignore[method-assign]
    for name, value in own.items():
        told(name, value, gguf.GGUFValueType.UINT32)
    describe_sizes(writer, config)
    _write_rotary(writer, config)
    head_dim = getattr(config, "head_dim", None)
    if head_dim and (architecture.startswith("gemma") or head_dim * config.num_attention_heads != config.hidden_size):
        writer.add_key_length(head_dim)
        writer.add_value_length(head_dim)
    if architecture in ("gemma2", "gemma3", "phi3"):
        writer.add_sliding_window(config.sliding_window or 0)
    for name in ("attn_logit_softcapping", "final_logit_softcapping"):
        if getattr(config, name, None):
            writer.add_float32(f"{architecture}.{name}", getattr(config, name))
    if with_tokens:
        writer.add_token_list([f"<{number}>" for number in range(config.vocab_size)])
        writer.add_token_types([1] * config.vocab_size)
        writer.add_eos_token_id(2)
    for name, tensor in model.state_dict().items():
        if name == "lm_head.weight" and config.tie_word_embeddings:
            continue
        _write_tensor(
            writer, _name(name, architecture), _moved(name, tensor.float().numpy(), config, architecture), kind
        )
    writer.write_header_to_file()
    writer.write_kv_data_to_file()
    writer.write_tensors_to_file()
    writer.close()
    return path


def _write_rotary(writer: gguf.GGUFWriter, config: Any) -> None:
    rotary = config.rope_parameters
    rotary = rotary.get("full_attention", rotary)
    head_dim = getattr(config, "head_dim", None) or config.hidden_size // config.num_attention_heads
    writer.add_rope_dimension_count(int(head_dim * rotary.get("partial_rotary_factor", 1.0)))
    writer.add_rope_freq_base(rotary["rope_theta"])
    kind = rotary.get("rope_type")
    if kind == "linear":
        writer.add_rope_scaling_type(gguf.RopeScalingType.LINEAR)
        writer.add_rope_scaling_factor(rotary["factor"])
    elif kind == "yarn":
        writer.add_rope_scaling_type(gguf.RopeScalingType.YARN)
        writer.add_rope_scaling_factor(rotary["factor"])
        writer.add_rope_scaling_orig_ctx_len(rotary["original_max_position_embeddings"])
    elif kind == "longrope":
        writer.add_rope_scaling_orig_ctx_len(config.original_max_position_embeddings)
        for name in ("long", "short"):
            writer.add_tensor(f"rope_factors_{name}.weight", np.array(rotary[f"{name}_factor"], np.float32))
    elif kind == "llama3":
        writer.add_tensor("rope_freqs.weight", _factors(rotary, head_dim))


def _factors(rotary: dict[str, Any], head_dim: int) -> np.ndarray:
    """Return by what Llama 3 divides its frequencies, as llama.cpp's conversion works it out."""
    found = []
    original = rotary["original_max_position_embeddings"]
    for index in range(0, head_dim, 2):
        wavelength = 2 * np.pi * rotary["rope_theta"] ** (index / head_dim)
        if wavelength < original / rotary["high_freq_factor"]:
            found.append(1.0)
        elif wavelength > original / rotary["low_freq_factor"]:
            found.append(rotary["factor"])
        else:
            smooth = original / wavelength - rotary["low_freq_factor"]
            smooth /= rotary["high_freq_factor"] - rotary["low_freq_factor"]
            found.append(1 / ((1 - smooth) / rotary["factor"] + smooth))
    return np.array(found, np.float32)


def _name(name: str, architecture: str) -> str:
    path, _, ending = name.rpartition(".")
    if not path.startswith("model.layers."):
        return f"{_NAMES[path]}.{ending}"
    _, _, layer, inner = path.split(".", 3)
    if inner == "post_attention_layernorm":
        own = "post_attention_norm" if architecture in ("gemma2", "gemma3") else "ffn_norm"
    else:
        own = _NAMES[inner]
    return f"blk.{layer}.{own}.{ending}"


def _moved(name: str, values: np.ndarray, config: Any, architecture: str) -> np.ndarray:
    if architecture.startswith("gemma") and name.endswith("norm.weight"):
        return values + 1
    if architecture in ("llama", "smollm3") and ("q_proj" in name or "k_proj" in name):
        heads = config.num_attention_heads if "q_proj" in name else config.num_key_value_heads
        return values.reshape(heads, 2, -1, *values.shape[1:]).swapaxes(1, 2).reshape(values.shape)
    return values


def _write_tensor(writer: gguf.GGUFWriter, name: str, values: np.ndarray, kind: str) -> None:
    if values.ndim == 1 or kind == "F32":
        writer.add_tensor(name, np.ascontiguousarray(values))
    elif kind == "F16":
        writer.add_tensor(name, values.astype(np.float16))
    else:
        type_ = gguf.GGMLQuantizationType[kind]
        writer.add_tensor(name, gguf.quants.quantize(np.ascontiguousarray(values), type_), raw_dtype=type_)
