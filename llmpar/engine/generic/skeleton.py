"""A model of transformers whose weights stay in their files: what a layer needs is read while it computes.

It is there for what transformers knows about an architecture: its parts, and what it makes of a short text. Who then
computes with the weights reads them from the same source.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from dataclasses import dataclass
from math import prod
from typing import TYPE_CHECKING, Any, Protocol

import numpy as np
import torch
from torch import nn

from llmpar.engine.parts import Extent
from llmpar.engine.quantized import Floats
from llmpar.engine.resources import usable_cores
from llmpar.engine.source import SourceRows

if TYPE_CHECKING:
    from llmpar.engine.source import WeightSource

_PIECE = 1 << 20  # weights that a thread has in float32 at a time
_TRIED = 1 << 28  # weights of layers that are read for the trial, above the layers that are of different kinds
_SCORED = 1 << 25  # weights of the head that are
_RUNS = 16  # runs of neighbouring tokens that are scored


class OtherWeights(Exception):
    """The files hold something else than the model of their configuration."""


class _Stored(Protocol):
    """What a parameter of two or more dimensions holds."""

    def floats(self, part: slice, /) -> Floats:
        """Return a part of it along its first axis, in float32."""

    def give_back(self) -> None:
        """Let go of the memory that its pages take."""


@dataclass(frozen=True, slots=True)
class _Experts:
    """The matrices of a layer's experts (E, K, N), of which a source has all outputs (E · N, K), one below the other.

    Each is the other way round than transformers has it.
    """

    rows: SourceRows
    num_outputs: int

    def floats(self, part: slice, /) -> Floats:
        """Return the matrices (n, K, N) of some experts."""
        found = self.rows.floats(slice(part.start * self.num_outputs, part.stop * self.num_outputs))
        turned: Floats = found.reshape(-1, self.num_outputs, found.shape[1]).swapaxes(1, 2)
        return turned

    def give_back(self) -> None:
        """Let go of the memory that their pages take."""
        self.rows.give_back()


@dataclass(frozen=True, slots=True)
class Skeleton:
    """A model and where its weights are.

    `module` is one of transformers, in float32. Its matrices have a shape and no memory; `rows` has what those of two
    dimensions hold, and `experts` what those of three do. Vectors are there. Linear layers and embeddings compute while
    they are `reading`.
    """

    module: Any
    source: WeightSource
    rows: dict[torch.Tensor, SourceRows]
    experts: dict[torch.Tensor, _Experts]

    @property
    def extent(self) -> Extent:
        """How much of the model is tried on a short text: layers of each kind, and some tokens' scores.

        All of it where that is quick.
        """
        config = self.module.config.get_text_config()
        count = int(config.num_hidden_layers)
        each = (_per_layer(config, name) for name in ("layer_types", "no_rope_layers"))
        kinds = list(zip(*each, strict=True))
        first = next((n for n in range(1, count) if len({*kinds[:n]}) == len({*kinds})), count)
        sizes = np.cumsum([sum(weight.numel() for weight in layer.parameters()) for layer in self._layers])
        within = int(np.searchsorted(sizes, _TRIED, "right"))
        head = self.module.get_output_embeddings().weight
        return Extent(max(first, within), _spread(len(head), _SCORED // head.shape[1]))

    @property
    def _layers(self) -> list[nn.Module]:
        """The layers, none where they are elsewhere than usual: such a model is not computed with."""
        return list(getattr(getattr(self.module, "model", None), "layers", ()))

    @contextmanager
    def reading(self, extent: Extent) -> Iterator[None]:
        """Let the module compute as far as `extent` goes: the layers behind add nothing, and few tokens are scored."""
        head = self.module.get_output_embeddings()
        behind = {linear for layer in self._layers[extent.num_layers :] for linear in _linears(layer)}
        changed: list[nn.Module] = []

        def compute(module: nn.Module, way: Callable[..., torch.Tensor]) -> None:
            module.forward = way
            changed.append(module)

        for module in self.module.modules():
            if module is head:
                compute(module, lambda hidden: _apply(hidden, self.rows[head.weight], head.bias, extent.tokens))
            elif isinstance(module, nn.Linear):
                compute(module, _nothing(module) if module in behind else self._linear(module))
            elif isinstance(module, nn.Embedding):
                compute(module, self._embedding(module))
        try:
            yield
        finally:
            for module in changed:
                del module.forward  # an attribute of its own, before the class's

    def give_back(self, weight: torch.Tensor) -> None:
        """Let go of the memory that a weight's pages take, a parameter of any shape; it is read again if it is used."""
        if weight in self.rows:
            self.rows[weight].give_back()

    def _linear(self, module: nn.Linear) -> Callable[..., torch.Tensor]:
        rows = self.rows[module.weight]

        def forward(inputs: torch.Tensor) -> torch.Tensor:
            found = _apply(inputs, rows, module.bias, (slice(0, len(module.weight)),))
            rows.give_back()
            return found

        return forward

    def _embedding(self, module: nn.Embedding) -> Callable[..., torch.Tensor]:
        weight = module.weight
        rows, kind = self.rows[weight], type(module)

        def forward(ids: torch.Tensor) -> torch.Tensor:
            used, places = np.unique(ids.numpy(), return_inverse=True)
            table = rows.floats(used)
            module.weight = nn.Parameter(torch.from_numpy(table), requires_grad=False)
            try:
                return kind.forward(
                    module, torch.from_numpy(places.reshape(ids.shape))
                )  # some multiply what they find by a number of their own
            finally:
                module.weight = weight

        return forward

    def filled(self, dtype: torch.dtype) -> Any:
        """Return the module with all its weights in memory, in this type; it is a model like any other then."""
        names: dict[torch.Tensor, str] = {weight: name for name, weight in self.module.named_parameters()}
        stored: dict[torch.Tensor, _Stored] = {**self.rows, **self.experts}
        for parameter, rows in stored.items():
            whole = torch.empty(parameter.shape, dtype=dtype)

            def put(part: slice, rows: _Stored = rows, whole: torch.Tensor = whole) -> None:
                whole[part] = torch.from_numpy(rows.floats(part)).to(dtype)

            in_pieces(put, parameter.shape)
            rows.give_back()
            owner, _, own = names[parameter].rpartition(".")
            setattr(self.module.get_submodule(owner), own, nn.Parameter(whole, requires_grad=False))
        self.module.tie_weights()
        for parameter in self.module.parameters():  # not the buffers: rotary frequencies stay exact
            parameter.data = parameter.data.to(dtype)
        self.module.config.dtype = dtype
        return self.module


