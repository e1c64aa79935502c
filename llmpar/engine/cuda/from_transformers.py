"""The parts of a model of the Llama shape → a Decoder, tried on what the model itself made of a short text."""

from __future__ import annotations

from collections.abc import Iterable
from contextlib import nullcontext
from dataclasses import replace
from typing import Any

import torch
from torch import nn

from llmpar.engine.cuda.ahead import compile_ahead
from llmpar.engine.cuda.decoder import Decoder, Layer, PagedCache, Pass, Tokens, blocks, tokens_per_block
from llmpar.engine.cuda.divided import Divider
from llmpar.engine.cuda.experts import experts_of
from llmpar.engine.cuda.linear import FloatLinear, Linear
from llmpar.engine.cuda.order import has_order, keep_order
from llmpar.engine.cuda.share import Share
from llmpar.engine.cuda.stored import Stored
from llmpar.engine.generic.skeleton import Skeleton
from llmpar.engine.pages import PAGE, num_pages_of
from llmpar.engine.parts import LayerParts, ModelParts, OtherShape, take_apart
from llmpar.engine.precision_names import KVCacheName, PrecisionName
from llmpar.engine.resources import is_device_lost, is_out_of_memory

_TOLERANCE: dict[PrecisionName, float] = {"fp32": 1e-3, "bf16": 0.1, "fp8": 0.3, "int8": 0.3, "int4": 0.5}
_MIXTURES_TOLERANCE = 0.2  # from 16 bits on: what lies between two experts goes to one of them, however it was rounded


class TooFar(OtherShape):
    """The decoder does not do what the model does: its precision is too short, or the model's arithmetic is another."""


@torch.inference_mode()
def build_decoder(model: Any, kv_cache: KVCacheName = "auto") -> Decoder:
    """Return a decoder with the weights of a causal language model, which from then on shares them.

    Args:
        model: one of transformers.
        kv_cache: what keys and values are kept in.

    Raises:
        OtherShape: the model has parts that decoders lack, or the decoder does not do what the model does.
    """
    if next(model.parameters()).is_cuda:
        keep_order()
    parts = take_apart(model, is_plain=False)
    return _tried(_assembled(parts, _Shared(parts), kv_cache), parts)


@torch.inference_mode()
def parts_in_files(skeleton: Skeleton) -> ModelParts:
    """Return the parts of a model whose weights stay in its files.

    Raises:
        OtherShape: it has parts that decoders lack, or matrices that are not read one by one.
    """
    if skeleton.experts:
        raise OtherShape("it is a mixture of experts")
    with skeleton.reading(skeleton.extent):
        return take_apart(skeleton.module, skeleton.extent, is_plain=False)


@torch.inference_mode()
def build_stored_decoder(
    parts: ModelParts,
    skeleton: Skeleton | None,
    precision: PrecisionName,
    device: torch.device,
    dtype: torch.dtype,
    kv_cache: KVCacheName = "auto",
) -> Decoder:
    """Return a decoder on a device of parts whose weights are elsewhere, which are read one by one.

    Args:
        parts: the model's.
        skeleton: knows the weights in the model's files; None where the parts have them.
        precision: what it is to be computed in.
        device: where.
        dtype: of rows, keys and values, and of weights that are not short.
        kv_cache: what keys and values are kept in.

    Raises:
        OtherShape: our kernels do not run here.
        TooFar: the decoder does not do what the model does.
    """
    if device.type == "cuda":
        keep_order()
    return _tried(_assembled(parts, Stored(precision, device, dtype, skeleton), kv_cache), parts)


