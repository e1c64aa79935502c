"""A tiny model: a GGUF file, and the model directory that llmpar converts it to."""

from __future__ import annotations

import tempfile
from functools import cache
from pathlib import Path

from support.gguf_files import write_gguf

from llmpar.models import convert


@cache
def gguf_bytes(*, known: bool = True) -> bytes:
    """Return the GGUF file's bytes; unless it is `known`, it is one that is converted."""
    with tempfile.TemporaryDirectory() as directory:
        return write_gguf(Path(directory) / "tiny.gguf", "Q8_0", known=known).read_bytes()


@cache
def directory_bytes() -> dict[str, bytes]:
    """Return the files of the model directory."""
    with tempfile.TemporaryDirectory() as directory:
        source, destination = Path(directory) / "tiny.gguf", Path(directory) / "tiny"
        source.write_bytes(gguf_bytes())
        destination.mkdir()
        convert.from_gguf(source, destination, lambda _: None)
        return {path.name: path.read_bytes() for path in destination.iterdir()}


def write_directory(path: Path) -> Path:
    """Write the model directory's files into a new directory."""
    path.mkdir()
    for name, data in directory_bytes().items():
        (path / name).write_bytes(data)
    return path
