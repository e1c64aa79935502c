"""A decoder of the Llama shape: its weights as the kernels take them, and one pass of tokens through its layers.

Knows no sequences and no transformers; `from_transformers` makes one from a model.
"""

from __future__ import annotations

from collections.abc import Sequence as SequenceOf
from dataclasses import dataclass
from typing import Any

import numpy as np
import numpy.typing as npt

from llmpar.engine.constraint import WORD, Mask
from llmpar.engine.cpu import draws, heads, kernels
from llmpar.engine.cpu.angles import turn
from llmpar.engine.cpu.attention import SPAN
from llmpar.engine.cpu.embedding import Embedding, looked_up
from llmpar.engine.cpu.precision import Array, Floats, Precision, round_up
from llmpar.engine.cpu.product import TILE_ROWS, rows_at_once
from llmpar.engine.cpu.projection import Projection
from llmpar.engine.cpu.team import ALONE, Seat
from llmpar.engine.pages import PAGE


@dataclass(frozen=True, slots=True)
class Layer:
    """One layer. Norms that a model lacks are empty.

    `qkv` and `gate_up` are one projection each, or several with the same input whose outputs lie side by side.
    """

    attention_norm: Floats  # (H,)
    qkv: tuple[Projection, ...]
    head_norms: Floats  # (2, D), of queries and of keys
    output: Projection
    after_attention_norm: Floats
    mlp_norm: Floats
    gate_up: tuple[Projection, ...]
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
    embedding: Embedding  # (V, H) float32, or uint16 for bfloat16
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

    @property
    def rows_at_once(self) -> int:
        """How many rows the products of its layers compute in the time of one."""
        projections = [one for layer in self.layers for one in (*layer.qkv, layer.output, *layer.gate_up, layer.down)]
        return min(rows_at_once(one.dot) for one in projections)

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


Chance = tuple[float, float]
"""How a token is drawn: at which temperature, above 0, and by which random number, from 0 up to 1."""


