"""What was found out about a model whose weights stay in its own files: kept, so that it need not be tried each time.

A plan is a decoder without its matrices (see `engine/cpu/packed.py`): some hundred kilobytes in the cache. With it a
model is loaded without torch and transformers, which take seconds to import. For a GPU it is the model's parts without
matrices (see `engine/generic/kept_parts.py`), with which it is loaded without transformers.
"""

from __future__ import annotations

import contextlib
import hashlib
import json
import os
from collections.abc import Callable
from dataclasses import dataclass
from importlib.metadata import version
from pathlib import Path
from typing import TYPE_CHECKING, Any

from llmpar.engine.precision_names import PrecisionName
from llmpar.engine.quantized import Quantized
from llmpar.engine.source import SourceRows
from llmpar.errors import ModelUnavailable, WriteFailed
from llmpar.models.configuration import configuration
from llmpar.paths import cache_dir, make_private

if TYPE_CHECKING:
    from llmpar.engine.cpu.decoder import Decoder
    from llmpar.engine.cpu.making import Recipe
    from llmpar.engine.generic.skeleton import Skeleton
    from llmpar.engine.parts import ModelParts
    from llmpar.engine.source import WeightSource
    from llmpar.models.cache import Notify

_MOST = 64  # plans that are kept; a new one takes the place of the oldest


@dataclass(frozen=True, slots=True)
class Plan:
    """A plan that may be there: where, what decides it, and the weights that belong to it."""

    file: Path
    origin: str
    source: WeightSource

    def read(self) -> Decoder | None:
        """Return the decoder that it is of, with the source's matrices; None if it is not there, or damaged.

        Raises:
            ModelUnavailable: the weights are damaged.
        """
        from llmpar.engine.cpu import making, packed

        def make(recipe: Recipe) -> Any:
            made = making.make(recipe, lambda name: SourceRows(self.source, name))
            for name in recipe.names:
                self.source.give_back(name)
            return made

        try:
            return packed.read(self.file, self.origin, make=make) if self.file.exists() else None
        except packed.DamagedPack:
            return None

    def keep(self, decoder: Decoder, recipes: dict[int, Recipe], notify: Notify) -> None:
        """Write the plan of a decoder; that it cannot be is no error, as the next run then tries the model once more.

        Args:
            decoder: the decoder.
            recipes: what its matrices were made of, by their `id`.
            notify: is told if it cannot be written.
        """
        from llmpar.engine.cpu import packed

        _keep(self.file, lambda fresh: packed.write(decoder, fresh, self.origin, recipes), notify)


@dataclass(frozen=True, slots=True)
class PartsPlan:
    """The same for a GPU: the parts of a model, which may be there, whatever they are computed in."""

    file: Path
    source: WeightSource

    def read(self) -> tuple[ModelParts, Skeleton] | None:
        """Return the parts, and what knows their weights; None if they are not there, or damaged."""
        import torch
        from torch import nn

        from llmpar.engine.generic import kept_parts
        from llmpar.engine.generic.skeleton import Skeleton

        matrices: dict[str, nn.Parameter] = {}

        def matrix(name: str) -> nn.Parameter:
            if name not in matrices:
                matrices[name] = nn.Parameter(torch.empty(self.source.shapes[name], device="meta"), requires_grad=False)
            return matrices[name]

        try:
            parts = kept_parts.from_bytes(self.file.read_bytes(), matrix)
        except (OSError, kept_parts.DamagedParts):
            return None
        rows: dict[torch.Tensor, SourceRows] = {
            weight: SourceRows(self.source, name) for name, weight in matrices.items()
        }
        return parts, Skeleton(None, self.source, rows, {})

    def keep(self, parts: ModelParts, skeleton: Skeleton, notify: Notify) -> None:
        """Write parts whose weights a skeleton knows; see `Plan.keep`. Those that cannot be written are not kept."""
        from llmpar.engine.generic import kept_parts

        kept = kept_parts.to_bytes(parts, {weight: rows.name for weight, rows in skeleton.rows.items()})
        if kept is not None:
            _keep(self.file, lambda fresh: fresh.write_bytes(kept), notify)


def find(path: Path, precision: PrecisionName) -> Plan | None:
    """Return the place of a model's plan; None without a cache, or where weights are not read one by one.

    What decides a plan is all that the files say, their vectors, this program and this processor.

    Args:
        path: the model's directory or GGUF file.
        precision: what it is to be computed in.
    """
    from llmpar.engine.cpu import packed
    from llmpar.engine.cpu.compiled import source_digest

    found = _find(path, f"{precision} {packed.FORMAT} {source_digest()}")
    return Plan(*found) if found else None


def find_parts(path: Path) -> PartsPlan | None:
    """Return the place of a model's parts; see `find`. It is decided by what finds them, too.

    Args:
        path: the model's directory or GGUF file.
    """
    from llmpar.engine.generic.kept_parts import source_digest

    found = _find(path, f"parts {source_digest()} {version('transformers')} {version('torch')}")
    return PartsPlan(found[0], found[2]) if found else None


def _find(path: Path, told: str) -> tuple[Path, str, WeightSource] | None:
    """Return where a plan is, what decides it, and the weights that belong to it; `told` is what else decides it."""
    from llmpar.models.opening import open_source

    try:
        source, said = open_source(path), configuration(path)
        place = cache_dir() / "plans"
    except (ModelUnavailable, WriteFailed):  # whoever loads the model says what is wrong with it
        return None
    if source is None:
        return None
    digest = hashlib.sha256(json.dumps(said, sort_keys=True, default=str).encode())
    for name, shape in sorted(source.shapes.items()):
        digest.update(f"{name} {tuple(shape)} {source.kind(name)}\n".encode())
        if len(shape) == 1:
            vector = source.rows(name, slice(None))
            digest.update((vector.weights() if isinstance(vector, Quantized) else vector).tobytes())
    digest.update(told.encode())
    origin = digest.hexdigest()
    return place / f"{origin[:32]}.plan", origin, source


def _keep(file: Path, write: Callable[[Path], object], notify: Notify) -> None:
    """Write a plan as a whole, and delete the oldest of too many."""
    fresh = file.with_name(f".{file.name}.{os.getpid()}")
    try:
        make_private(file.parent)
        write(fresh)
        fresh.replace(file)
        plans = sorted(file.parent.glob("*.plan"), key=lambda plan: plan.stat().st_mtime)
        for old in plans[:-_MOST]:
            old.unlink()
    except (OSError, WriteFailed) as error:
        notify(f"what was found out about the model cannot be kept ({error}); the next run will try it again")
        with contextlib.suppress(OSError):
            fresh.unlink(missing_ok=True)
