"""What a GGUF file says of its model's sizes and arithmetic → a configuration as transformers has it."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np

from llmpar.engine.quantized import Floats
from llmpar.models.gguf.architecture import OtherArchitecture, architecture_of
from llmpar.models.gguf.blocks import unpack
from llmpar.models.gguf.file import GgufFile
from llmpar.models.gguf.header import Damaged

_CLASSES = {
    "llama": "LlamaForCausalLM",
    "qwen2": "Qwen2ForCausalLM",
    "qwen3": "Qwen3ForCausalLM",
    "gemma": "GemmaForCausalLM",
    "gemma2": "Gemma2ForCausalLM",
    "gemma3_text": "Gemma3ForCausalLM",
    "phi3": "Phi3ForCausalLM",
    "smollm3": "SmolLM3ForCausalLM",
}
_LARGEST_GEMMAS = {"gemma2": 46, "gemma3": 62}  # layers of those whose attention is scaled otherwise
_CLOSE = 1e-5  # how far factors out of a formula may be from those in a file


def config_of(file: GgufFile) -> dict[str, Any]:
    """Return a model's configuration: what its config.json would say.

    Raises:
        OtherArchitecture: it is of none that is known, or does something that is not known for certain.
        Damaged: it lacks a size, or says one that cannot be.
    """
    model_type = architecture_of(file).model_type
    heads, hidden = _count(file, "attention.head_count"), _count(file, "embedding_length")
    head_dim = _count(file, "attention.key_length", hidden // heads)
    if _count(file, "attention.value_length", head_dim) != head_dim:
        raise OtherArchitecture("its values are of another length than its keys")
    config = {
        "model_type": model_type,
        "architectures": [_CLASSES[model_type]],
        "vocab_size": _vocabulary(file),
        "hidden_size": hidden,
        "intermediate_size": _count(file, "feed_forward_length"),
        "num_hidden_layers": _count(file, "block_count"),
        "num_attention_heads": heads,
        "num_key_value_heads": _count(file, "attention.head_count_kv", heads),
        "head_dim": head_dim,
        "max_position_embeddings": _count(file, "context_length"),
        "rms_norm_eps": _number(file, "attention.layer_norm_rms_epsilon"),
        "tie_word_embeddings": "output.weight" not in file.tensors,
        **{f"{name}_token_id": file.fields.get(f"tokenizer.ggml.{key}_token_id") for name, key in _TOKENS.items()},
        **_rotary(file, head_dim),
    }
    peculiar = _PECULIAR.get(file.architecture)
    return config | peculiar(file, config) if peculiar else config


_TOKENS = {"bos": "bos", "eos": "eos", "pad": "padding"}


def _count(file: GgufFile, name: str, default: int | None = None) -> int:
    """Return a size that the file says, or else the default."""
    value = file.of_architecture(name, default)
    if isinstance(value, list | tuple) and len(set(value)) == 1:  # one for each layer
        value = value[0]
    if isinstance(value, list | tuple):
        raise OtherArchitecture(f"its layers differ in {name}")
    if not isinstance(value, int) or isinstance(value, bool) or not 0 < value < 1 << 31:
        raise Damaged(f"{file.architecture}.{name} is {value}")
    return value


def _number(file: GgufFile, name: str, default: float | None = None) -> float:
    """Return a number that the file says, as it was meant before it was rounded to 32 bits."""
    value = file.of_architecture(name, default)
    if not isinstance(value, int | float) or isinstance(value, bool) or not 0 <= value < float("inf"):
        raise Damaged(f"{file.architecture}.{name} is {value}")
    return float(str(np.float32(value)))


def _vocabulary(file: GgufFile) -> int:
    embedding = file.tensors.get("token_embd.weight")
    if embedding is None:
        raise Damaged("it has no token_embd.weight")
    return embedding.tensor.shape[0]


def _rotary(file: GgufFile, head_dim: int) -> dict[str, Any]:
    """Return how positions are turned into angles."""
    theta = _number(file, "rope.freq_base", 10000.0)
    found: dict[str, Any] = {"rope_theta": theta}
    turned = _count(file, "rope.dimension_count", head_dim)
    if turned != head_dim:
        if file.architecture != "phi3":
            raise OtherArchitecture("it turns a part of each head")
        found["partial_rotary_factor"] = turned / head_dim
    factors = _factors(file, "rope_freqs.weight")
    kind = file.of_architecture("rope.scaling.type", "none")
    factor = _number(file, "rope.scaling.factor", 0.0) or _number(file, "rope.scale_linear", 0.0)
    original = file.of_architecture("rope.scaling.original_context_length")
    if factors is not None:
        if kind not in ("none", "linear") or (kind == "linear" and factor not in (0.0, 1.0)):
            raise OtherArchitecture("its positions are scaled in two ways")
        scaling: dict[str, Any] | None = _of_factors(factors, theta, turned, _count(file, "context_length"))
    elif _factors(file, "rope_factors_long.weight") is not None:
        scaling = _long(file, original)
        found["original_max_position_embeddings"] = original
    elif kind == "linear" or (kind == "none" and factor not in (0.0, 1.0)):
        scaling = {"rope_type": "linear", "factor": factor} if factor not in (0.0, 1.0) else None
    elif kind == "yarn":
        scaling = _yarn(file, factor, original)
    elif kind in ("none", "longrope"):  # one of these without factors does nothing
        scaling = None
    else:
        raise OtherArchitecture(f"its positions are scaled by {kind!r}")
    if scaling:
        found["rope_scaling"] = scaling
    return found


def _factors(file: GgufFile, name: str) -> Floats | None:
    """Return by what each rotary frequency (R/2,) is divided, None where the file does not say it."""
    place = file.tensors.get(name)
    if place is None:
        return None
    factors = unpack(place.tensor.kind, file.rows(name, slice(None)))
    if not isinstance(factors, np.ndarray) or not np.isfinite(factors).all() or factors.min() <= 0:
        raise Damaged(f"{name!r} holds no factors")
    return factors.reshape(-1)


def _of_factors(factors: Floats, theta: float, turned: int, context: int) -> dict[str, Any] | None:
    """Return a scaling with these factors (R/2,): Llama 3's if it is that, as its own files have it."""
    if len(factors) != turned // 2:
        raise Damaged("'rope_freqs.weight' is of another length than half a head")
    if (factors == 1).all():
        return None
    factor = float(factors.max())
    if np.allclose(_llama3(factor, theta, turned), factors, rtol=_CLOSE):
        return {
            "rope_type": "llama3",
            "factor": factor,
            "low_freq_factor": 1.0,
            "high_freq_factor": 4.0,
            "original_max_position_embeddings": 8192,
        }
    listed = [float(value) for value in factors]
    return {
        "rope_type": "longrope",
        "long_factor": listed,
        "short_factor": listed,
        "factor": 1.0,
        "attention_factor": 1.0,
        "original_max_position_embeddings": context,
    }


