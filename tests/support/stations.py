"""A cluster without Ray: its stations stand in this process, and a test may lose them, or hold up what is sent."""

from __future__ import annotations

import threading
from collections.abc import Callable, Sequence
from dataclasses import replace
from functools import partial

from llmpar.answering.backend import Watcher
from llmpar.answering.cluster.connection import Placed
from llmpar.answering.cluster.opening import open_there
from llmpar.answering.cluster.remote import RemoteChild
from llmpar.answering.cluster.shares import Node, Share
from llmpar.answering.cluster.station import Heard, Station
from llmpar.answering.link import Events, Link
from llmpar.answering.local import Codec
from llmpar.answering.processes import Processes
from llmpar.answering.wire import Consulting, Message, Opening, OpenPart
from llmpar.integrity.foundation import Foundation
from support.parts import Told


class FakePost:
    """The way to a station in this process.

    `frames` are what was sent. While `gate` is closed, what is sent is on its way. `finds` is what the worker finds out
    if it is asked, for a GPU that is not there: the worker computes on the CPU then. None for what it finds by itself.
    """

    def __init__(self, station: Station, finds: Callable[[Watcher], str] | None = None) -> None:
        self.station = station
        self._finds = finds
        self.frames: list[tuple[Message, ...]] = []
        self.num_on_way = 0
        self.gate = threading.Event()
        self.gate.set()
        self._lost = ""

    def send(self, messages: Sequence[Message]) -> None:
        self.num_on_way += 1
        self.gate.wait(30)
        if self._lost:
            raise ConnectionError(self._lost)
        self.frames.append(tuple(messages))
        self.station.send([self._on_cpu(message) for message in messages] if self._finds else messages)
        self.num_on_way -= 1

    def _on_cpu(self, message: Message) -> Message:
        if isinstance(message, Consulting):
            return Consulting(self._finds or message.find)
        if isinstance(message, Opening):
            assert isinstance(message.open, partial)
            choice, *others = message.open.args
            return Opening(partial(open_there, replace(choice, device="cpu"), *others), message.in_shell)
        return message

    def listen(self) -> Heard:
        heard = self.station.listen()
        if self._lost:
            raise ConnectionError(self._lost)
        return heard

    def kill(self) -> None:
        self.lose("was killed")

    def lose(self, how: str) -> None:
        """Let the station be lost, and all that it has not told."""
        self._lost = self._lost or how
        self.gate.set()
        self.station._child.end()


class FakeCluster:
    """What stands for `cluster.connection.Cluster`: machines with so many CPUs, and `posts` to what was placed.

    With `finds` each also has a GPU, whose worker finds that out; see `FakePost`.
    """

    def __init__(
        self, *cpus: int, code: str | None = None, finds: Sequence[Callable[[Watcher], str]] | None = None
    ) -> None:
        gpus = {"GPU": 1.0} if finds else {}
        self.nodes = [Node(f"id {index}", f"host{index}", {"CPU": count, **gpus}) for index, count in enumerate(cpus)]
        self._finds = finds or [None] * sum(cpus)
        self.posts: list[FakePost] = []
        self._code = code

    def place(self, names: Sequence[str], shares: Sequence[Share], watcher: Watcher) -> list[Placed]:
        found = []
        for index, (name, share) in enumerate(zip(names, shares, strict=True)):
            post = FakePost(Station(name), self._finds[index])
            place = replace(post.station.place(), host=f"host{index}")
            found.append(Placed(share, replace(place, code=self._code or place.code), post))
            self.posts.append(post)
        return found


def opened(parts: Sequence[OpenPart], watcher: Told | None = None) -> tuple[Processes, list[FakePost]]:
    """Return a backend over a station for each part, when they are ready, and the ways to the stations."""
    posts: list[FakePost] = []

    def start(name: str, events: Events, prepare: object) -> Link:
        post = FakePost(Station(name))
        posts.append(post)
        return RemoteChild(name, f"host{len(posts) - 1}", post.station.place().process_id, post, events)

    names = [f"Ray worker {index}" for index in range(len(parts))]
    backend = Processes(names, watcher or Told(), Foundation(), start=start)
    try:
        backend.open(parts)
        backend.wait(lambda _: Codec(lambda prompt: prompt.text.encode(), lambda ids: bytes(ids).decode(), len))
    except BaseException:
        backend.close(0)
        raise
    return backend, posts
