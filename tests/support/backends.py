"""Backends over runners without a model: a token is a byte."""

from __future__ import annotations

from collections.abc import Callable, Sequence

from llmpar.answering.local import Codec, LocalBackend
from llmpar.engine.engine import Engine
from llmpar.engine.worker import Runner
from llmpar.tasks.question import Prompt


def byte_backend(
    runners: Sequence[Runner],
    context: int = 10_000,
    encode: Callable[[Prompt], bytes] = lambda prompt: prompt.text.encode(),
) -> LocalBackend:
    """Return a backend that reads a prompt's text as bytes."""
    return LocalBackend(Engine(runners, context), Codec(encode, lambda ids: bytes(ids).decode()))
