"""Another user of the machine, and a directory that this user may enter."""

from __future__ import annotations

import os
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from tempfile import TemporaryDirectory

_NOBODY = 65534


@contextmanager
def nobody() -> Iterator[None]:
    """Be a user who may not write wherever it pleases: nobody, where the tests run as root."""
    if os.geteuid():
        yield
        return
    os.seteuid(_NOBODY)
    try:
        yield
    finally:
        os.seteuid(0)


@contextmanager
def public_directory() -> Iterator[Path]:
    """Make a directory that each user may enter; all that leads to pytest's own is closed to others."""
    with TemporaryDirectory(prefix="llmpar-test-") as name:
        Path(name).chmod(0o755)
        yield Path(name).resolve()
