"""What a peer and the program that measures it say to each other: one JSON object a line over stdin and stdout.

It reads {"load": {…}} and answers {"version": …, "settings": …}; then each {"prompts": [[ids], …]} is answered with
{"outputs": [[ids], …], "seconds": …} until stdin ends. Standard library only: any engine's interpreter imports it.
"""

from __future__ import annotations

import contextlib
import json
import os
import sys
import time
from collections.abc import Callable
from dataclasses import dataclass, fields
from typing import Any

Answer = Callable[[list[list[int]]], list[list[int]]]


@dataclass(frozen=True)
class Setup:
    """The job, and the peer's own options.

    `prefix_ids` is what all prompts begin with; `stop_ids` end an answer, and do not belong to it.
    """

    model: str
    prefix_ids: list[int]
    stop_ids: list[int]
    max_new_tokens: int
    num_cores: int
    options: dict[str, Any]


@dataclass(frozen=True)
class Peer:
    """A loaded engine: `answer` takes prompts, and returns what each was answered, in their order."""

    answer: Answer
    version: str
    settings: str = ""


def serve(open_peer: Callable[[Setup], contextlib.AbstractContextManager[Peer]]) -> None:
    """Load when told to, and answer until stdin ends."""
    # Libraries print to stdout as they like; the protocol keeps the real one for itself.
    replies = os.fdopen(os.dup(1), "w", encoding="utf-8")
    os.dup2(2, 1)

    def reply(message: dict[str, Any]) -> None:
        replies.write(json.dumps(message) + "\n")
        replies.flush()

    load = json.loads(sys.stdin.readline())["load"]
    setup = Setup(**{field.name: load[field.name] for field in fields(Setup)})
    with open_peer(setup) as peer:
        reply({"version": peer.version, "settings": peer.settings})
        for line in sys.stdin:
            started = time.perf_counter()
            outputs = peer.answer(json.loads(line)["prompts"])
            seconds = time.perf_counter() - started
            reply({"outputs": [until_stop(ids, setup.stop_ids) for ids in outputs], "seconds": seconds})


def until_stop(ids: list[int], stop_ids: list[int]) -> list[int]:
    """Return what comes before the first of `stop_ids`."""
    return ids[: next((index for index, token_id in enumerate(ids) if token_id in stop_ids), len(ids))]
