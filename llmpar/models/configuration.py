"""What a model directory's JSON files say: read with care, as anybody may have written them."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

from llmpar.errors import ModelUnavailable


def stop_ids(path: Path) -> frozenset[int]:
    """Return the ids that end an answer, by the model's generation config or else its config.

    Raises:
        ModelUnavailable: one of them is damaged.
    """
    for name in ("generation_config.json", "config.json"):
        if (path / name).exists():
            value = read_json(path / name).get("eos_token_id")
            if value is not None:
                ids = value if isinstance(value, list) else [value]
                if not all(is_token_id(token_id) or token_id == -1 for token_id in ids):  # -1 is a way to say none
                    raise ModelUnavailable(f"{str(path / name)!r}: is damaged: eos_token_id is no token's number")
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
