"""A model's files, looked at while its weights are loaded and used: no answer counts that damaged ones gave."""

from __future__ import annotations

from pathlib import Path

from llmpar.errors import ModelUnavailable
from llmpar.integrity.foundation import Foundation
from llmpar.models.cache import kept_sums
from llmpar.models.configuration import is_gguf, place_of
from llmpar.models.sums import is_weights


def watch(path: Path, *, is_mapped: bool) -> Foundation:
    """Begin to look at the files of a model, weights too, before they are loaded.

    Args:
        path: its directory or GGUF file.
        is_mapped: see `Foundation`.

    Raises:
        ModelUnavailable: one cannot be read.
    """
    foundation = Foundation(is_mapped=is_mapped)
    add_files(foundation, path, weights=True)
    foundation.begin()
    return foundation


def add_files(foundation: Foundation, path: Path, *, weights: bool) -> None:
    """Let a foundation have those of a model's files that it rests on.

    Args:
        foundation: is given them.
        path: the model's directory or GGUF file.
        weights: whether those with weights are among them.

    Raises:
        ModelUnavailable: one cannot be read.
    """
    from llmpar.engine.cpu import truncation
    from llmpar.models.gguf.parts import parts_of

    truncation.end_cleanly()
    try:
        kept = kept_sums(place_of(path))
        files = parts_of(path) if is_gguf(path) else tuple(sorted(path.iterdir()))
        for file in files:
            expected = kept.by_name.get(file.name) if kept else None
            if (weights and is_weights(file.name)) or (expected and not is_weights(file.name)):
                foundation.add(file, expected, is_weights=is_weights(file.name))
    except OSError as error:
        raise ModelUnavailable(f"{str(path)!r}: cannot be read: {error.strerror}") from error
