"""GGUF files of a shape with random weights, written straight as blocks: a file of 4 GB takes half a minute."""

from __future__ import annotations

import json
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt

from device.gguf_sizes import describe_sizes
from device.shapes import CHATML, SHAPES, make_config, make_tokenizer

_DEVIATION = 0.02
_DRAWN = 1 << 15  # blocks that are drawn at once, and repeated where a tensor has more
_CONTROL, _NORMAL = 3, 1  # gguf.TokenType

Bytes = npt.NDArray[np.uint8]
Draw = np.random.Generator


def make_gguf(shape: str, kind: str, directory: Path, seed: int = 0) -> Path:
    """Return the GGUF file of a shape, made unless it is there.

    Args:
        shape: one of SHAPES that is of llama's architecture.
        kind: Q8_0, or Q4_K_M, which has longer weights where llama.cpp's own mixture has them.
        directory: where to.
        seed: of the weights.
    """
    import gguf

    path = directory / f"{shape}-{kind}.gguf"
    if path.exists():
        return path
    directory.mkdir(parents=True, exist_ok=True)
    config = make_config(shape)
    partial = path.with_suffix(".partial")
    writer = gguf.GGUFWriter(partial, "llama")
    _describe(writer, shape, config)
    types = {name: gguf.GGMLQuantizationType[_type(name, kind, config)] for name, _ in _tensors(config)}
    for name, size in _tensors(config):
        stored = gguf.quant_shape_to_byte_shape(size, types[name]) if len(size) > 1 else size
        dtype = np.dtype(np.uint8) if len(size) > 1 else np.dtype(np.float32)
        num_bytes = int(np.prod(stored, dtype=np.int64)) * dtype.itemsize
        writer.add_tensor_info(name, stored, dtype, num_bytes, types[name] if len(size) > 1 else None)
    writer.write_header_to_file()
    writer.write_kv_data_to_file()
    writer.write_ti_data_to_file()
    draw = np.random.default_rng(seed)
    for name, size in _tensors(config):
        if len(size) == 1:
            writer.write_tensor_data(np.ones(size, np.float32))
        else:
            stored = gguf.quant_shape_to_byte_shape(size, types[name])
            writer.write_tensor_data(_blocks(draw, types[name].name, int(np.prod(stored, dtype=np.int64))))
    writer.close()
    partial.rename(path)
    return path


def _describe(writer: Any, shape: str, config: Any) -> None:
    tokenizer = json.loads(make_tokenizer(config.vocab_size))
    tokens: list[str] = sorted(tokenizer["model"]["vocab"], key=tokenizer["model"]["vocab"].__getitem__)
    control = {token["id"] for token in tokenizer["added_tokens"]}
    writer.add_name(shape)
    describe_sizes(writer, config)
    writer.add_rope_dimension_count(config.head_dim)
    writer.add_rope_freq_base(float(SHAPES[shape][1].get("rope_parameters", {}).get("rope_theta", 1e4)))
    writer.add_vocab_size(config.vocab_size)
    writer.add_tokenizer_model("gpt2")
    writer.add_tokenizer_pre("gpt-2")
    writer.add_token_list(tokens)
    writer.add_token_types([_CONTROL if index in control else _NORMAL for index in range(len(tokens))])
    writer.add_token_merges([" ".join(pair) for pair in tokenizer["model"]["merges"]])
    writer.add_bos_token_id(config.bos_token_id)
    writer.add_eos_token_id(config.eos_token_id)
    writer.add_chat_template(CHATML)


def _tensors(config: Any) -> Iterator[tuple[str, tuple[int, ...]]]:
    hidden, wide = config.hidden_size, config.intermediate_size
    heads, kv = (count * config.head_dim for count in (config.num_attention_heads, config.num_key_value_heads))
    yield "token_embd.weight", (config.vocab_size, hidden)
    for layer in range(config.num_hidden_layers):
        yield f"blk.{layer}.attn_norm.weight", (hidden,)
        yield f"blk.{layer}.attn_q.weight", (heads, hidden)
        yield f"blk.{layer}.attn_k.weight", (kv, hidden)
        yield f"blk.{layer}.attn_v.weight", (kv, hidden)
        yield f"blk.{layer}.attn_output.weight", (hidden, heads)
        yield f"blk.{layer}.ffn_norm.weight", (hidden,)
        yield f"blk.{layer}.ffn_gate.weight", (wide, hidden)
        yield f"blk.{layer}.ffn_up.weight", (wide, hidden)
        yield f"blk.{layer}.ffn_down.weight", (hidden, wide)
    yield "output_norm.weight", (hidden,)
    if not config.tie_word_embeddings:
        yield "output.weight", (config.vocab_size, hidden)


def _type(name: str, kind: str, config: Any) -> str:
    """Return the type that llama.cpp gives a tensor of a llama."""
    if kind != "Q4_K_M":
        return kind
    if name == "output.weight" or (name == "token_embd.weight" and config.tie_word_embeddings):
        return "Q6_K"
    if name.endswith(("attn_v.weight", "ffn_down.weight")):
        layer, count = int(name.split(".")[1]), config.num_hidden_layers
        eighth = count // 8
        if layer < eighth or layer >= 7 * count // 8 or (layer - eighth) % 3 == 2:
            return "Q6_K"
    return "Q4_K"


def _blocks(draw: Draw, kind: str, num_bytes: int) -> Bytes:
    one = _KINDS[kind](draw, 1).shape[1]
    count = num_bytes // one
    drawn = _KINDS[kind](draw, min(count, _DRAWN)).reshape(-1)
    return np.resize(drawn, num_bytes)  # which repeats what there is


def _q8_0(draw: Draw, count: int) -> Bytes:
    scales = _halves(draw.uniform(0.8, 1.2, (count, 1)) * _DEVIATION / 73)
    return np.concatenate([scales, draw.integers(0, 256, (count, 32), np.uint8)], 1)


def _q4_k(draw: Draw, count: int) -> Bytes:
    """Eight groups of 32: the scale and the offset of each are as large, so that weights lie around 0."""
    units = draw.uniform(0.8, 1.2, (count, 1)) * _DEVIATION / (4.6 * 48)
    groups = draw.integers(33, 64, (count, 8), np.uint8)
    low, high = groups[:, :4], groups[:, 4:]
    top = (high >> 4) << 6  # of six bits, the first four groups hold the upper two of the last four
    packed = np.concatenate([low | top, low | top, (high & 15) | (high & 15) << 4], 1)
    return np.concatenate(
        [_halves(units), _halves(units * 7.5), packed, draw.integers(0, 256, (count, 128), np.uint8)], 1
    )


def _q6_k(draw: Draw, count: int) -> Bytes:
    units = draw.uniform(0.8, 1.2, (count, 1)) * _DEVIATION / (18.5 * 48)
    scales = draw.integers(33, 64, (count, 16), np.uint8)
    return np.concatenate([draw.integers(0, 256, (count, 192), np.uint8), scales, _halves(units)], 1)


def _halves(values: npt.NDArray[np.float64]) -> Bytes:
    return np.ascontiguousarray(values.astype(np.float16)).view(np.uint8)


_KINDS: dict[str, Callable[[Draw, int], Bytes]] = {"Q8_0": _q8_0, "Q4_K": _q4_k, "Q6_K": _q6_k}