def _llama3(factor: float, theta: float, turned: int) -> Floats:
    """Return the factors (R/2,) of Llama 3.1 and later, which differ in the largest of them alone."""
    wavelengths = 2 * np.pi * theta ** (np.arange(0, turned, 2) / turned)
    smooth = np.clip((8192 / wavelengths - 1) / 3, 0, 1)
    return (1 / ((1 - smooth) / factor + smooth)).astype(np.float32)


def _long(file: GgufFile, original: Any) -> dict[str, Any]:
    """Return Phi-3's scaling: other factors in long texts than in short ones."""
    both = {name: _factors(file, f"rope_factors_{name}.weight") for name in ("long", "short")}
    if file.architecture != "phi3" or any(found is None for found in both.values()) or not isinstance(original, int):
        raise OtherArchitecture("its positions are scaled in another way")
    lists = {
        f"{name}_factor": [float(str(value)) for value in found] for name, found in both.items() if found is not None
    }
    return {"rope_type": "longrope", **lists}


def _yarn(file: GgufFile, factor: float, original: Any) -> dict[str, Any]:
    if file.of_architecture("rope.scaling.yarn_log_multiplier") or not isinstance(original, int) or factor <= 0:
        raise OtherArchitecture("its positions are scaled in another way")
    if _number(file, "rope.scaling.yarn_ext_factor", 1.0) != 1:
        raise OtherArchitecture("its positions are scaled in another way")
    found: dict[str, Any] = {"rope_type": "yarn", "factor": factor, "original_max_position_embeddings": original}
    names = {"attention_factor": "yarn_attn_factor", "beta_fast": "yarn_beta_fast", "beta_slow": "yarn_beta_slow"}
    for name, key in names.items():
        if file.of_architecture(f"rope.scaling.{key}") is not None:
            found[name] = _number(file, f"rope.scaling.{key}")
    return found


