"""Keys for servers: out of an environment variable or a file, and never into a message, a log or a store."""

from __future__ import annotations

import os
from dataclasses import dataclass, field
from pathlib import Path

from llmpar.errors import InputError, UsageError
from llmpar.smallfile import read_whole
from llmpar.visible import one_line

_HIDDEN = "[the key]"


@dataclass(frozen=True, slots=True)
class Key:
    """What a server knows its user by; it does not show when this is printed.

    Args:
        secret: the key.
        source: where it was found, for people: a variable's or a file's name.
    """

    secret: str = field(repr=False)
    source: str

    def hidden_in(self, text: str) -> str:
        """Return a text without the key, which a server may have repeated in what it says."""
        return text.replace(self.secret, _HIDDEN)


def read_key(file: Path) -> Key:
    """Return the key that a file holds; it may be a pipe, which can be read one time.

    Raises:
        InputError: it holds none.
        InputUnreadable: it cannot be read.
    """
    # Not UTF-8's own complaint: it would quote what stands in there.
    return _checked(read_whole(file).decode("latin-1").strip(), one_line(file), InputError)


def find_key(variable: str) -> Key | None:
    """Return the key that an environment variable holds, None if it holds nothing.

    Raises:
        UsageError: what it holds is no key.
    """
    given = os.environ.get(variable, "").strip()
    return _checked(given, variable, UsageError) if given else None


def _checked(secret: str, source: str, error: type[InputError | UsageError]) -> Key:
    if not secret or not secret.isascii() or not secret.isprintable() or " " in secret:
        raise error(f"{source}: holds no key: one word in letters, digits and signs of ASCII")
    return Key(secret, source)
