"""The parts of a model of the Llama shape → a Decoder, tried on what the model itself made of a short text."""

from __future__ import annotations

from collections.abc import Callable
from collections.abc import Sequence as SequenceOf
from dataclasses import dataclass, replace
from itertools import pairwise
from typing import Any

import numpy as np
import torch
from torch import nn

from llmpar.engine.cpu import kernels
from llmpar.engine.cpu.decoder import Decoder, Layer, Pass, Projection, Rope, Tokens
from llmpar.engine.cpu.floats import stored
from llmpar.engine.cpu.precision import PRECISIONS, Array, Floats, Precision, precisions_from
from llmpar.engine.model import Notify
from llmpar.engine.pages import num_pages_of
from llmpar.engine.parts import LayerParts, OtherShape, take_apart
from llmpar.engine.precision_names import PrecisionName

_ROWS = 4096  # of an embedding, that are in float32 at a time
_ACTIVATIONS = {"silu": kernels.SILU, "gelu_tanh": kernels.GELU_TANH}


class TooFar(OtherShape):
    """The decoder does not do what the model does: its precision is too short, or the model's arithmetic is another."""


@torch.inference_mode()
@np.errstate(all="ignore")  # weights that are no numbers come out far from anything, which is said in our words
def build_decoder(model: Any, name: PrecisionName, used: Callable[[torch.Tensor], None] = lambda _: None) -> Decoder:
    """Return a decoder with the weights of a causal language model, packed for the precision of this name.

    Args:
        model: one of transformers.
        name: the precision's.
        used: is given each weight, a matrix (rows, columns) of the model's own, when it has been packed.

    Raises:
        OtherShape: the model has parts that decoders lack.
        TooFar: the decoder does not do what the model does.
    """
    parts, precision = take_apart(model), PRECISIONS[name]
    packer = _Packer(precision, used)
    decoder = Decoder(
        precision=precision,
        layers=tuple(packer.layer(layer) for layer in parts.layers),
        ropes=tuple(Rope(_floats(frequencies), scaling) for frequencies, scaling in parts.ropes),
        embedding=packer.embedding(parts.embedding),
        embedding_scale=parts.embedding_scale,
        final_norm=_floats(parts.final_norm),
        head=replace(packer, precision=precision.head or precision).projection(parts.head),
        vocabulary=len(parts.embedding),
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


def build_closest(
    model: Any, name: PrecisionName, notify: Notify, used: Callable[[torch.Tensor], None] = lambda _: None
) -> Decoder:
    """Return a decoder in the precision of this name, or in the next longer one that does what the model does.

    Args:
        model: see `build_decoder`.
        name: of the precision.
        notify: is told of each that is passed over.
        used: see `build_decoder`; of a precision that is passed over, weights (rows, columns) are read once more.

    Raises:
        OtherShape: there is none.
    """
    for tried, longer in pairwise(precisions_from(name)):
        try:
            return build_decoder(model, tried, used)
        except TooFar as reason:
            notify(f"{tried} is passed over for {longer}: {reason}")
    return build_decoder(model, "fp32", used)


@dataclass(frozen=True, slots=True)
class _Packer:
    """Packs weights for a precision; `used` is given each when it is not needed any more."""

    precision: Precision
    used: Callable[[torch.Tensor], None]

    def layer(self, parts: LayerParts) -> Layer:
        head_norms = parts.head_norms
        return Layer(
            attention_norm=_floats(parts.attention_norm),
            qkv=self.projection(*parts.qkv),
            head_norms=np.zeros((0, 0), "f4") if head_norms is None else _floats(head_norms).reshape(2, -1),
            output=self.projection(parts.output),
            after_attention_norm=_floats(parts.after_attention_norm),
            mlp_norm=_floats(parts.mlp_norm),
            gate_up=self.projection(*parts.gate_up),
            down=self.projection(parts.down),
            after_mlp_norm=_floats(parts.after_mlp_norm),
            rope=parts.rope,
            scaling=float(parts.variant.scaling),
            window=int(parts.variant.window or 0),
            softcap=float(parts.variant.softcap or 0),
        )

    def projection(self, *linears: nn.Linear) -> Projection:
        """Return linear layers with one input as one projection."""
        biases = [
            np.zeros(linear.out_features, np.float32) if linear.bias is None else _floats(linear.bias)
            for linear in linears
        ]
        biased = any(bias.any() for bias in biases)
        weights = _Rows([linear.weight for linear in linears])
        packed = Projection.pack(weights, np.concatenate(biases) if biased else None, self.precision)
        self._give_back(*weights.tensors)
        return packed

    def embedding(self, weight: torch.Tensor) -> Array:
        """Return the embedding (V, H) as it is stored, made a piece at a time."""
        table = np.empty(weight.shape, self.precision.embedding)
        for first in range(0, len(weight), _ROWS):
            rows = slice(first, first + _ROWS)
            table[rows] = stored(_floats(weight[rows]), self.precision.embedding)
        self._give_back(weight)
        return table

    def _give_back(self, *weights: torch.Tensor) -> None:
        for weight in weights:
            self.used(weight)


def _floats(tensor: torch.Tensor | None) -> Floats:
    """Return a tensor as an array, an empty one for None."""
    values: Floats = np.zeros(0, np.float32) if tensor is None else tensor.detach().float().contiguous().numpy()
    return values


class _Rows:
    """Matrices with as many columns, one below the other, in float32 where they are looked at."""

    def __init__(self, tensors: SequenceOf[torch.Tensor]) -> None:
        self.tensors = tensors

    @property
    def shape(self) -> tuple[int, ...]:
        return sum(len(tensor) for tensor in self.tensors), self.tensors[0].shape[1]

    def __getitem__(self, rows: slice, /) -> Floats:
        found, first = [], 0
        begin, end, _ = rows.indices(self.shape[0])
        for tensor in self.tensors:
            start, stop = max(begin - first, 0), end - first
            if start < min(stop, len(tensor)):
                found.append(_floats(tensor[start:stop]))
            first += len(tensor)
        return found[0] if len(found) == 1 else np.concatenate(found)


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
