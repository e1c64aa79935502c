"""Models that were split into several GGUF files: which these are, by their names."""

from __future__ import annotations

import re
from pathlib import Path

from llmpar.errors import ModelUnavailable

_PART = re.compile(r"(.*)-(\d{5})-of-(\d{5})\.gguf")
_MOST_PARTS = 4096


def parts_of(path: Path) -> tuple[Path, ...]:
    """Return all files of the model that a file belongs to, by its name: itself alone, or all parts in their order.

    Raises:
        ModelUnavailable: one is missing.
    """
    match = _PART.fullmatch(path.name)
    if not match:
        return (path,)
    stem, count = match[1], int(match[3])
    if not 1 <= count <= _MOST_PARTS:
        raise ModelUnavailable(f"{path.name!r} says that it is one part of {count}")
    paths = tuple(path.with_name(f"{stem}-{number:05}-of-{count:05}.gguf") for number in range(1, count + 1))
    missing = [part.name for part in paths if not part.is_file()]
    if missing:
        more = f" and {len(missing) - 1} more" if len(missing) > 1 else ""
        raise ModelUnavailable(f"{path.name!r} is one part of {count}, and {missing[0]!r}{more} is not beside it")
    return paths
