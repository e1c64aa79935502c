"""Where llmpar keeps what outlives a run: what it can make again, and what it cannot."""

from __future__ import annotations

import os
import stat
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


def config_dir() -> Path:
    """Return the directory of what the user wrote for llmpar; it need not be there.

    Raises:
        WriteFailed: there is no home directory, and LLMPAR_CONFIG names no other.
    """
    from platformdirs import user_config_path

    return _directory("LLMPAR_CONFIG", user_config_path)


def make_private(directory: Path) -> None:
    """Make a directory, 0700, unless it is there, for what is run or mapped into memory when it is read back.

    Raises:
        WriteFailed: others may have put something there. What is root's is as good as ours.
        OSError: it cannot be made.
    """
    directory.mkdir(mode=0o700, parents=True, exist_ok=True)
    status = directory.stat()
    if status.st_uid not in (0, os.getuid()):
        raise WriteFailed(f"{str(directory)!r} belongs to another user; set LLMPAR_CACHE=DIR to have your own")
    if status.st_mode & (stat.S_IWGRP | stat.S_IWOTH):
        raise WriteFailed(f"others may write to {str(directory)!r}; run `chmod go-w` on it if you trust what it holds")


def _directory(variable: str, usual: Callable[[str], Path]) -> Path:
    try:
        given = os.environ.get(variable)
        # No shell expands a ~ in a crontab or a unit file. Without a home it would become a directory's name.
        return (Path(given) if given else usual("llmpar")).expanduser().absolute()
    except RuntimeError as error:
        raise WriteFailed(f"there is no home directory to keep files in; set {variable}=DIR") from error
