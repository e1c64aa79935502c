"""Shapes of models, and model directories of them with random weights: nothing is fetched.

A directory holds bf16 safetensors, a config, a byte-level BPE tokenizer with as many tokens as the model and a chat
template, so that the command line runs on it as on any other.
"""

from __future__ import annotations

import json
from collections.abc import Iterator
from itertools import product
from pathlib import Path
from typing import Any

_CONTROL = ("<|endoftext|>", "<|im_start|>", "<|im_end|>")
_LETTERS = "Ġetaoinshrdlucmfwypvbgkjqxz"  # Ġ is how byte-level tokenizers write a space
CHATML = (
    "{% for message in messages %}{{ '<|im_start|>' + message['role'] + '\n' + message['content'] + '<|im_end|>\n' }}"
    "{% endfor %}{% if add_generation_prompt %}{{ '<|im_start|>assistant\n' }}{% endif %}"
)
_SHARD_BYTES = 2 << 30
_DEVIATION = 0.02
_COMMON = {"bos_token_id": 0, "eos_token_id": 2, "pad_token_id": None, "rms_norm_eps": 1e-6}
_135M = {
    "num_hidden_layers": 30,
    "hidden_size": 576,
    "num_attention_heads": 9,
    "num_key_value_heads": 3,
    "head_dim": 64,
    "intermediate_size": 1536,
    "vocab_size": 49152,
    "tie_word_embeddings": True,
    "max_position_embeddings": 8192,
}
_TINY = {
    "num_hidden_layers": 2,
    "hidden_size": 64,
    "num_attention_heads": 4,
    "num_key_value_heads": 2,
    "head_dim": 16,
    "intermediate_size": 128,
    "vocab_size": 1024,
    "max_position_embeddings": 1024,
}
SHAPES: dict[str, tuple[str, dict[str, Any]]] = {
    "135m": ("LlamaConfig", _135M),
    "0.6b": (
        "Qwen3Config",
        {
            "num_hidden_layers": 28,
            "hidden_size": 1024,
            "num_attention_heads": 16,
            "num_key_value_heads": 8,
            "head_dim": 128,
            "intermediate_size": 3072,
            "vocab_size": 151936,
            "tie_word_embeddings": True,
            "max_position_embeddings": 8192,
            "rope_parameters": {"rope_type": "default", "rope_theta": 1e6},
        },
    ),
    "8b": (
        "LlamaConfig",
        {
            "num_hidden_layers": 32,
            "hidden_size": 4096,
            "num_attention_heads": 32,
            "num_key_value_heads": 8,
            "head_dim": 128,
            "intermediate_size": 14336,
            "vocab_size": 128256,
            "tie_word_embeddings": False,
            "max_position_embeddings": 8192,
            "rope_parameters": {"rope_type": "default", "rope_theta": 5e5},
        },
    ),
    "1b": (
        "LlamaConfig",
        {
            "num_hidden_layers": 16,
            "hidden_size": 2048,
            "num_attention_heads": 32,
            "num_key_value_heads": 8,
            "head_dim": 64,
            "intermediate_size": 8192,
            "vocab_size": 128256,
            "tie_word_embeddings": True,
            "max_position_embeddings": 8192,
            "rope_parameters": {"rope_type": "default", "rope_theta": 5e5},
        },
    ),
    "3b": (
        "LlamaConfig",
        {
            "num_hidden_layers": 28,
            "hidden_size": 3072,
            "num_attention_heads": 24,
            "num_key_value_heads": 8,
            "head_dim": 128,
            "intermediate_size": 8192,
            "vocab_size": 128256,
            "tie_word_embeddings": True,
            "max_position_embeddings": 8192,
            "rope_parameters": {"rope_type": "default", "rope_theta": 5e5},
        },
    ),
    "32b": (
        "Qwen3Config",
        {
            "num_hidden_layers": 64,
            "hidden_size": 5120,
            "num_attention_heads": 64,
            "num_key_value_heads": 8,
            "head_dim": 128,
            "intermediate_size": 25600,
            "vocab_size": 151936,
            "tie_word_embeddings": False,
            "max_position_embeddings": 8192,
            "rope_parameters": {"rope_type": "default", "rope_theta": 1e6},
        },
    ),
    # Experts as Qwen3-30B-A3B has them, in 4 of its 48 layers: 6 GB.
    "30b-a3b-4": (
        "Qwen3MoeConfig",
        {
            "num_hidden_layers": 4,
            "hidden_size": 2048,
            "num_attention_heads": 32,
            "num_key_value_heads": 4,
            "head_dim": 128,
            "intermediate_size": 6144,
            "moe_intermediate_size": 768,
            "num_experts": 128,
            "num_experts_per_tok": 8,
            "norm_topk_prob": True,
            "vocab_size": 151936,
            "tie_word_embeddings": False,
            "max_position_embeddings": 8192,
            "rope_parameters": {"rope_type": "default", "rope_theta": 1e6},
        },
    ),
    # What the CPU's own decoder declines, so that torch computes it: the 135M shape with another activation.
    "135m-relu": ("LlamaConfig", _135M | {"hidden_act": "relu"}),
    # To try a program with.
    "tiny": ("Qwen3Config", _TINY | {"tie_word_embeddings": True}),
    "tiny-experts": (
        "Qwen3MoeConfig",
        _TINY | {"tie_word_embeddings": True, "num_experts": 8, "num_experts_per_tok": 2, "moe_intermediate_size": 32},
    ),
    "tiny-untied": ("LlamaConfig", _TINY | {"tie_word_embeddings": False}),
    "tiny-relu": ("LlamaConfig", _TINY | {"tie_word_embeddings": True, "hidden_act": "relu"}),
}


