"""Versions of llmpar and of what it stands on, and what is not installed."""

from __future__ import annotations

from collections.abc import Iterator
from importlib.metadata import PackageNotFoundError, version

from llmpar.health.finding import Finding

_TOPIC = "software"
_NEEDED = ("torch", "transformers", "tokenizers", "numba", "llguidance", "huggingface-hub", "gguf")
_EXTRAS = {"openai": ("endpoint", "only servers need it"), "ray": ("ray", "only clusters need it")}


def look() -> Iterator[Finding]:
    """Yield a line for each package that matters."""
    yield Finding(_TOPIC, "llmpar", _version("llmpar") or "not installed: run from its source")
    for name in _NEEDED:
        found = _version(name)
        remedy = "" if found else f"pip install {name}"
        yield Finding(_TOPIC, name, found or "missing", is_fault=found is None, remedy=remedy)
    for name, (extra, need) in _EXTRAS.items():
        found = _version(name)
        remedy = "" if found else f"pip install 'llmpar[{extra}]'"
        yield Finding(_TOPIC, name, found or f"not installed; {need}", remedy=remedy)


def _version(name: str) -> str | None:
    try:
        return version(name)
    except PackageNotFoundError:
        return None