@torch.inference_mode()
def build_share(
    parts: ModelParts,
    skeleton: Skeleton,
    rank: int,
    size: int,
    precision: PrecisionName,
    device: torch.device,
    dtype: torch.dtype,
    kv_cache: KVCacheName = "auto",
) -> Decoder:
    """Return a rank's share of a decoder; all ranks of torch's process group do so at once.

    Args:
        parts: the model's.
        skeleton: knows the weights in the model's files.
        rank: which one this is.
        size: how many there are.
        precision: what weights are to be in.
        device: where this one will compute.
        dtype: of rows, keys and values, and of weights that are not short.
        kv_cache: what keys and values are kept in.

    Raises:
        OtherShape: the model cannot be divided so, or our kernels do not run here.
        TooFar: the decoder does not do what the model does.
    """
    if device.type == "cuda":
        keep_order()
    share = Share(rank, size, len(parts.embedding))
    divider = Divider(share, parts, precision, device, dtype, skeleton)
    decoder = replace(
        _assembled(parts, divider, kv_cache),
        num_heads=divider.num_heads,
        num_kv_heads=divider.num_kv_heads,
        mlp_size=divider.mlp_size,
        share=share,
    )
    return _tried(decoder, parts)


def _assembled(parts: ModelParts, maker: _Shared | Stored | Divider, kv_cache: KVCacheName) -> Decoder:
    def layer(one: LayerParts) -> Layer:
        return Layer(
            attention_norm=maker.tensor(one.attention_norm),
            qkv=maker.linear(one.qkv),
            head_norms=None if one.head_norms is None else maker.tensor(one.head_norms),
            output=maker.linear((one.output,)),
            after_attention_norm=None if one.after_attention_norm is None else maker.tensor(one.after_attention_norm),
            mlp_norm=maker.tensor(one.mlp_norm),
            gate_up=maker.linear(one.gate_up) if one.gate_up else None,
            down=maker.linear(one.down) if one.down else None,
            after_mlp_norm=None if one.after_mlp_norm is None else maker.tensor(one.after_mlp_norm),
            rope=one.rope,
            variant=one.variant,
            experts=experts_of(one.experts, parts.activation, maker.linear) if one.experts else None,
            wide_norms=one.wide_norms,
        )

    layers = tuple(map(layer, parts.layers))
    embedding = maker.embedding(parts.embedding)
    return Decoder(
        layers=layers,
        ropes=tuple((maker.tensor(frequencies), scaling) for frequencies, scaling in parts.ropes),
        embedding=embedding,
        embedding_scale=parts.embedding_scale,
        final_norm=maker.tensor(parts.final_norm),
        head=maker.head(parts.head, embedding if parts.head.weight is parts.embedding else None),
        context_length=parts.context_length,
        softcap=parts.softcap,
        epsilon=parts.epsilon,
        activation=parts.activation,
        mlp_size=parts.mlp_size,
        num_heads=parts.num_heads,
        num_kv_heads=parts.num_kv_heads,
        head_dim=parts.head_dim,
        precision=maker.precision,
        has_short_keys=kv_cache == "fp8",
    )


def _tried(decoder: Decoder, parts: ModelParts) -> Decoder:
    """Return a decoder that does what the model does, or raise OtherShape."""
    extent = parts.extent
    tried = replace(decoder, layers=decoder.layers[: extent.num_layers]) if extent else decoder
    try:
        # Triton launches on the thread's own device, wherever the tensors are.
        with torch.cuda.device(decoder.device) if decoder.device.type == "cuda" else nullcontext():
            if decoder.device.type == "cuda":
                compile_ahead(tried)
            errors = [0.0 if logits is None else parts.distance(logits) for logits in _try(tried, parts)]
    except Exception as reason:  # Triton has many kinds, for devices and versions that do not suit it
        if is_out_of_memory(reason) or is_device_lost(reason):
            raise
        said = f"{type(reason).__name__}: {reason}".partition("\n")[0]
        raise OtherShape(f"our kernels do not run here ({said})") from reason
    if share := decoder.share:
        errors = [share.of_first(error) for error in errors]
    tolerance = max(_TOLERANCE[decoder.precision], _TOLERANCE["fp8"] if decoder.has_short_keys else 0)
    if decoder.dtype != torch.float32 and any(layer.experts for layer in decoder.layers):
        tolerance = max(tolerance, _MIXTURES_TOLERANCE)
    for error in errors:
        if error < tolerance:
            continue
        raise TooFar(f"computed by our kernels it gives something else (by {error:.1%})")
    if decoder.device.type != "cuda":
        return decoder
    layer, hidden, attended = decoder.layers[0], decoder.embedding.shape[1], decoder.num_heads * decoder.head_dim
    mlp = [(layer.experts or layer.gate_up, hidden), (layer.down, decoder.mlp_size)]
    products = [(layer.qkv, hidden), (layer.output, attended), *mlp, (decoder.head, hidden)]
    with torch.cuda.device(decoder.device):
        is_steady = all(has_order(each, width, decoder.dtype, decoder.device) for each, width in products if each)
    if share:
        is_steady = bool(share.least(is_steady))
    return replace(decoder, is_steady=is_steady)