def _of_llama(file: GgufFile, _: dict[str, Any]) -> dict[str, Any]:
    if file.of_architecture("attention.scale") or file.of_architecture("logit_scale"):
        raise OtherArchitecture("it scales what others do not")
    biased = {part: f"blk.0.{part}.bias" in file.tensors for part in ("attn_q", "attn_output", "ffn_down")}
    if biased["attn_q"] != biased["attn_output"]:
        raise OtherArchitecture("some parts of its attention have biases, and others have none")
    return {"attention_bias": biased["attn_q"], "mlp_bias": biased["ffn_down"], "hidden_act": "silu"}


def _of_gemma(file: GgufFile, config: dict[str, Any]) -> dict[str, Any]:
    found: dict[str, Any] = {"hidden_activation": "gelu_pytorch_tanh"}
    if file.architecture == "gemma":
        return found | {"hidden_act": "gelu_pytorch_tanh"}
    largest = config["num_hidden_layers"] == _LARGEST_GEMMAS[file.architecture]
    scalar = config["hidden_size"] // config["num_attention_heads"] if largest else config["head_dim"]
    return found | {"query_pre_attn_scalar": scalar, **_softcaps(file), **_windows(file, config)}


def _softcaps(file: GgufFile) -> dict[str, Any]:
    usual = {"attn_logit_softcapping": 50.0, "final_logit_softcapping": 30.0} if file.architecture == "gemma2" else {}
    names = ("attn_logit_softcapping", "final_logit_softcapping")
    return {name: _number(file, name, usual.get(name, 0.0)) or None for name in names}


def _windows(file: GgufFile, config: dict[str, Any]) -> dict[str, Any]:
    """Return which layers see only what is near, and how far."""
    count = config["num_hidden_layers"]
    every = {"gemma2": 2, "gemma3": 6}[file.architecture]
    told = file.of_architecture("attention.sliding_window_pattern", every)
    if isinstance(told, int) and not isinstance(told, bool) and told > 0:
        near = [(index + 1) % told != 0 for index in range(count)]
    elif isinstance(told, tuple) and len(told) >= count:
        near = [bool(value) for value in told[:count]]
    else:
        raise Damaged("it does not say which layers see only what is near")
    window = file.of_architecture("attention.sliding_window", 4096 if file.architecture == "gemma2" else 0)
    if not window:
        near, window = [False] * count, 4096
    local = {"rope_local_base_freq": _number(file, "rope.freq_base_swa", 10000.0)} if every == 6 else {}
    kinds = ["sliding_attention" if is_near else "full_attention" for is_near in near]
    return {"sliding_window": _positive(window), "layer_types": kinds, **local}


def _positive(value: Any) -> int:
    if not isinstance(value, int) or isinstance(value, bool) or not 0 < value < 1 << 31:
        raise Damaged(f"its window is {value}")
    return value


def _of_phi3(file: GgufFile, config: dict[str, Any]) -> dict[str, Any]:
    window = file.of_architecture("attention.sliding_window", 0)
    original = config.get("original_max_position_embeddings") or config["max_position_embeddings"]
    # Others read it as the end of a text.
    return {"sliding_window": window or None, "original_max_position_embeddings": original, "hidden_act": "silu"}


def _of_smollm3(_: GgufFile, config: dict[str, Any]) -> dict[str, Any]:
    """Every fourth layer of it does not turn, which its files do not say."""
    count = config["num_hidden_layers"]
    return {"no_rope_layers": [int((index + 1) % 4 != 0) for index in range(count)], "hidden_act": "silu"}


_PECULIAR: dict[str, Callable[[GgufFile, dict[str, Any]], dict[str, Any]]] = {
    "llama": _of_llama,
    "gemma": _of_gemma,
    "gemma2": _of_gemma,
    "gemma3": _of_gemma,
    "phi3": _of_phi3,
    "smollm3": _of_smollm3,
}
