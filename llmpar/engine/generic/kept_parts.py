"""The parts of a model whose weights stay in its own files, as bytes and back: what transformers knew of it, once.

The bytes are a line with a SHA-256 of the rest, a line of JSON that has the parts, in which a matrix of the files is a
name, and the other tensors as safetensors has them. They are made for one version of llmpar and kept in its cache;
nothing else need read them.
"""

from __future__ import annotations

import hashlib
import json
from collections.abc import Callable, Mapping
from dataclasses import fields, is_dataclass
from pathlib import Path
from typing import Any

import torch
from safetensors import SafetensorError
from safetensors.torch import load, save
from torch import nn

from llmpar.engine.generic.attention import Variant
from llmpar.engine.parts import Extent, LayerParts, ModelParts

_KINDS = {kind.__name__: kind for kind in (Extent, LayerParts, ModelParts, Variant)}


def source_digest() -> str:
    """Return what tells this version of what is kept, and of what finds it out, from any other."""
    files = (Path(__file__), Path(__file__).parents[1] / "parts.py", Path(__file__).with_name("linear.py"))
    return hashlib.sha256(b"".join(file.read_bytes() for file in files)).hexdigest()


class DamagedParts(Exception):
    """The bytes are not what was written, or not of these files."""


class _Unnamed(Exception):
    """A part is in the model's files, and has no name there."""


def to_bytes(parts: ModelParts, names: Mapping[torch.Tensor, str]) -> bytes | None:
    """Return parts as bytes; None for those with matrices that have no name, as experts have.

    Args:
        parts: of a model.
        names: what the matrices (N, K) that stay where they are are called there.
    """
    tensors: dict[str, torch.Tensor] = {}

    def laid_down(value: Any) -> Any:
        if isinstance(value, nn.Linear):
            return {"kind": "Linear", "weight": laid_down(value.weight), "bias": laid_down(value.bias)}
        if isinstance(value, torch.Tensor):
            if value in names:
                return {"kind": "Matrix", "name": names[value]}
            if value.is_meta:
                raise _Unnamed
            key = str(len(tensors))
            tensors[key] = value.detach().cpu().contiguous().clone()
            return {"kind": "Tensor", "key": key}
        if isinstance(value, slice):
            return {"kind": "Run", "start": value.start, "stop": value.stop}
        if is_dataclass(value):
            if type(value) not in _KINDS.values():
                raise _Unnamed
            return {"kind": type(value).__name__, **{f.name: laid_down(getattr(value, f.name)) for f in fields(value)}}
        return [laid_down(part) for part in value] if isinstance(value, tuple) else value

    try:
        tree = laid_down(parts)
    except _Unnamed:
        return None
    content = json.dumps(tree).encode() + b"\n" + save(tensors)
    return hashlib.sha256(content).hexdigest().encode() + b"\n" + content


def from_bytes(kept: bytes, matrix: Callable[[str], nn.Parameter]) -> ModelParts:
    """Return the parts.

    Args:
        kept: what `to_bytes` returned.
        matrix: returns what stands for a matrix (N, K) of this name, each time the same; KeyError if there is none.

    Raises:
        DamagedParts: the bytes are no such, or of other files.
    """
    digest, _, content = kept.partition(b"\n")
    if hashlib.sha256(content).hexdigest().encode() != digest:
        raise DamagedParts("they were altered")
    line, _, rest = content.partition(b"\n")

    def restored(value: Any) -> Any:
        if isinstance(value, list):
            return tuple(restored(part) for part in value)
        if not isinstance(value, dict):
            return value
        match kind := value.pop("kind"):
            case "Matrix":
                return matrix(value["name"])
            case "Tensor":
                return tensors[value["key"]]
            case "Run":
                return slice(value["start"], value["stop"])
            case "Linear":
                return _linear(restored(value["weight"]), restored(value["bias"]))
        return _KINDS[kind](**{name: restored(part) for name, part in value.items()})

    try:
        tensors = load(rest)
        parts = restored(json.loads(line))
    except (ValueError, TypeError, KeyError, SafetensorError) as error:  # written by another version
        raise DamagedParts(f"{type(error).__name__}: {error}") from error
    if not isinstance(parts, ModelParts):
        raise DamagedParts("they are no whole model")
    return parts


def _linear(weight: nn.Parameter, bias: torch.Tensor | None) -> nn.Linear:
    linear = nn.Linear(weight.shape[1], weight.shape[0], bias=bias is not None, device="meta")
    linear.weight = weight
    if bias is not None:
        linear.bias = nn.Parameter(bias, requires_grad=False)
    return linear
