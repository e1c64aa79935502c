"""A decoder of the Llama shape: its weights as the kernels take them, and one pass of tokens through its layers.

Knows no sequences and no transformers; `from_transformers` makes one from a model.
"""

from __future__ import annotations

from collections.abc import Sequence as SequenceOf
from dataclasses import dataclass
from typing import Any, Protocol

import numpy as np
import numpy.typing as npt

from llmpar.engine.constraint import WORD, Mask
from llmpar.engine.cpu import kernels
from llmpar.engine.cpu.attention import SPAN
from llmpar.engine.cpu.precision import PANEL, Array, Encode, Floats, Precision, round_up
from llmpar.engine.cpu.product import TILE_ROWS
from llmpar.engine.pages import PAGE

_PIECE = 1 << 20  # weights that are packed at once


class WeightRows(Protocol):
    """A matrix of float32 of which some rows are looked at at a time: an array, or what becomes one then."""

    @property
    def shape(self) -> tuple[int, ...]:
        """How many rows and columns it has."""

    def __getitem__(self, rows: slice, /) -> Floats:
        """Return some rows."""


def _by_panel(table: Array) -> Array:
    """Return a table of output channels (P · PANEL, X) as (P, X, PANEL)."""
    by_panel: Array = table.reshape(-1, PANEL, table.shape[1]).transpose(0, 2, 1)
    return by_panel


def _whole(pieces: list[Array], kind: Any) -> Array:
    """Return tables (…, G, PANEL), one below the other; an empty one of this type for none."""
    return np.ascontiguousarray(np.concatenate(pieces)) if pieces else np.empty((0, 0, PANEL), kind)


