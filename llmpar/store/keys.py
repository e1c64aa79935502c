"""The key of an answer: a hash of all that decides it, which are its job and the text that was asked about."""

from __future__ import annotations

import hashlib


def key_in(digest: bytes, text: str) -> bytes:
    """Return the key that a text has in the job with this digest."""
    return key_of(digest, bytes_of(text))


def key_of(digest: bytes, text: bytes) -> bytes:
    """Return the key of a text that `bytes_of` made bytes of."""
    return hashlib.sha256(digest + text).digest()


def bytes_of(text: str) -> bytes:
    """Return a text as it is kept, whatever it holds."""
    return text.encode("utf-8", "surrogatepass")


def text_of(data: bytes) -> str:
    """Return the text that `bytes_of` made bytes of."""
    return data.decode("utf-8", "surrogatepass")
