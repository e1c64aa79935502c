"""GGUF files of a tiny model."""

from __future__ import annotations

import os
from pathlib import Path

CONTROL = ["<|endoftext|>", "<|im_start|>", "<|im_end|>"]


MERGES = ["Ġ Ġ", "Ġ t", "h e", "Ġt he", "1 2", "Ġ 7"]


HIDDEN, HEADS, KV_HEADS, LAYERS, WIDTH = 32, 4, 2, 2, 64


def tiny_tokens() -> list[str]:
    from transformers.convert_slow_tokenizer import bytes_to_unicode

    return [*CONTROL, *bytes_to_unicode().values(), *(merge.replace(" ", "") for merge in MERGES), "<think>"]


def tiny_weights(vocabulary: int) -> dict:
    """A llama's weights under their GGUF names, in transformers' own row order for q and k."""
    import numpy as np

    random = np.random.default_rng(0)
    kv = HIDDEN // HEADS * KV_HEADS
    shapes = {"token_embd": (vocabulary, HIDDEN)}
    for layer in range(LAYERS):
        shapes |= {f"blk.{layer}.attn_{p}": (rows, HIDDEN) for p, rows in {"q": HIDDEN, "k": kv, "v": kv}.items()}
        shapes |= {f"blk.{layer}.attn_output": (HIDDEN, HIDDEN), f"blk.{layer}.ffn_down": (HIDDEN, WIDTH)}
        shapes |= {f"blk.{layer}.ffn_{p}": (WIDTH, HIDDEN) for p in ("gate", "up")}
        shapes |= {f"blk.{layer}.{p}_norm": (HIDDEN,) for p in ("attn", "ffn")}
    shapes["output_norm"] = (HIDDEN,)
    return {name: random.normal(0, 0.5, shape).astype(np.float32) for name, shape in shapes.items()}


def write_gguf(path: Path, kind: str = "F32", pre: str = "smollm", *, known: bool = True, **without: bool) -> Path:
    """Write a tiny llama; unless it is `known`, it has something that other llamas lack, so that it is converted."""
    import gguf
    import numpy as np

    writer = gguf.GGUFWriter(path, "llama")
    writer.add_name("tiny")
    writer.add_context_length(128)
    writer.add_embedding_length(HIDDEN)
    writer.add_block_count(LAYERS)
    writer.add_feed_forward_length(WIDTH)
    writer.add_head_count(HEADS)
    writer.add_head_count_kv(KV_HEADS)
    writer.add_rope_dimension_count(HIDDEN // HEADS)
    writer.add_rope_freq_base(10000.0)
    writer.add_layer_norm_rms_eps(1e-5)
    tokens = tiny_tokens()
    writer.add_vocab_size(len(tokens))
    writer.add_tokenizer_model("gpt2")
    writer.add_tokenizer_pre(pre)
    writer.add_token_list(tokens)
    writer.add_token_types([3] * len(CONTROL) + [1] * (len(tokens) - len(CONTROL) - 1) + [4])
    writer.add_token_merges(MERGES)
    writer.add_bos_token_id(1)
    writer.add_eos_token_id(2)
    writer.add_chat_template("{% for m in messages %}<|im_start|>{{ m['content'] }}<|im_end|>{% endfor %}")
    for name, tensor in tiny_weights(len(tokens)).items():
        if without.get("last_layer") is False and name.startswith(f"blk.{LAYERS - 1}."):
            continue
        rows = tensor
        if name.endswith(("attn_q", "attn_k")):  # GGUF interleaves the halves that rotary embedding turns
            heads = HEADS if name.endswith("attn_q") else KV_HEADS
            rows = tensor.reshape(heads, 2, -1, HIDDEN).swapaxes(1, 2).reshape(tensor.shape)
        if kind == "F32" or tensor.ndim == 1:
            writer.add_tensor(f"{name}.weight", rows)
        elif kind == "F16":
            writer.add_tensor(f"{name}.weight", rows.astype(np.float16))
        else:
            type_ = gguf.GGMLQuantizationType[kind]
            writer.add_tensor(f"{name}.weight", gguf.quants.quantize(rows, type_), raw_dtype=type_)
    if not known:
        writer.add_tensor("blk.0.attn_sub_norm.weight", np.ones(HIDDEN, np.float32))
    writer.write_header_to_file()
    writer.write_kv_data_to_file()
    writer.write_tensors_to_file()
    writer.close()
    os.utime(path, ns=(10**18, 10**18))  # old enough for the index of hashes
    return path