def open_skeleton(kind: Any, config: Any, source: WeightSource) -> Skeleton:
    """Return a model without its weights.

    Args:
        kind: one of transformers' classes that make a model of a configuration.
        config: the model's.
        source: has its weights, by the names of its parameters.

    Raises:
        OtherWeights: they have other names or shapes, or no model can be made of the configuration.
    """
    with _without_memory():
        try:
            module = kind.from_config(config, dtype=torch.float32).eval()
        except Exception as error:  # whatever a model's own code makes of a damaged configuration
            raise OtherWeights(f"no model can be made of its configuration: {error}") from error
    shapes, wanted = source.shapes, dict(module.named_parameters())
    tied = {name for name, _ in module.named_parameters(remove_duplicate=False)} - set(wanted)
    if absent := sorted(set(wanted) - set(shapes)):
        raise OtherWeights(f"has no weights for {absent[0]} ({len(absent)} missing)")
    if unknown := sorted(set(shapes) - set(wanted) - tied):
        raise OtherWeights(f"has weights that the model has no place for: {unknown[0]} ({len(unknown)} of them)")
    lazy = {weight for weight in wanted.values() if weight.ndim > 1}
    rows: dict[torch.Tensor, SourceRows] = {}
    experts: dict[torch.Tensor, _Experts] = {}
    for name, parameter in wanted.items():
        if parameter.ndim == 3 and tuple(shapes[name]) == (parameter.shape[0] * parameter.shape[2], parameter.shape[1]):
            experts[parameter] = _Experts(SourceRows(source, name), parameter.shape[2])
            continue
        if tuple(shapes[name]) != tuple(parameter.shape):
            raise OtherWeights(f"{name} has the shape {tuple(shapes[name])} instead of {tuple(parameter.shape)}")
        if parameter in lazy:
            rows[parameter] = SourceRows(source, name)
            continue
        owner, _, own = name.rpartition(".")
        value = torch.from_numpy(SourceRows(source, name).floats())
        setattr(module.get_submodule(owner), own, nn.Parameter(value, requires_grad=False))
    module.tie_weights()
    filled = {parameter for parameter in module.parameters() if not parameter.is_meta}
    filled |= rows.keys() | experts.keys()
    if absent := [name for name, parameter in module.named_parameters() if parameter not in filled]:
        raise OtherWeights(f"has no weights for {absent[0]} ({len(absent)} missing)")
    return Skeleton(module, source, rows, experts)


