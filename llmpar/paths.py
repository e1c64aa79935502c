"""Where llmpar keeps what outlives a run: what it can make again, and what it cannot."""

from __future__ import annotations

import os
from pathlib import Path

from llmpar.errors import WriteFailed


def cache_dir() -> Path:
    """Return the directory of converted models and compiled code. It is created, 0700, when something is kept.

    Raises:
        WriteFailed: there is no home directory, and LLMPAR_CACHE names no other.
    """
    from platformdirs import user_cache_path

    return _directory("LLMPAR_CACHE", user_cache_path("llmpar"))


def state_dir() -> Path:
    """Return the directory of what is to be kept between runs, the result store. Who keeps something creates it, 0700.

    Raises:
        WriteFailed: there is no home directory, and LLMPAR_STATE names no other.
    """
    from platformdirs import user_state_path

    return _directory("LLMPAR_STATE", user_state_path("llmpar"))


def _directory(variable: str, usual: Path) -> Path:
    # No shell expands a ~ in a crontab or a unit file; where there is no home it stays, and must not become a name.
    path = os.path.expanduser(os.environ.get(variable) or usual)  # noqa: PTH111 (Path's own raises)
    if path.startswith("~"):
        raise WriteFailed(f"there is no home directory to keep files in; set {variable}=DIR")
    return Path(path).absolute()