class _Shared:
    """Makes a decoder's parts of a model's own tensors."""

    def __init__(self, parts: ModelParts) -> None:
        self.precision: PrecisionName = "fp32" if parts.embedding.dtype == torch.float32 else "bf16"

    def tensor(self, tensor: torch.Tensor) -> torch.Tensor:
        """Return a norm's weights, or the frequencies of a rotary embedding."""
        return tensor

    def embedding(self, weight: torch.Tensor) -> torch.Tensor:
        """Return the embedding (V, H)."""
        return weight.detach()

    def head(self, linear: nn.Linear, embedding: torch.Tensor | None) -> Linear:
        """Return the last layer, which may have the embedding's weights."""
        return FloatLinear(linear.weight if embedding is None else embedding, linear.bias)

    def linear(self, linears: tuple[nn.Linear, ...]) -> FloatLinear:
        """Return linear layers with one input as one, of which theirs become views: no weight is there twice."""
        biases: list[torch.Tensor | None] = [linear.bias for linear in linears]
        given = [
            b if b is not None else linears[i].weight.new_zeros(linears[i].out_features) for i, b in enumerate(biases)
        ]
        bias = torch.cat(given) if any(b is not None for b in biases) else None
        if len(linears) == 1:
            return FloatLinear(linears[0].weight.detach(), bias)
        weight = torch.cat([linear.weight for linear in linears])
        first = 0
        for linear in linears:
            linear.weight.data = weight[first : first + linear.out_features]
            first += linear.out_features
        return FloatLinear(weight, bias)


def _try(decoder: Decoder, parts: ModelParts) -> list[torch.Tensor | None]:
    """Return the logits after the last tokens of the text that was tried: all but one read as a prompt is.

    They come twice: of a text that shares nothing, and of one whose beginning is read for all rows at once. None where
    another rank has them.
    """
    ids, device, count = parts.probe_ids, decoder.device, len(parts.probe_logits)
    num_pages, read = num_pages_of(len(ids)), len(ids) - 1
    pages, exponents = decoder.make_pages(num_pages), decoder.make_exponents(num_pages)
    most = tokens_per_block(decoder)

    def numbers(values: Iterable[int]) -> torch.Tensor:
        return torch.tensor(list(values), dtype=torch.int32, device=device)

    def tokens(first: int, last: int, most: int) -> Tokens:
        starts, counts = blocks([last - first], most)
        positions, slots = numbers(range(first, last)), numbers([0] * (last - first))
        return Tokens(numbers(ids[first:last]).long(), positions, slots, numbers(starts), numbers(counts), most)

    def logits(shared: int) -> torch.Tensor | None:
        cache = PagedCache(pages, numbers(range(num_pages))[None], numbers([shared > 0]), shared, exponents)
        work = Pass(decoder, cache, shares_much=shared > 0)
        prompt, step = work.forward(tokens(shared, read, most)), work.forward(tokens(read, read + 1, 1))
        found = decoder.scores(torch.cat([prompt[-(count - 1) :], step]))
        if found is None:
            return None
        found = found.float()
        return torch.tanh(found / decoder.softcap) * decoder.softcap if decoder.softcap else found

    return [logits(0), logits((read - count + 1) // PAGE * PAGE)]
