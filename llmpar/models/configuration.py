"""What a model's small files say, or a GGUF file in their place: read with care, as anybody may have written them."""

from __future__ import annotations

import json
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from llmpar.errors import ModelUnavailable

_DECIDING = (".json", ".jinja", ".safetensors", ".model", ".txt", ".spm")


def is_gguf(model: Path) -> bool:
    """Tell whether a model is one GGUF file, and no directory."""
    return model.suffix == ".gguf" and not model.is_dir()


def place_of(model: Path) -> Path:
    """Return the directory that a model is, or in which its GGUF file lies."""
    return model.parent if is_gguf(model) else model


def deciding_files(model: Path) -> tuple[Path, ...]:
    """Return the files that decide what a model says.

    Raises:
        ModelUnavailable: they cannot be looked at.
    """
    if is_gguf(model):
        from llmpar.models.gguf.parts import parts_of

        return parts_of(model)
    try:
        return tuple(sorted(file for file in model.iterdir() if file.suffix in _DECIDING and file.is_file()))
    except OSError as error:
        raise ModelUnavailable(f"{model}: cannot be read: {error.strerror}") from error


def described(model: Path, name: str) -> dict[str, Any] | None:
    """Return what a model says in its JSON file of this name; None if it has no such file.

    Args:
        model: a directory, or a GGUF file, whose metadata says the same.
        name: of a file in a directory, as "config.json".

    Raises:
        ModelUnavailable: the file cannot be read, or is damaged.
    """
    if is_gguf(model):
        from llmpar.models.gguf.model import described as told

        return told(model, name)
    return read_json(model / name) if (model / name).exists() else None


def configuration(model: Path) -> dict[str, Any]:
    """Return a model's configuration, that of a directory or a GGUF file.

    Raises:
        ModelUnavailable: it is missing or damaged.
    """
    return described(model, "config.json") or read_json(model / "config.json")


def chat_template(model: Path) -> str | None:
    """Return the template of a model's conversations, None if it has none.

    Raises:
        ModelUnavailable: it cannot be read.
    """
    if is_gguf(model):
        from llmpar.models.gguf.model import chat_template as told

        return told(model)
    file = model / "chat_template.jinja"
    if file.exists():
        try:
            return file.read_text(encoding="utf-8")
        except (OSError, ValueError) as error:
            raise ModelUnavailable(f"{str(file)!r}: cannot be read: {error}") from error
    return None


def stop_ids(model: Path) -> frozenset[int]:
    """Return the ids that end an answer, by the model's generation config or else its config.

    Raises:
        ModelUnavailable: one of them is damaged.
    """
    for name in ("generation_config.json", "config.json"):
        value = (described(model, name) or {}).get("eos_token_id")
        if value is not None:
            ids = value if isinstance(value, list) else [value]
            if not all(is_token_id(token_id) or token_id == -1 for token_id in ids):  # -1 is a way to say none
                raise ModelUnavailable(f"{str(model / name)!r}: is damaged: eos_token_id is no token's number")
            return frozenset(ids) - {-1}
    return frozenset()


def is_token_id(value: object) -> bool:
    """Tell whether a value out of a file can be a token's number."""
    return isinstance(value, int) and not isinstance(value, bool) and 0 <= value < 1 << 32


def read_json(file: Path) -> dict[str, Any]:
    """Return a JSON file's object.

    Raises:
        ModelUnavailable: the file is missing or damaged.
    """
    try:
        content = json.loads(file.read_text(encoding="utf-8"))
    except (OSError, ValueError, RecursionError) as error:
        raise ModelUnavailable(f"{str(file)!r}: cannot be read: {error}") from error
    if not isinstance(content, dict):
        raise ModelUnavailable(f"{str(file)!r}: is damaged: not an object")
    return content


def quantization(directory: Path) -> Mapping[str, Any] | None:
    """Return what a directory's config.json says of quantised weights; None if it says that they are plain.

    Raises:
        ModelUnavailable: it is damaged.
    """
    config = read_json(directory / "config.json")
    text = config.get("text_config")
    for part in (config, text if isinstance(text, dict) else {}):
        for name, method in (("quantization_config", None), ("compression_config", "compressed-tensors")):
            options = part.get(name)
            if options is None:
                continue
            if not isinstance(options, dict):
                raise ModelUnavailable(f"{str(directory / 'config.json')!r}: is damaged: {name} is no object")
            return {"quant_method": method} | options if method else options
    return None
