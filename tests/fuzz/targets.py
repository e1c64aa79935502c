"""The targets by name. LOADING is for a process of its own."""

from __future__ import annotations

from random import Random
from typing import Any

from fuzz.commands import command_line
from fuzz.documents import merging, round_trip
from fuzz.execution import Target
from fuzz.formats import structured


def tokens(random: Random, record: dict[str, Any]) -> None:
    from fuzz.tokens import tokens as target

    target(random, record)


def loading(random: Random, record: dict[str, Any]) -> None:
    from fuzz.loading import loading as target

    target(random, record)


def checkpoints(random: Random, record: dict[str, Any]) -> None:
    from fuzz.checkpoints import checkpoints as target

    target(random, record)


LOADING = "loading"
TARGETS: dict[str, Target] = {
    "round_trip": round_trip,
    "merging": merging,
    "structured": structured,
    "command_line": command_line,
    "tokens": tokens,
    "checkpoints": checkpoints,
    LOADING: loading,
}