def make_config(shape: str) -> Any:
    """Return the configuration of a shape, as transformers has it."""
    import transformers

    kind, fields = SHAPES[shape]
    return getattr(transformers, kind)(**_COMMON, **fields)


def make_model(shape: str, directory: Path, seed: int = 0) -> Path:
    """Return the model directory of a shape, made unless it is there; weights are drawn on a GPU where there is one."""
    path = directory / shape
    if (path / "model.safetensors.index.json").exists():
        return path
    import torch

    path.mkdir(parents=True, exist_ok=True)
    config = make_config(shape)
    config.architectures = [type(config).__name__.removesuffix("Config") + "ForCausalLM"]
    config.dtype = "bfloat16"
    config.save_pretrained(path)
    (path / "tokenizer.json").write_text(make_tokenizer(config.vocab_size), encoding="utf-8")
    (path / "tokenizer_config.json").write_text(
        json.dumps({"tokenizer_class": "PreTrainedTokenizerFast", "bos_token": _CONTROL[0], "eos_token": _CONTROL[2]}),
        encoding="utf-8",
    )
    (path / "chat_template.jinja").write_text(CHATML, encoding="utf-8")
    weights = draw_weights(config, seed, "cuda" if torch.cuda.is_available() else "cpu")
    _save(((name, weight.cpu()) for name, weight in weights), path)
    return path


def make_tokenizer(vocabulary: int) -> str:
    """Return the JSON of a byte-level BPE with so many tokens: bytes, then words of two letters, three, and so on."""
    from tokenizers import AddedToken, Tokenizer, decoders, models, pre_tokenizers

    tokens = {token: index for index, token in enumerate((*_CONTROL, *sorted(pre_tokenizers.ByteLevel.alphabet())))}
    merges: list[tuple[str, str]] = []
    shorter = list(_LETTERS)
    while len(tokens) < vocabulary:
        pairs = list(product(shorter, _LETTERS))[: vocabulary - len(tokens)]
        merges += pairs
        shorter = [first + second for first, second in pairs]
        tokens |= {token: index for index, token in enumerate(shorter, len(tokens))}
    tokenizer = Tokenizer(models.BPE(tokens, merges))
    tokenizer.pre_tokenizer = pre_tokenizers.ByteLevel(add_prefix_space=False)
    tokenizer.decoder = decoders.ByteLevel()
    tokenizer.add_special_tokens([AddedToken(token, special=True) for token in _CONTROL])
    text: str = tokenizer.to_str()
    return text


def draw_weights(config: Any, seed: int, device: str) -> Iterator[tuple[str, Any]]:
    """Yield names and weights on a device, such that answers vary with what was said, and one token mostly leads.

    With plain normal weights an answer says one token for ever: with tied embeddings a token is likest to itself, and
    attention sees all positions alike. So the last norm has random signs, and queries, keys and values are larger, the
    former two such that scores spread alike for every width: were attention as good as a choice of one position, each
    rounding in bf16 would change what all later layers make of it.
    Embeddings are cubes of normal numbers, as heavy tails set the first of 50,000 logits apart from the second; else
    rounding to bf16 decides one token in thirty. What layers add is scaled down by their number, as in GPT-2.
    """
    import torch
    from transformers import AutoModelForCausalLM

    draw = torch.Generator(device).manual_seed(seed)
    with torch.device("meta"):
        model = AutoModelForCausalLM.from_config(config, dtype=torch.bfloat16)
    for name, empty in model.state_dict().items():
        if name == "lm_head.weight" and config.tie_word_embeddings:
            continue
        normal = torch.empty(empty.shape, dtype=torch.float32, device=device).normal_(generator=draw)
        if name.endswith("norm.weight"):
            weight = normal.sign() if name == "model.norm.weight" else torch.ones_like(normal)
        elif name.endswith(("embed_tokens.weight", "lm_head.weight")):
            weight = normal.pow_(3) * (_DEVIATION / 15**0.5)  # the variance of a cube is 15
        else:
            weight = normal * (_DEVIATION * _scale(name, config))
        yield name, weight.to(torch.bfloat16)


def _scale(name: str, config: Any) -> float:
    part = name.removesuffix(".weight").split(".")[-1]
    if part in ("o_proj", "down_proj"):
        return float((2 * config.num_hidden_layers) ** -0.5)
    sharp = 72 / float(config.hidden_size) ** 0.5
    # Experts are chosen as clearly as trained ones are: by scores that vary by 3, of inputs that vary by 1.
    clear = 3 / (_DEVIATION * float(config.hidden_size) ** 0.5)
    return {"q_proj": sharp, "k_proj": sharp, "v_proj": 2.0, "gate": clear}.get(part, 1.0)


def _save(weights: Iterator[tuple[str, Any]], path: Path) -> None:
    from safetensors.torch import save_file

    places: dict[str, str] = {}
    total = 0

    def write(shard: dict[str, Any]) -> None:
        file = f"model-{len(set(places.values())) + 1:05}.safetensors"
        save_file(shard, path / file, metadata={"format": "pt"})
        places.update(dict.fromkeys(shard, file))

    shard: dict[str, Any] = {}
    for name, weight in weights:
        shard[name] = weight
        total += weight.nbytes
        if sum(tensor.nbytes for tensor in shard.values()) >= _SHARD_BYTES:
            write(shard)
            shard = {}
    if shard:
        write(shard)
    # Last: that it is there says that the rest is whole.
    index = {"metadata": {"total_size": total}, "weight_map": places}
    (path / "model.safetensors.index.json").write_text(json.dumps(index), encoding="utf-8")


if __name__ == "__main__":
    import sys

    make_model(sys.argv[1], Path(sys.argv[2]))
