"""How much memory a model takes on a CPU, told from its files' headers before any weight is read."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import fields
from functools import cache
from math import prod
from pathlib import Path
from types import MappingProxyType

import numpy as np

from llmpar.engine.precision_names import TORCH_TYPES, PrecisionName
from llmpar.engine.resources import available_memory
from llmpar.engine.source import SourceRows, WeightSource
from llmpar.errors import ModelUnavailable, setting
from llmpar.models.mapped import MappedWeights, OtherFiles
from llmpar.models.opening import is_ours_alone, open_source

_BESIDE = 500_000_000  # bytes: libraries, the tokenizer, and a little room for keys and values
_EMBEDDING, _HEAD = "embed_tokens.weight", "lm_head.weight"
_SCALE = 0.08  # bytes of scales and offsets that a kept weight has, at most as a rule
_PROBE = (480, 1920)  # output channels and inputs of a matrix that is packed to see how large it gets


def check_room(path: Path, precision: PrecisionName) -> None:
    """Raise ModelUnavailable if a model is too large for the memory that is free.

    Args:
        path: the directory, or the GGUF file. A directory whose weights cannot be read one by one is not judged.
        precision: what the weights are to be packed for.

    Raises:
        ModelUnavailable: the message says what the model needs, what there is, and what would fit.
    """
    from llmpar.engine.cpu.precision import PRECISIONS

    found = shapes_of(path, precision)
    if found is None:
        return
    shapes, kept = found
    free, needed = available_memory(), num_bytes(shapes, precision, kept)
    if needed <= free:
        return
    shorter = [name for name, known in PRECISIONS.items() if known.bits < PRECISIONS[precision].bits]
    fitting = [name for name in shorter if num_bytes(shapes, name) <= free]
    remedy = f"take {setting('precision', max(fitting, key=lambda name: PRECISIONS[name].bits))}" if fitting else ""
    if not remedy:
        least = min((num_bytes(shapes, name) for name in (*shorter, precision)), default=needed)
        most = sum(map(prod, shapes.values())) * max(0, free - _BESIDE) / (least - _BESIDE)
        remedy = f"take a model of at most {most / 1e9:.2g} billion weights, or free some"
    raise ModelUnavailable(
        f"{path.name!r}: needs about {needed / 1e9:.1f} GB of memory in {precision}, and {free / 1e9:.1f} GB are free; "
        f"{remedy}"
    )


def floats_with_room(
    path: Path, shapes: Mapping[str, tuple[int, ...]], asked: PrecisionName, native: PrecisionName
) -> PrecisionName:
    """Return in which floats torch has room for all of a model's weights: the processor's own, else shorter ones.

    Args:
        path: the model's, for messages.
        shapes: of its weights, by their names.
        asked: the precision that was asked for; floats of fewer bits are no answer to it.
        native: what torch is fastest in here.

    Raises:
        ModelUnavailable: there is room in none; the message says what the model needs, what there is, and what to do.
    """
    from llmpar.engine.cpu.precision import PRECISIONS

    bits = {name: PRECISIONS[name].bits for name in TORCH_TYPES}
    least = min(PRECISIONS[asked].bits, bits[native])
    candidates = sorted((name for name in bits if least <= bits[name] <= bits[native]), key=bits.__getitem__)
    needed = {name: _BESIDE + sum(map(prod, shapes.values())) * bits[name] // 8 for name in bits}
    free = available_memory()
    for name in reversed(candidates):
        if needed[name] <= free:
            return name
    shortest = min(bits, key=bits.__getitem__)
    shorter = f"take {setting('precision', shortest)}, or " if needed[shortest] <= free else ""
    raise ModelUnavailable(
        f"{path.name!r}: only torch computes this architecture, in floats: it needs about "
        f"{needed[candidates[0]] / 1e9:.1f} GB of memory in {candidates[0]}, and {free / 1e9:.1f} GB are free; "
        f"{shorter}let a server answer that has the model ({setting('endpoints', option='--endpoint')})"
    )


def shapes_of(path: Path, precision: PrecisionName) -> tuple[Mapping[str, tuple[int, ...]], Mapping[str, float]] | None:
    """Return the shapes of a model's weights by their names, and what `packed_bytes` calls `kept`; None if unknown.

    Args:
        path: the directory, or the GGUF file.
        precision: what the weights are to be packed for.
    """
    try:
        if not is_ours_alone(path):
            return MappedWeights(sorted(path.glob("*.safetensors"))).shapes, {}
        source = open_source(path)
        return None if source is None else (source.shapes, _kept(source, precision))
    except (OtherFiles, ModelUnavailable):  # whoever loads them says what is wrong with them
        return None


def _kept(source: WeightSource, precision: PrecisionName) -> dict[str, float]:
    """Return how many bytes a weight takes in those matrices whose codes are kept, by their names."""
    from llmpar.engine.cpu.dots import DOTS
    from llmpar.engine.cpu.making import form_in
    from llmpar.engine.cpu.precision import PRECISIONS

    found = {}
    for name, shape in source.shapes.items():
        form = form_in(SourceRows(source, name), PRECISIONS[precision]) if len(shape) > 1 else None
        if form:
            found[name] = 4 / DOTS[form].inputs_per_word + _SCALE
    return found


def num_bytes(
    shapes: Mapping[str, tuple[int, ...]], precision: PrecisionName, kept: Mapping[str, float] = MappingProxyType({})
) -> int:
    """Return about how much memory a run with a model needs at least, so that there is room for some keys and values.

    Args:
        shapes: of its weights, by their names.
        precision: the one that it is packed for.
        kept: see `packed_bytes`.
    """
    return _BESIDE + packed_bytes(shapes, precision, kept)


def packed_bytes(
    shapes: Mapping[str, tuple[int, ...]], precision: PrecisionName, kept: Mapping[str, float] = MappingProxyType({})
) -> int:
    """Return about how much memory a model's weights take when they are packed, and nothing besides.

    Args:
        shapes: of its weights, by their names.
        precision: the one that it is packed for.
        kept: how many bytes a weight takes in those that are not packed, but kept as they are.
    """
    per_weight, total = _bytes_per_weight(precision), 0.0
    is_tied = not any(name.endswith(_HEAD) for name in shapes)
    for name, shape in shapes.items():
        if is_tied or not name.endswith(_EMBEDDING):  # whose rows stay in the file until they are looked up
            total += prod(shape) * (kept.get(name, per_weight) if len(shape) > 1 else 4)
    return int(total)


@cache
def _bytes_per_weight(precision: PrecisionName) -> float:
    """Return what a weight takes with its share of scales; it is tried, so that a precision may pack as it likes."""
    from llmpar.engine.cpu.precision import PRECISIONS
    from llmpar.engine.cpu.projection import Projection

    packed = Projection.pack(np.ones(_PROBE, np.float32), None, PRECISIONS[precision])
    arrays = [getattr(packed, field.name) for field in fields(packed)]
    return sum(array.nbytes for array in arrays if isinstance(array, np.ndarray)) / prod(_PROBE)
