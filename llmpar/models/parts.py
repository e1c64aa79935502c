"""A model's files → its parts, whose weights stay there: asked of transformers once, and kept."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING

from llmpar.models.opening import open_files
from llmpar.models.plans import find_parts

if TYPE_CHECKING:
    from llmpar.engine.generic.skeleton import Skeleton
    from llmpar.engine.parts import ModelParts
    from llmpar.models.cache import Notify


def find_out(path: Path, notify: Notify) -> tuple[ModelParts, Skeleton] | None:
    """Return a model's parts, and what knows its weights; None where these are not read one by one.

    Args:
        path: its directory or GGUF file.
        notify: is told if what was found out cannot be kept.

    Raises:
        OtherShape: it has others than decoders know.
        ModelUnavailable: the files are damaged.
    """
    plan = find_parts(path)
    if kept := plan.read() if plan else None:
        return kept
    from llmpar.engine.cuda.from_transformers import parts_in_files

    skeleton = open_files(path)
    if skeleton is None:
        return None
    parts = parts_in_files(skeleton)
    if plan:
        plan.keep(parts, skeleton, notify)
    return parts, skeleton
