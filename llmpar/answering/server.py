"""One of several processes that answer queries, and what it holds of them; `processes` alone changes it."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field

from llmpar.answering.backend import Reply
from llmpar.answering.link import Link
from llmpar.answering.local import Expected
from llmpar.answering.wire import Asked, Failed, Handed, Opened
from llmpar.engine.worker import WorkerStatus

MOST_LOSSES = 2
"""Processes that were lost over a query, before it is taken for the reason."""


@dataclass(eq=False, slots=True)
class Held:
    """A query that has no reply yet. `num_losses` tells of how many processes' ends it may be the reason."""

    asked: Asked
    expected: Expected
    num_losses: int = 0
    is_received: bool = False
    is_begun: bool = False

    @property
    def cost(self) -> int:
        """How much work it may be."""
        return len(self.asked.ids) + self.asked.limit

    def refusal(self, reason: str, *, deadly: bool = False) -> Reply:
        """Return the reply that there is no answer, and why."""
        return Reply(self.asked.number, "", "error", error=reason, deadly=deadly)


@dataclass(eq=False, slots=True)
class Server:
    """A process, and what it holds.

    `opened` is None until it is ready, `handed` are those of what it holds that are still to be sent, and `silence` is
    how long nothing has come.
    """

    child: Link
    opened: Opened | None = None
    first_worker: int = 0
    held: dict[int, Held] = field(default_factory=dict)
    handed: list[Asked] = field(default_factory=list)
    cost: int = 0
    statuses: tuple[WorkerStatus, ...] = ()
    silence: float = 0.0

    @property
    def num_slots(self) -> int:
        """How many queries it answers at a time; 0 until it is ready."""
        return self.opened.num_slots if self.opened else 0

    def show(self, statuses: tuple[WorkerStatus, ...]) -> None:
        """Take note of what its workers are doing, and where."""
        for status in statuses:
            status.place = self.child.place
        self.statuses = statuses

    def take(self, held: Held) -> None:
        """Let it hold a query, which `send` sends."""
        held.is_received = held.is_begun = False
        self.held[held.asked.number] = held
        self.handed.append(held.asked)
        self.cost += held.cost

    def send(self) -> None:
        """Send what it has been given to hold since the last time."""
        if self.handed:
            self.child.send(Handed.of(self.handed))
            self.handed.clear()

    def give_up(self) -> None:
        """End it before anything was asked."""
        self.opened, self.statuses = None, ()
        self.child.kill()

    def lose(self) -> tuple[list[Held], list[Held]]:
        """Take back all that it held, lost as it is: first what others may be asked, then what is taken for the reason.

        What it had begun may be the reason, or if there is none of that, anything that had reached it. What had not is
        none: that a process has ended is known a moment later, and until then it is given queries.
        """
        for status in self.statuses:
            status.phase, status.num_running = "ended", 0
        held = self.empty()
        for one in [one for one in held if one.is_begun] or [one for one in held if one.is_received]:
            one.num_losses += 1
        return (
            [one for one in held if one.num_losses < MOST_LOSSES],
            [one for one in held if one.num_losses >= MOST_LOSSES],
        )

    def empty(self) -> list[Held]:
        """Take back all that it holds."""
        held = list(self.held.values())
        self.held.clear()
        self.handed.clear()
        return held

    def pop(self, number: int) -> Held | None:
        """Take a query from it, by its number; None if it does not hold it."""
        held = self.held.pop(number, None)
        self.cost -= held.cost if held else 0
        return held


def differing(servers: Sequence[Server]) -> list[tuple[Server, str]]:
    """Return those of some servers, all ready, that compute otherwise than the first, and why that is.

    All answers of a run have one key, so that there can be but one arithmetic: torch's own is another one than that of
    our kernels, in the same precision, too.
    """
    (first, taken), *others = [(server, server.opened.arithmetic) for server in servers if server.opened]
    return [
        (server, f"it computes in {arithmetic}, and {first.child.name} in {taken}")
        for server, arithmetic in others
        if arithmetic != taken
    ]


def left_out(name: str, failed: Failed) -> str:
    """Return what people are told of a process that cannot open its part while others can."""
    return f"{failed.fact}, and is left out" if failed.fact else f"{name} is left out: {failed.message}"