def _per_layer(config: Any, name: str) -> list[Any]:
    count = int(config.num_hidden_layers)
    return list(getattr(config, name, None) or [None] * count)[:count]


def _spread(count: int, most: int) -> tuple[slice, ...]:
    """Return runs of numbers below `count`, spread evenly over them, that have `most` or somewhat more in all."""
    if count <= most:
        return (slice(0, count),)
    length = -(-most // _RUNS)
    return tuple(slice(first, first + length) for first in np.linspace(0, count - length, _RUNS).astype(int).tolist())


def _linears(layer: nn.Module) -> Iterator[nn.Linear]:
    return (module for module in layer.modules() if isinstance(module, nn.Linear))


def _nothing(module: nn.Linear) -> Callable[..., torch.Tensor]:
    return lambda inputs: inputs.new_zeros(*inputs.shape[:-1], module.out_features)


def _apply(
    inputs: torch.Tensor, rows: SourceRows, bias: torch.Tensor | None, chosen: tuple[slice, ...]
) -> torch.Tensor:
    """Return what a linear layer makes of inputs (…, K) in the output channels that are chosen, in pieces."""
    columns = np.concatenate([np.arange(part.start, part.stop) for part in chosen])
    flat = inputs.reshape(-1, inputs.shape[-1])
    found = torch.empty(len(flat), len(columns))
    first = 0
    for part in chosen:
        count = part.stop - part.start

        def put(piece: slice, start: int = part.start, first: int = first) -> None:
            weights = torch.from_numpy(rows.floats(slice(start + piece.start, start + piece.stop)))
            found[:, first + piece.start : first + piece.stop] = flat @ weights.T

        in_pieces(put, (count, rows.shape[1]))
        first += count
    if bias is not None:
        found += bias[torch.from_numpy(columns)]
    return found.reshape(*inputs.shape[:-1], -1)


def in_pieces(work: Callable[[slice], None], shape: tuple[int, ...]) -> None:
    """Do some work on a matrix of this shape, some of its rows at a time, on all cores: no lock is held there."""
    step = max(1, _PIECE // max(1, prod(shape[1:])))
    pieces = [slice(first, min(first + step, shape[0])) for first in range(0, shape[0], step)]

    def quietly(piece: slice) -> None:
        with torch.inference_mode():  # which is a thread's own
            work(piece)

    if len(pieces) == 1:
        quietly(pieces[0])
        return
    with ThreadPoolExecutor(usable_cores()) as pool:
        for _ in pool.map(quietly, pieces):
            pass


@contextmanager
def _without_memory() -> Iterator[None]:
    """Let parameters that are made meanwhile have a shape and no memory. Buffers, which are computed, have some."""
    register = nn.Module.register_parameter

    def register_shape(module: nn.Module, name: str, parameter: nn.Parameter | None) -> None:
        if parameter is not None and not parameter.is_meta:  # one that is, is another's, to which this one is tied
            parameter = nn.Parameter(parameter.detach().to("meta"), requires_grad=False)
        register(module, name, parameter)

    nn.Module.register_parameter = register_shape  # type: ignore[assignment, method-assign]
    try:
        yield
    finally:
        nn.Module.register_parameter = register  # type: ignore[method-assign]
