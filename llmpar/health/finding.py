"""One thing that was looked at, as plain data."""

from __future__ import annotations

from dataclasses import dataclass


@dataclass(frozen=True, slots=True)
class Finding:
    """What was found of one thing.

    Args:
        topic: what it belongs to.
        name: what it is.
        value: what was found, for people.
        is_fault: whether something that was asked for does not work.
        remedy: what to do about it: a command, or a sentence; "" for nothing.
    """

    topic: str
    name: str
    value: str
    is_fault: bool = False
    remedy: str = ""


def size(num_bytes: float) -> str:
    """Return a number of bytes for people."""
    return f"{num_bytes / 1e9:,.1f} GB" if num_bytes >= 1e9 else f"{num_bytes / 1e6:,.1f} MB"
