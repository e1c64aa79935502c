"""The parts of a model of the Llama shape → a Decoder, tried on what the model itself made of a short text."""

from __future__ import annotations

from collections.abc import Sequence as SequenceOf
from itertools import pairwise
from typing import Any

import numpy as np
import torch
from torch import nn

from llmpar.engine.cpu import kernels
from llmpar.engine.cpu.decoder import Decoder, Layer, Pass, Projection, Rope, Tokens
from llmpar.engine.cpu.floats import stored
from llmpar.engine.cpu.precision import PRECISIONS, Floats, Precision, precisions_from
from llmpar.engine.model import Notify
from llmpar.engine.pages import num_pages_of
from llmpar.engine.parts import LayerParts, OtherShape, take_apart
from llmpar.engine.precision_names import PrecisionName

_ACTIVATIONS = {"silu": kernels.SILU, "gelu_tanh": kernels.GELU_TANH}


class TooFar(OtherShape):
    """The decoder does not do what the model does: its precision is too short, or the model's arithmetic is another."""


@torch.inference_mode()
@np.errstate(all="ignore")  # weights that are no numbers come out far from anything, which is said in our words
def build_decoder(model: Any, name: PrecisionName) -> Decoder:
    """Return a decoder with the weights of a causal language model, packed for the precision of this name.

    Raises:
        OtherShape: the model has parts that decoders lack.
        TooFar: the decoder does not do what the model does.
    """
    parts, precision = take_apart(model), PRECISIONS[name]
    table = _floats(parts.embedding)
    decoder = Decoder(
        precision=precision,
        layers=tuple(_layer(layer, precision) for layer in parts.layers),
        ropes=tuple(Rope(_floats(frequencies), scaling) for frequencies, scaling in parts.ropes),
        embedding=stored(table, precision.embedding),
        embedding_scale=parts.embedding_scale,
        final_norm=_floats(parts.final_norm),
        head=_projection(precision.head or precision, parts.head),
        vocabulary=len(table),
        context_length=parts.context_length,
        softcap=parts.softcap,
        epsilon=parts.epsilon,
        activation=_ACTIVATIONS[parts.activation],
        mlp_size=parts.mlp_size,
        num_heads=parts.num_heads,
        num_kv_heads=parts.num_kv_heads,
        head_dim=parts.head_dim,
    )
    logits = _try(decoder, np.array(parts.probe_ids, np.int32), len(parts.probe_logits))
    error = parts.distance(torch.from_numpy(logits))
    if not error < precision.tolerance:
        raise TooFar(f"computed by its parts it gives something else (by {error:.1%})")
    return decoder


def build_closest(model: Any, name: PrecisionName, notify: Notify) -> Decoder:
    """Return a decoder in the precision of this name, or in the next longer one that does what the model does.

    Args:
        model: see `build_decoder`.
        name: of the precision.
        notify: is told of each that is passed over.

    Raises:
        OtherShape: there is none.
    """
    for tried, longer in pairwise(precisions_from(name)):
        try:
            return build_decoder(model, tried)
        except TooFar as reason:
            notify(f"{tried} is passed over for {longer}: {reason}")
    return build_decoder(model, "fp32")


def _layer(parts: LayerParts, precision: Precision) -> Layer:
    return Layer(
        attention_norm=_floats(parts.attention_norm),
        qkv=_projection(precision, *parts.qkv),
        head_norms=_floats(parts.head_norms).reshape(2, -1) if parts.head_norms is not None else np.zeros((0, 0), "f4"),
        output=_projection(precision, parts.output),
        after_attention_norm=_floats(parts.after_attention_norm),
        mlp_norm=_floats(parts.mlp_norm),
        gate_up=_projection(precision, *parts.gate_up),
        down=_projection(precision, parts.down),
        after_mlp_norm=_floats(parts.after_mlp_norm),
        rope=parts.rope,
        scaling=float(parts.variant.scaling),
        window=int(parts.variant.window or 0),
        softcap=float(parts.variant.softcap or 0),
    )


def _floats(tensor: torch.Tensor | None) -> Floats:
    """Return a tensor as an array, an empty one for None."""
    values: Floats = np.zeros(0, np.float32) if tensor is None else tensor.detach().float().contiguous().numpy()
    return values


class _Weights:
    """The weights of linear layers with one input, one below the other, in float32 where they are looked at."""

    def __init__(self, linears: SequenceOf[nn.Linear]) -> None:
        weights = [linear.weight for linear in linears]
        self._weight = weights[0] if len(weights) == 1 else torch.cat(weights)

    @property
    def shape(self) -> tuple[int, ...]:
        return self._weight.shape

    def __getitem__(self, rows: slice, /) -> Floats:
        return _floats(self._weight[rows])


def _projection(precision: Precision, *linears: nn.Linear) -> Projection:
    """Return linear layers with one input as one projection."""
    biases = [
        np.zeros(linear.out_features, np.float32) if linear.bias is None else _floats(linear.bias) for linear in linears
    ]
    biased = any(bias.any() for bias in biases)
    return Projection.pack(_Weights(linears), np.concatenate(biases) if biased else None, precision)


def _try(decoder: Decoder, ids: np.ndarray[Any, np.dtype[np.int32]], num_compared: int) -> Floats:
    """Return the decoder's logits (num_compared, V) after the last of some ids."""
    num_pages = num_pages_of(len(ids))
    keys, values = decoder.make_pages(num_pages)
    tokens = Tokens(
        ids,
        np.arange(len(ids), dtype=np.int32),
        np.zeros(len(ids), np.int32),
        np.arange(num_pages, dtype=np.int32)[None],
    )
    work = Pass(decoder, len(ids), keys, values)
    return work.logits(work.forward(tokens)[-num_compared:])
