"""Where llmpar keeps what outlives a run: what it can make again, and what it cannot."""

from __future__ import annotations

import os
from pathlib import Path
from typing import TYPE_CHECKING

from llmpar.errors import WriteFailed

if TYPE_CHECKING:
    from collections.abc import Callable


def cache_dir() -> Path:
    """Return the directory of converted models and compiled code. It is created, 0700, when something is kept.

    Raises:
        WriteFailed: there is no home directory, and LLMPAR_CACHE names no other.
    """
    from platformdirs import user_cache_path

    return _directory("LLMPAR_CACHE", user_cache_path)


def state_dir() -> Path:
    """Return the directory of what cannot be made again, the result store. Whoever keeps something creates it, 0700.

    Raises:
        WriteFailed: there is no home directory, and LLMPAR_STATE names no other.
    """
    from platformdirs import user_state_path

    return _directory("LLMPAR_STATE", user_state_path)


def _directory(variable: str, usual: Callable[[str], Path]) -> Path:
    try:
        given = os.environ.get(variable)
        # No shell expands a ~ in a crontab or a unit file. Without a home it would become a directory's name.
        return (Path(given) if given else usual("llmpar")).expanduser().absolute()
    except RuntimeError as error:
        raise WriteFailed(f"there is no home directory to keep files in; set {variable}=DIR") from error