class _Inputs:
    """Room for the inputs of a projection, in M rows, as it takes them or as float32."""

    def __init__(self, num_rows: int, num_inputs: int, kind: Any, input_numbers: int = 0) -> None:
        self.values = np.zeros((num_rows, num_inputs), kind)
        self.scales = np.ones((num_rows, input_numbers), np.float32)


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
        seat: where others may help this worker (see `team`).
    """

    def __init__(self, decoder: Decoder, num_tokens: int, keys: Array, values: Array, seat: Seat = ALONE) -> None:
        self._decoder = decoder
        self._keys, self._values, self._seat = keys, values, seat
        num_rows = round_up(num_tokens, TILE_ROWS)
        first = decoder.layers[0]

        def room(*alternatives: tuple[Projection, ...]) -> Floats:
            widest = max(
                sum(one.size for one in projections[:index]) + last.num_outputs
                for projections in alternatives
                for index, last in enumerate(projections)
            )
            return np.zeros((num_rows, widest), np.float32)

        self._hidden = room((first.output,))
        self._update = room((first.output,))
        self._qkv = room(*(layer.qkv for layer in decoder.layers))
        self._gate_up = room(*(layer.gate_up for layer in decoder.layers))
        self._num_rows = num_rows
        self._inputs: dict[tuple[Any, int, int], _Inputs] = {}
        for layer in decoder.layers:
            for projection in (*layer.qkv, layer.output, *layer.gate_up, layer.down):
                self._inputs_of(projection)
        self._inputs_of(decoder.head)
        nothing = np.zeros((0, 0), np.float32)
        self._angles = dict.fromkeys(range(-1, len(decoder.ropes)), (nothing, nothing))

    def forward(self, tokens: Tokens, wanted: Array | None = None) -> Floats:
        """Run tokens through the layers and return their last hidden states (N, H), which hold until the next call.

        Args:
            tokens: which.
            wanted: of which of them, by their places, hidden states are wanted; None for all. Of the others, the last
                layer computes only keys and values.

        Raises:
            ValueError: a token is none of the model's; kernels would read beyond the embedding.
        """
        decoder, count = self._decoder, len(tokens.ids)
        if wrong := tokens.ids[(tokens.ids < 0) | (tokens.ids >= decoder.vocabulary)].tolist():
            raise ValueError(f"token {wrong[0]} is not among the model's {decoder.vocabulary}")
        hidden, everyone = self._hidden, np.arange(count)
        num_heads = (decoder.num_heads, decoder.num_kv_heads)
        epsilon = np.float32(decoder.epsilon)
        where = (tokens.positions, tokens.rows, tokens.tables)
        self._reach(int(tokens.positions.max()) + 1)
        places, table = looked_up(decoder.embedding, tokens.ids)
        kernels.embed(places, table, np.float32(decoder.embedding_scale), hidden)
        for index, layer in enumerate(decoder.layers):
            self._multiply_normed(everyone, layer.attention_norm, layer.qkv, self._qkv)
            heads.place(
                self._seat, self._qkv, *where, *self._angles[layer.rope], layer.head_norms, epsilon,
                np.float32(layer.scaling), self._keys, self._values, index, num_heads,
            )  # fmt: skip
            if wanted is not None and index == len(decoder.layers) - 1:
                for line in (self._qkv, hidden):
                    line[: len(wanted)] = line[wanted]
                where = (tokens.positions[wanted], tokens.rows[wanted], tokens.tables)
                count, everyone = len(wanted), np.arange(len(wanted))
                if not count:
                    break
            found = self._plain_inputs_of(layer.output)
            heads.attend(
                self._seat, self._qkv, *where, self._keys, self._values, index, num_heads,
                layer.window, np.float32(layer.softcap), found.values, found.scales,
            )  # fmt: skip
            found = self._in_order(found, layer.output, count)
            self._add(found, layer.output, layer.after_attention_norm, count)
            self._multiply_normed(everyone, layer.mlp_norm, layer.gate_up, self._gate_up)
            active = self._plain_inputs_of(layer.down)
            kernels.activate(
                self._seat, self._gate_up, decoder.mlp_size, decoder.activation, active.values, active.scales, count
            )
            active = self._in_order(active, layer.down, count)
            self._add(active, layer.down, layer.after_mlp_norm, count)
        return hidden[:count, : decoder.hidden_size]

    def likeliest(
        self,
        hidden: Floats,
        masks: SequenceOf[Mask | None] = (),
        scored: SequenceOf[bool] | None = None,
        kept: SequenceOf[int] = (),
    ) -> tuple[Array, Floats, Floats]:
        """Return the likeliest next token (B,) after each of the last hidden states (B, H), of those in its mask.

        It is NO_TOKEN where the logits of these are not finite.

        Args:
            hidden: the hidden states.
            masks: for each of them, None where any token may come.
            scored: of which of them the scores are wanted; None for all.
            kept: the places of those whose logits are wanted, each once; they have scores in any case.

        Returns:
            The tokens (B,), scores (B, 3), and the logits (R, V) that are wanted. The scores are the token's logit, the
            largest logit of all tokens, and the logarithm of the sum of e to each logit less the largest. What is not
            wanted holds anything.
        """
        head, vocabulary = self._decoder.head, self._decoder.vocabulary
        ids, masked = np.empty(len(hidden), np.int32), np.full(len(hidden), -1, np.int32)
        given = [(row, mask) for row, mask in enumerate(masks) if mask is not None]
        masked[[row for row, _ in given]] = range(len(given))
        table = np.array([mask for _, mask in given], np.uint32).reshape(len(given), -(-vocabulary // WORD))
        inputs = self._encoded(hidden)
        wanted = np.ones(len(hidden), np.uint8) if scored is None else np.array(scored, np.uint8)
        places = np.full(len(hidden), -1, np.int32)
        for row, place in enumerate(kept):
            places[place], wanted[place] = row, 1
        scores, logits = np.empty((len(hidden), 3), np.float32), np.empty((len(kept), vocabulary), np.float32)
        kernels.likeliest(
            self._seat, inputs.values, inputs.scales, head.weights, head.bias, vocabulary,
            np.float32(self._decoder.softcap), table, masked, wanted, places, ids, scores, logits,
        )  # fmt: skip
        return ids, scores, logits

    def draw(self, logits: Floats, places: SequenceOf[int], peaks: Floats, chances: SequenceOf[Chance]) -> list[int]:
        """Return a token drawn from each of some rows of `logits` (R, V), of which `peaks` are the largest."""
        temperatures, uniforms = np.array(chances, np.float64).T.copy()
        ids = np.empty(len(chances), np.int64)
        draws.draw(self._seat, logits, np.array(places), peaks, temperatures, uniforms, ids)
        found: list[int] = ids.tolist()
        return found

    def logits(self, hidden: Floats) -> Floats:
        """Return the logits (B, V) after each of the last hidden states (B, H)."""
        decoder = self._decoder
        inputs = self._encoded(hidden)
        out = np.empty((round_up(len(hidden), TILE_ROWS), decoder.head.num_outputs), np.float32)
        self._multiply(inputs, decoder.head, out, len(hidden))
        logits = out[: len(hidden), : decoder.vocabulary]
        if decoder.softcap:
            kernels.bend(logits, np.float32(decoder.softcap))
        return logits

    def _inputs_of(self, projection: Projection) -> _Inputs:
        """Return the room for a projection's inputs, shared by all of its kind: each is read before the next one."""
        return self._room(projection.dot.inputs, projection.num_inputs, projection.input_numbers)

    def _plain_inputs_of(self, projection: Projection) -> _Inputs:
        """Return the room for a projection's inputs in the model's own order: float32 if it wants another."""
        if not len(projection.order):
            return self._inputs_of(projection)
        return self._room(np.float32, len(projection.order), 0)

    def _in_order(self, plain: _Inputs, projection: Projection, count: int) -> _Inputs:
        """Return the first of a projection's inputs as it takes them."""
        if not len(projection.order):
            return plain
        inputs = self._inputs_of(projection)
        kernels.reorder(plain.values, projection.order, inputs.values, inputs.scales, count)
        return inputs

    def _room(self, dtype: Any, num_inputs: int, input_numbers: int) -> _Inputs:
        kind = (dtype, num_inputs, input_numbers)
        if kind not in self._inputs:
            self._inputs[kind] = _Inputs(self._num_rows, num_inputs, dtype, input_numbers)
        return self._inputs[kind]

    def _multiply_normed(self, rows: Array, norm: Floats, projections: tuple[Projection, ...], out: Floats) -> None:
        """Set rows of `out` to what projections make of the hidden states (N, H), normed; side by side."""
        encoded: dict[_Inputs, Array] = {}  # in which order they are
        first = 0
        for projection in projections:
            inputs, order = self._inputs_of(projection), projection.order
            known = encoded.get(inputs)
            if known is None or len(known) != len(order) or (len(order) and not np.array_equal(known, order)):
                self._encode_normed(self._hidden, rows, norm, projection)
                encoded[inputs] = order
            # What fills the last panel of one is where the next one's outputs will be.
            self._multiply(inputs, projection, out, len(rows), first)
            first += projection.size

    def _encoded(self, hidden: Floats) -> _Inputs:
        """Return the last hidden states, normed, as the inputs of the head."""
        decoder, everyone = self._decoder, np.arange(len(hidden))
        return self._encode_normed(np.ascontiguousarray(hidden), everyone, decoder.final_norm, decoder.head)

    def _encode_normed(self, hidden: Floats, rows: Array, norm: Floats, projection: Projection) -> _Inputs:
        """Return rows of hidden states (N, H), normed, as a projection takes them."""
        plain = self._plain_inputs_of(projection)
        kernels.norm(self._seat, hidden, rows, norm, np.float32(self._decoder.epsilon), plain.values, plain.scales)
        return self._in_order(plain, projection, len(rows))

    def _add(self, inputs: _Inputs, projection: Projection, norm: Floats, count: int) -> None:
        """Add to the hidden states what a projection makes of its inputs, normed if the model does so."""
        if len(norm):
            self._multiply(inputs, projection, self._update, count)
            kernels.add_norm(self._hidden, self._update, norm, np.float32(self._decoder.epsilon), count)
        else:
            self._multiply(inputs, projection, self._hidden, count, add=True)

    def _reach(self, length: int) -> None:
        """Know the rotary angles of positions below `length`."""
        for index, rope in enumerate(self._decoder.ropes):
            if len(self._angles[index][0]) < length:
                places = np.arange(round_up(length, 1024), dtype=np.float32)
                self._angles[index] = turn(places[:, None] * rope.frequencies, rope.scaling)

    def _multiply(
        self, inputs: _Inputs, projection: Projection, out: Floats, num_rows: int, first: int = 0, *, add: bool = False
    ) -> None:
        if len(projection.bias):
            kernels.spread(projection.bias, out, first, num_rows, add)
            add = True
        kernels.product(self._seat, inputs.values, inputs.scales, projection.weights, out, first, num_rows, add)
