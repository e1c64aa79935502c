"""Where llmpar keeps what it made once and would have to make again."""

from __future__ import annotations

import os
from pathlib import Path


def cache_dir() -> Path:
    """Return the directory of converted models and compiled code. It is created, 0700, when something is kept."""
    from platformdirs import user_cache_path

    given = os.environ.get("LLMPAR_CACHE")
    return Path(given).absolute() if given else user_cache_path("llmpar")
