"""The way to a process that serves a part of our queries, on whatever machine: what `processes` needs of one."""

from __future__ import annotations

import contextlib
import queue
from collections.abc import Callable
from typing import Protocol, TypeAlias

from llmpar.answering.wire import Message, OpenPart, Report


class Link(Protocol):
    """What the process says goes, with this link, to a queue of events; None when the process is gone."""

    @property
    def name(self) -> str:
        """What people know the process by."""

    @property
    def place(self) -> str:
        """The machine it runs on, for people; "" for this one."""

    @property
    def process_id(self) -> int:
        """The process's id, on its machine."""

    def open(self, open_part: OpenPart) -> None:
        """Let the process open what it is to serve; queries may follow at once."""

    def send(self, message: Message) -> None:
        """Let the process have a message; to one that is gone, nothing happens. Nothing is waited for."""

    def kill(self) -> None:
        """Let the process end now. What it had sent may still come to the queue, and then that it is gone."""

    def end(self) -> str:
        """Kill the process if it still runs, wait for that, and return how it ended."""


Events: TypeAlias = "queue.SimpleQueue[tuple[Link, Report | None]]"


class StartLink(Protocol):
    """What starts a process, and what it does before it knows what to open."""

    def __call__(self, name: str, events: Events, prepare: Callable[[], None] | None) -> Link:
        """Return the way to it.

        Raises:
            ModelUnavailable: it cannot be started.
        """


def write_frames(send: Callable[[tuple[Message, ...]], None], outbox: queue.SimpleQueue[Message | None]) -> None:
    """Send what comes to an outbox, until None does: what has gathered there meanwhile goes together.

    Args:
        send: sends one frame. It may raise OSError or ValueError if the process is gone, which whoever listens tells.
        outbox: the messages.
    """
    with contextlib.suppress(OSError, ValueError):
        while (message := outbox.get()) is not None:
            frame, is_last = [message], False
            with contextlib.suppress(queue.Empty):
                while not is_last:
                    if (another := outbox.get_nowait()) is None:
                        is_last = True
                    else:
                        frame.append(another)
            send(tuple(frame))
            if is_last:
                return