@dataclass(frozen=True, slots=True)
class Projection:
    """A linear layer, in a precision of its own: a decoder's layers need not all have the same.

    `weight` (P, K/k, PANEL, k) holds k neighbouring inputs in 32 bits (see `product_tile`). Where weights are whole
    numbers, `factors` (P, G, PANEL) are their scales, and `biases` (P, G, PANEL) what sums begin with, or what is added
    to each weight (see `precision.Encoded`); what is not needed is empty. A group is a run of inputs of one output
    channel: a scale for the whole channel would cost a model whose file has few bits. The README beside this file has
    an example with its numbers.
    """

    precision: Precision
    weight: Array
    factors: Array
    biases: Array
    bias: Floats  # (N,), or empty

    @staticmethod
    def pack(weight: WeightRows, bias: Floats | None, precision: Precision) -> Projection:
        """Return the projection with `weight` (out_features, in_features) and `bias` (out_features,).

        It is made in pieces: whole, a large layer's steps would wait for memory more than they compute.
        """
        num_outputs, num_inputs = weight.shape
        per_word = precision.inputs_per_word
        group = precision.group(num_inputs) if precision.group else per_word
        width, num_panels = round_up(num_inputs, group), -(-num_outputs // PANEL)
        words = np.empty((num_panels, width // per_word, PANEL), np.uint32)
        factors: list[Array] = []
        biases: list[Array] = []
        encode: Encode | None = None
        step = max(1, _PIECE // (PANEL * width))
        for first in range(0, num_panels, step):
            panels = slice(first, min(first + step, num_panels))
            rows = weight[first * PANEL : panels.stop * PANEL]
            padded = np.zeros(((panels.stop - first) * PANEL, width), np.float32)
            padded[: len(rows), :num_inputs] = rows
            encode = encode or precision.encoder(padded[:PANEL])
            encoded = encode(padded, group)
            words[panels] = _by_panel(encoded.words)
            for pieces, table in ((factors, encoded.scales), (biases, encoded.biases)):
                if table is not None:
                    pieces.append(_by_panel(table))
        return Projection(
            precision,
            words[..., None].view(precision.weights),
            _whole(factors, np.float32),
            _whole(biases, np.int32),
            np.zeros(0, np.float32) if bias is None else bias,
        )

    @property
    def num_inputs(self) -> int:
        """K, with what was added to make it even."""
        return int(self.weight.shape[1]) * self.precision.inputs_per_word

    @property
    def num_outputs(self) -> int:
        """N, with what was added to fill the last panel."""
        return len(self.weight) * PANEL

    @property
    def num_groups(self) -> int:
        """How many scales a row of inputs has: G where weights are whole numbers, else 0."""
        return int(self.factors.shape[1])


@dataclass(frozen=True, slots=True)
class Layer:
    """One layer. Norms that a model lacks are empty."""

    attention_norm: Floats  # (H,)
    qkv: Projection
    head_norms: Floats  # (2, D), of queries and of keys
    output: Projection
    after_attention_norm: Floats
    mlp_norm: Floats
    gate_up: Projection
    down: Projection
    after_mlp_norm: Floats
    rope: int  # index into Decoder.ropes, -1 for none
    scaling: float
    window: int  # 0 for none
    softcap: float  # 0 for none


@dataclass(frozen=True, slots=True)
class Rope:
    """A rotary embedding: the angle of each pair per position (R/2,), and what to multiply sines and cosines with."""

    frequencies: Floats
    scaling: float


@dataclass(frozen=True, slots=True)
class Decoder:
    """A whole model.

    `precision` is that of the embedding, of keys and values, and of most layers.
    """

    precision: Precision
    layers: tuple[Layer, ...]
    ropes: tuple[Rope, ...]
    embedding: Array  # (V, H) float32, or uint16 for bfloat16
    embedding_scale: float
    final_norm: Floats
    head: Projection
    vocabulary: int
    context_length: int
    softcap: float  # of logits, 0 for none
    epsilon: float
    activation: int
    mlp_size: int
    num_heads: int
    num_kv_heads: int
    head_dim: int

    @property
    def hidden_size(self) -> int:
        """H."""
        return int(self.embedding.shape[1])

    def make_pages(self, count: int) -> tuple[Array, Array]:
        """Return room for the keys (count, layers, H_kv, D, PAGE) and values (count, layers, H_kv, PAGE, D').

        A page is 16 positions of one sequence in all layers; D' is D rounded up to a multiple of SPAN. Memory is
        taken when written to.
        """
        shape, dtype = (count, len(self.layers), self.num_kv_heads), self.precision.cache
        width = round_up(self.head_dim, SPAN)
        return np.zeros((*shape, self.head_dim, PAGE), dtype), np.zeros((*shape, PAGE, width), dtype)

    @property
    def page_bytes(self) -> int:
        """The size of a page."""
        return sum(pages.nbytes for pages in self.make_pages(1))


class _Inputs:
    """Room for the encoded inputs of a projection: M rows."""

    def __init__(self, projection: Projection, num_rows: int) -> None:
        precision = projection.precision
        numbers = projection.num_groups * precision.dot.numbers_per_group
        self.values = np.zeros((num_rows, projection.num_inputs), precision.inputs)
        self.scales = np.ones((num_rows, numbers), np.float32)


@dataclass(frozen=True, slots=True)
class Tokens:
    """The tokens of one pass, N of them: `ids` and `positions` in their sequences; `rows` says whose pages they use.

    Every token's sequence has pages in `tables` (S, …) up to its position. Of one sequence, tokens come in order.
    """

    ids: npt.NDArray[np.int32]
    positions: npt.NDArray[np.int32]
    rows: npt.NDArray[np.int32]
    tables: npt.NDArray[np.int32]


class Pass:
    """One worker's way through a decoder: room for the activations of up to `num_tokens` tokens at once.

    Args:
        decoder: shared by all workers, and not written to.
        num_tokens: how many.
        keys, values: pages of this worker's (see `Decoder.make_pages`).
    """

    def __init__(self, decoder: Decoder, num_tokens: int, keys: Array, values: Array) -> None:
        self._decoder = decoder
        self._keys, self._values = keys, values
        num_rows = round_up(num_tokens, TILE_ROWS)
        first = decoder.layers[0]

        def room(projection: Projection) -> Floats:
            return np.zeros((num_rows, projection.num_outputs), np.float32)

        self._hidden = room(first.output)
        self._update = room(first.output)
        self._qkv, self._gate_up = room(first.qkv), room(first.gate_up)
        self._num_rows = num_rows
        self._inputs: dict[tuple[str, int, int], _Inputs] = {}
        for layer in decoder.layers:
            for projection in (layer.qkv, layer.output, layer.gate_up, layer.down):
                self._inputs_of(projection)
        self._inputs_of(decoder.head)
        nothing = np.zeros((0, 0), np.float32)
        self._angles = dict.fromkeys(range(-1, len(decoder.ropes)), (nothing, nothing))

    def forward(self, tokens: Tokens) -> Floats:
        """Run tokens through the layers and return their last hidden states (N, H), which hold until the next call.

        Raises:
            ValueError: a token is none of the model's; kernels would read beyond the embedding.
        """
        decoder, count = self._decoder, len(tokens.ids)
        if wrong := tokens.ids[(tokens.ids < 0) | (tokens.ids >= decoder.vocabulary)].tolist():
            raise ValueError(f"token {wrong[0]} is not among the model's {decoder.vocabulary}")
        hidden, everyone = self._hidden, np.arange(count)
        heads = (decoder.num_heads, decoder.num_kv_heads)
        epsilon = np.float32(decoder.epsilon)
        where = (tokens.positions, tokens.rows, tokens.tables)
        self._reach(int(tokens.positions.max()) + 1)
        kernels.embed(tokens.ids, decoder.embedding, np.float32(decoder.embedding_scale), hidden)
        for index, layer in enumerate(decoder.layers):
            inputs = self._inputs_of(layer.qkv)
            kernels.norm(hidden, everyone, layer.attention_norm, epsilon, inputs.values, inputs.scales)
            _multiply(inputs, layer.qkv, self._qkv, count)
            kernels.place(
                self._qkv, *where, *self._angles[layer.rope], layer.head_norms, epsilon,
                np.float32(layer.scaling), self._keys, self._values, index, heads,
            )  # fmt: skip
            found = self._inputs_of(layer.output)
            kernels.attend(
                self._qkv, *where, self._keys, self._values, index, heads,
                layer.window, np.float32(layer.softcap), found.values, found.scales,
            )  # fmt: skip
            self._add(found, layer.output, layer.after_attention_norm, count)
            inputs = self._inputs_of(layer.gate_up)
            kernels.norm(hidden, everyone, layer.mlp_norm, epsilon, inputs.values, inputs.scales)
            _multiply(inputs, layer.gate_up, self._gate_up, count)
            active = self._inputs_of(layer.down)
            kernels.activate(self._gate_up, decoder.mlp_size, decoder.activation, active.values, active.scales, count)
            self._add(active, layer.down, layer.after_mlp_norm, count)
        return hidden[:count, : decoder.hidden_size]

    def likeliest(self, hidden: Floats, masks: SequenceOf[Mask | None] = ()) -> Array:
        """Return the likeliest next token (B,) after each of the last hidden states (B, H), of those in its mask.

        It is NO_TOKEN where the logits of these are not finite.
        """
        head, vocabulary = self._decoder.head, self._decoder.vocabulary
        ids, masked = np.empty(len(hidden), np.int32), np.full(len(hidden), -1, np.int32)
        given = [(row, mask) for row, mask in enumerate(masks) if mask is not None]
        masked[[row for row, _ in given]] = range(len(given))
        table = np.array([mask for _, mask in given], np.uint32).reshape(len(given), -(-vocabulary // WORD))
        inputs = self._encoded(hidden)
        kernels.likeliest(
            inputs.values, inputs.scales, head.weight, head.biases, head.factors, head.bias,
            vocabulary, table, masked, ids,
        )  # fmt: skip
        return ids

    def logits(self, hidden: Floats) -> Floats:
        """Return the logits (B, V) after each of the last hidden states (B, H)."""
        decoder = self._decoder
        inputs = self._encoded(hidden)
        out = np.empty((round_up(len(hidden), TILE_ROWS), decoder.head.num_outputs), np.float32)
        _multiply(inputs, decoder.head, out, len(hidden))
        logits = out[: len(hidden), : decoder.vocabulary]
        return np.tanh(logits / decoder.softcap) * np.float32(decoder.softcap) if decoder.softcap else logits

    def _inputs_of(self, projection: Projection) -> _Inputs:
        """Return the room for a projection's inputs, shared by all of its kind: each is read before the next one."""
        kind = (projection.precision.name, projection.num_inputs, projection.num_groups)
        if kind not in self._inputs:
            self._inputs[kind] = _Inputs(projection, self._num_rows)
        return self._inputs[kind]

    def _encoded(self, hidden: Floats) -> _Inputs:
        """Return the last hidden states, normed, as the inputs of the head."""
        decoder, everyone = self._decoder, np.arange(len(hidden))
        whole, inputs = np.ascontiguousarray(hidden), self._inputs_of(decoder.head)
        kernels.norm(whole, everyone, decoder.final_norm, np.float32(decoder.epsilon), inputs.values, inputs.scales)
        return inputs

    def _add(self, inputs: _Inputs, projection: Projection, norm: Floats, count: int) -> None:
        """Add to the hidden states what a projection makes of its inputs, normed if the model does so."""
        if len(norm):
            _multiply(inputs, projection, self._update, count)
            kernels.add_norm(self._hidden, self._update, norm, np.float32(self._decoder.epsilon), count)
        else:
            _multiply(inputs, projection, self._hidden, count, add=True)

    def _reach(self, length: int) -> None:
        """Know the rotary angles of positions below `length`."""
        for index, rope in enumerate(self._decoder.ropes):
            if len(self._angles[index][0]) < length:
                places = np.arange(round_up(length, 1024), dtype=np.float32)
                angles = places[:, None] * rope.frequencies
                scaling = np.float32(rope.scaling)
                self._angles[index] = (np.cos(angles) * scaling, np.sin(angles) * scaling)


def _multiply(inputs: _Inputs, projection: Projection, out: Floats, num_rows: int, *, add: bool = False) -> None:
    if len(projection.bias):
        kernels.spread(projection.bias, out, num_rows, add)
        add = True
    kernels.product(
        inputs.values, inputs.scales, projection.weight, projection.biases, projection.factors, out, num_rows, add
    )
