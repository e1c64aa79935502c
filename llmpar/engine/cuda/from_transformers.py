"""The parts of a model of the Llama shape → a Decoder, tried on what the model itself made of a short text."""

from __future__ import annotations

from collections.abc import Iterable
from contextlib import nullcontext
from dataclasses import replace
from typing import Any

import torch
from torch import nn

from llmpar.engine.cuda.decoder import Decoder, Layer, Linear, PagedCache, Pass, Tokens, blocks, tokens_per_block
from llmpar.engine.pages import num_pages_of
from llmpar.engine.parts import LayerParts, ModelParts, OtherShape, take_apart
from llmpar.engine.resources import is_device_lost, is_out_of_memory

_TOLERANCE = {torch.float32: 1e-3, torch.bfloat16: 0.1}


@torch.inference_mode()
def build_decoder(model: Any) -> Decoder:
    """Return a decoder with the weights of a causal language model, which from then on shares them.

    Raises:
        OtherShape: the model has parts that decoders lack, or the decoder does not do what the model does.
    """
    parts = take_apart(model)
    head = Linear(parts.head.weight, parts.head.bias)
    decoder = Decoder(
        layers=tuple(map(_layer, parts.layers)),
        ropes=parts.ropes,
        embedding=parts.embedding.detach(),
        embedding_scale=parts.embedding_scale,
        final_norm=parts.final_norm,
        head=head,
        context_length=parts.context_length,
        softcap=parts.softcap,
        epsilon=parts.epsilon,
        activation=parts.activation,
        mlp_size=parts.mlp_size,
        num_heads=parts.num_heads,
        num_kv_heads=parts.num_kv_heads,
        head_dim=parts.head_dim,
    )
    if parts.head.weight is parts.embedding:
        decoder = replace(decoder, head=Linear(decoder.embedding, head.bias))
    try:
        # Triton launches on the thread's own device, wherever the tensors are.
        with torch.cuda.device(decoder.device) if decoder.device.type == "cuda" else nullcontext():
            logits = _try(decoder, parts)
    except Exception as reason:  # Triton has many kinds, for devices and versions that do not suit it
        if is_out_of_memory(reason) or is_device_lost(reason):
            raise
        said = f"{type(reason).__name__}: {reason}".partition("\n")[0]
        raise OtherShape(f"our kernels do not run here ({said})") from reason
    error = parts.distance(logits)
    if not error < _TOLERANCE[decoder.dtype]:
        raise OtherShape(f"computed by our kernels it gives something else (by {error:.1%})")
    return decoder


def _layer(parts: LayerParts) -> Layer:
    return Layer(
        attention_norm=parts.attention_norm,
        qkv=_fused(parts.qkv),
        head_norms=parts.head_norms,
        output=_fused((parts.output,)),
        after_attention_norm=parts.after_attention_norm,
        mlp_norm=parts.mlp_norm,
        gate_up=_fused(parts.gate_up),
        down=_fused((parts.down,)),
        after_mlp_norm=parts.after_mlp_norm,
        rope=parts.rope,
        variant=parts.variant,
    )


def _fused(linears: tuple[nn.Linear, ...]) -> Linear:
    """Return linear layers with one input as one, of whose weights theirs become views: no weight is there twice."""
    biases: list[torch.Tensor | None] = [linear.bias for linear in linears]
    given = [b if b is not None else linears[i].weight.new_zeros(linears[i].out_features) for i, b in enumerate(biases)]
    bias = torch.cat(given) if any(b is not None for b in biases) else None
    if len(linears) == 1:
        return Linear(linears[0].weight.detach(), bias)
    weight = torch.cat([linear.weight for linear in linears])
    first = 0
    for linear in linears:
        linear.weight.data = weight[first : first + linear.out_features]
        first += linear.out_features
    return Linear(weight, bias)


def _try(decoder: Decoder, parts: ModelParts) -> torch.Tensor:
    """Return the logits after the last tokens of the text that was tried: all but one read as a prompt is."""
    ids, device, count = parts.probe_ids, decoder.device, len(parts.probe_logits)
    num_pages = num_pages_of(len(ids))
    cache = PagedCache(
        decoder.make_pages(num_pages),
        torch.arange(num_pages, dtype=torch.int32, device=device)[None],
        torch.zeros(1, dtype=torch.int32, device=device),
        0,
    )
    work, most, read = Pass(decoder, cache), tokens_per_block(decoder), len(ids) - 1

    def tokens(first: int, last: int, most: int) -> Tokens:
        def numbers(values: Iterable[int]) -> torch.Tensor:
            return torch.tensor(list(values), dtype=torch.int32, device=device)

        starts, counts = blocks([last - first], most)
        positions, slots = numbers(range(first, last)), numbers([0] * (last - first))
        return Tokens(numbers(ids[first:last]).long(), positions, slots, numbers(starts), numbers(counts), most)

    hidden = torch.cat([work.forward(tokens(0, read, most))[-(count - 1) :], work.forward(tokens(read, read + 1, 1))])
    logits = decoder.head(hidden).float()
    return torch.tanh(logits / decoder.softcap) * decoder.softcap if decoder.softcap else logits
