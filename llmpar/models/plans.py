"""What was found out about a model whose weights stay in its own files: kept, so that it need not be tried each time.

A plan is a decoder without its matrices (see `engine/cpu/packed.py`): some hundred kilobytes in the cache. With it a
model is loaded without torch and transformers, which take seconds to import.
"""

from __future__ import annotations

import contextlib
import hashlib
import json
import os
from dataclasses import dataclass
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

        fresh = self.file.with_name(f".{self.file.name}.{os.getpid()}")
        try:
            make_private(self.file.parent)
            packed.write(decoder, fresh, self.origin, recipes)
            fresh.replace(self.file)
            plans = sorted(self.file.parent.glob("*.plan"), key=lambda plan: plan.stat().st_mtime)
            for old in plans[:-_MOST]:
                old.unlink()
        except (OSError, WriteFailed) as error:
            notify(f"what was found out about the model cannot be kept ({error}); the next run will try it again")
            with contextlib.suppress(OSError):
                fresh.unlink(missing_ok=True)


def find(path: Path, precision: PrecisionName) -> Plan | None:
    """Return the place of a model's plan; None without a cache, or where weights are not read one by one.

    What decides a plan is all that the files say, their vectors, this program and this processor.

    Args:
        path: the model's directory or GGUF file.
        precision: what it is to be computed in.
    """
    from llmpar.engine.cpu import packed
    from llmpar.engine.cpu.compiled import source_digest
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
    digest.update(f"{precision} {packed.FORMAT} {source_digest()}".encode())
    origin = digest.hexdigest()
    return Plan(place / f"{origin[:32]}.plan", origin, source)
