"""The parts of a model of the Llama shape → a Decoder, tried on what the model itself made of a short text."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass, field, replace
from itertools import pairwise
from typing import Any

import numpy as np
import torch
from torch import nn

from llmpar.engine.cpu import kernels
from llmpar.engine.cpu.decoder import Decoder, Layer, Pass, Rope, Tokens
from llmpar.engine.cpu.dots import DOTS
from llmpar.engine.cpu.embedding import Embedding, StoredTable, make_table
from llmpar.engine.cpu.grouped import NamedRows
from llmpar.engine.cpu.making import AsFloats, OneBelowTheOther, Recipe, form_in
from llmpar.engine.cpu.precision import PRECISIONS, Floats, Precision, precisions_from
from llmpar.engine.cpu.projection import Projection, WeightRows
from llmpar.engine.model import Notify
from llmpar.engine.pages import num_pages_of
from llmpar.engine.parts import Extent, LayerParts, OtherShape, take_apart
from llmpar.engine.precision_names import PrecisionName
from llmpar.engine.tensor_rows import TensorRows

_ACTIVATIONS = {"silu": kernels.SILU, "gelu_tanh": kernels.GELU_TANH}


class TooFar(OtherShape):
    """The decoder does not do what the model does: its precision is too short, or the model's arithmetic is another."""


@dataclass(frozen=True, slots=True)
class Stored:
    """Weights of a model that are in its files.

    Args:
        rows: what takes the place of some of the model's weights, by these: matrices (rows, columns) as a file has
            them. They are kept so where the precision is of whole numbers and has at least as many bits as they have.
        used: is given each weight, a matrix (rows, columns) of the model's own, when it has been packed. Of a precision
            that is passed over, weights are read once more.
        extent: how much of the model is tried (see `parts.Extent`); None for all.
        recipes: is told what each part of the decoder was made of, by its `id`, where that was in a file.
    """

    rows: Mapping[torch.Tensor, NamedRows] = field(default_factory=dict)
    used: Callable[[torch.Tensor], None] = lambda _: None
    extent: Extent | None = None
    recipes: dict[int, Recipe] = field(default_factory=dict)


@torch.inference_mode()
@np.errstate(all="ignore")  # weights that are no numbers come out far from anything, which is said in our words
def build_decoder(model: Any, name: PrecisionName, stored: Stored | None = None) -> Decoder:
    """Return a decoder with the weights of a causal language model, packed for the precision of this name.

    Args:
        model: one of transformers.
        name: the precision's.
        stored: those of its weights that are in its files, where some are.

    Raises:
        OtherShape: the model has parts that decoders lack.
        TooFar: the decoder does not do what the model does.
    """
    stored = stored or Stored()
    extent = stored.extent
    parts, precision = take_apart(model, extent), PRECISIONS[name]
    stored.recipes.clear()  # of a precision that was passed over
    packer = _Packer(precision, stored)
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
    tried = replace(decoder, layers=decoder.layers[: extent.num_layers]) if extent else decoder
    logits = _try(tried, np.array(parts.probe_ids, np.int32), len(parts.probe_logits))
    error = parts.distance(torch.from_numpy(logits))
    if not error < precision.tolerance:
        raise TooFar(f"computed by its parts it gives something else (by {error:.1%})")
    return decoder


def build_closest(model: Any, name: PrecisionName, notify: Notify, stored: Stored | None = None) -> Decoder:
    """Return a decoder in the precision of this name, or in the next longer one that does what the model does.

    Args:
        model: see `build_decoder`.
        name: of the precision.
        notify: is told of each that is passed over.
        stored: see `build_decoder`.

    Raises:
        OtherShape: there is none.
    """
    for tried, longer in pairwise(precisions_from(name)):
        try:
            return build_decoder(model, tried, stored)
        except TooFar as reason:
            notify(f"{tried} is passed over for {longer}: {reason}")
    return build_decoder(model, "fp32", stored)


@dataclass(frozen=True, slots=True)
class _Packer:
    """Packs weights for a precision."""

    precision: Precision
    stored: Stored

    def layer(self, parts: LayerParts) -> Layer:
        head_norms = parts.head_norms
        return Layer(
            attention_norm=_floats(parts.attention_norm),
            qkv=self.side_by_side(parts.qkv),
            head_norms=np.zeros((0, 0), "f4") if head_norms is None else _floats(head_norms).reshape(2, -1),
            output=self.projection(parts.output),
            after_attention_norm=_floats(parts.after_attention_norm),
            mlp_norm=_floats(parts.mlp_norm),
            gate_up=self.side_by_side(parts.gate_up),
            down=self.projection(*parts.down),
            after_mlp_norm=_floats(parts.after_mlp_norm),
            rope=parts.rope,
            scaling=float(parts.variant.scaling),
            window=int(parts.variant.window or 0),
            softcap=float(parts.variant.softcap or 0),
        )

    def side_by_side(self, linears: tuple[nn.Linear, ...]) -> tuple[Projection, ...]:
        """Return linear layers with one input as one projection, or as one each if some are kept as they are."""
        if any(self._form(linear.weight) for linear in linears):
            return tuple(self.projection(linear) for linear in linears)
        return (self.projection(*linears),)

    def projection(self, *linears: nn.Linear) -> Projection:
        """Return linear layers with one input as one projection."""
        biases = [
            np.zeros(linear.out_features, np.float32) if linear.bias is None else _floats(linear.bias)
            for linear in linears
        ]
        bias = np.concatenate(biases) if any(bias.any() for bias in biases) else None
        weights = [linear.weight for linear in linears]
        form = self._form(weights[0])
        if form:
            packed = Projection.keep(self.stored.rows[weights[0]], bias, DOTS[form])
        else:
            packed = Projection.pack(OneBelowTheOther([self._source(each) for each in weights]), bias, self.precision)
        self._note(packed, weights, form, np.zeros(0, np.float32) if bias is None else bias)
        return packed

    def embedding(self, weight: torch.Tensor) -> Embedding:
        """Return the embedding (V, H); it stays where it is if that is in a file."""
        kind, rows = self.precision.embedding, self.stored.rows.get(weight)
        table: Embedding = StoredTable(rows, kind) if rows else make_table(TensorRows(weight), self.precision)
        self._note(table, [weight], None, np.zeros(0, np.float32), is_table=True)
        return table

    def _form(self, weight: torch.Tensor) -> str | None:
        """Return the form in which a weight (rows, columns) is kept as its file has it, None if it is not."""
        return form_in(self.stored.rows[weight], self.precision) if weight in self.stored.rows else None

    def _source(self, weight: torch.Tensor) -> WeightRows:
        """Return what the numbers of a weight (rows, columns) are read from."""
        return AsFloats(self.stored.rows[weight]) if weight in self.stored.rows else TensorRows(weight)

    def _note(
        self, made: object, weights: list[torch.Tensor], form: str | None, bias: Floats, *, is_table: bool = False
    ) -> None:
        """Remember what something was made of, weights (rows, columns) and a bias (N,), and that they were used."""
        if all(weight in self.stored.rows for weight in weights):
            names = tuple(self.stored.rows[weight].name for weight in weights)
            self.stored.recipes[id(made)] = Recipe(names, self.precision, form, bias, is_table)
        for weight in weights:
            self.stored.used(weight)


def _floats(tensor: torch.Tensor | None) -> Floats:
    """Return a tensor as an array, an empty one for None."""
    values: Floats = np.zeros(0, np.float32) if tensor is None else tensor.detach().float().contiguous().numpy()
    return values


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
