"""What a shell's user is told of servers: where texts go, the first time, and which options mean nothing with them."""

from __future__ import annotations

import os
import sys
from collections.abc import Callable, Sequence
from pathlib import Path

from llmpar.answering.endpoint.address import Address
from llmpar.cli.model_options import ModelOptions
from llmpar.errors import UsageError, WriteFailed
from llmpar.paths import state_dir

_KNOWN = "endpoints.txt"
_OF_MODELS = (
    "model",
    "device",
    "precision",
    "kv_cache",
    "batch_size",
    "tensor_parallel",
    "ray",
    "ray_workers",
    "ray_resources",
)
_OF_SERVERS = ("endpoint_model", "api_key_file", "context_length", "max_tokens_total")


def refuse_idle_options(given: ModelOptions) -> None:
    """Refuse options that mean nothing for what answers. What the environment sets is for all commands, and may.

    Raises:
        UsageError: there is such an option.
    """
    usual = ModelOptions()
    names = _OF_MODELS if given.endpoint else _OF_SERVERS
    for name in names:
        if getattr(given, name) != getattr(usual, name) and not os.environ.get(f"LLMPAR_{name.upper()}"):
            reason = "is for models on this machine, and --endpoint names a server" if given.endpoint else (
                "is for servers; name one with --endpoint"
            )  # fmt: skip
            raise UsageError(f"--{name.replace('_', '-')} {reason}")


def tell_once_where_texts_go(addresses: Sequence[Address], note: Callable[[str], None]) -> None:
    """Tell a person, the first time that servers are asked, which ones get the texts.

    Args:
        addresses: the servers'.
        note: prints a line on the terminal.
    """
    if sys.stderr is None or not sys.stderr.isatty():
        return
    known = _known()
    new = [address for address in addresses if address.url not in known]
    for address in new:
        place = "on this machine" if address.is_here else f"at {address.host}"
        note(f"llmpar: the texts, and what is asked of them, go to {address.url}, {place}; this is said only once")
    if new:
        _remember([*known, *(address.url for address in new)])


def _file() -> Path:
    return state_dir() / _KNOWN


def _known() -> list[str]:
    try:
        return _file().read_text("utf-8").splitlines()
    except (OSError, ValueError, WriteFailed):  # then it is said once more
        return []


def _remember(urls: list[str]) -> None:
    try:
        _file().parent.mkdir(mode=0o700, parents=True, exist_ok=True)
        _file().write_text("".join(f"{url}\n" for url in urls), "utf-8")
    except (OSError, WriteFailed):  # where nothing can be kept, it is said each time
        return
