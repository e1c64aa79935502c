"""The way to a process on another machine, by way of a station there; see `answering/link.py`. Knows no Ray."""

from __future__ import annotations

import queue
import threading
from collections.abc import Sequence
from typing import Protocol

from llmpar.answering.cluster.station import Heard
from llmpar.answering.link import Events, write_frames
from llmpar.answering.wire import Message, Opening, OpenPart
from llmpar.errors import is_told_in_shell

_ENDING = 2.0  # seconds that one which was killed has to be gone


class Post(Protocol):
    """What carries messages to a station and back. Two threads use it, one for each direction."""

    def send(self, messages: Sequence[Message]) -> None:
        """Let the station have messages, and wait until it has taken them.

        Raises:
            ConnectionError: it is gone.
        """

    def listen(self) -> Heard:
        """Return what the station has heard, having waited a while for it.

        Raises:
            ConnectionError: it is gone; the message says how, as "was lost with its node".
        """

    def kill(self) -> None:
        """Let the station end now, and its process with it. To one that is gone, nothing happens."""


class RemoteChild:
    """One process on another machine, as a `Link`.

    A message is sent when those before it were taken: they keep their order, what comes meanwhile goes together, and
    no more than one frame is on its way.

    Args:
        name: what people know it by.
        place: the machine it runs on, for people.
        process_id: its id there.
        post: the way to its station.
        events: the queue that what it says goes to.
    """

    def __init__(self, name: str, place: str, process_id: int, post: Post, events: Events) -> None:
        self.name = name
        self.place = place
        self.process_id = process_id
        self._post = post
        self._end = "was lost"
        self._outbox: queue.SimpleQueue[Message | None] = queue.SimpleQueue()
        self._writer = threading.Thread(
            target=write_frames, args=(post.send, self._outbox), name="llmpar-queries", daemon=True
        )
        self._listener = threading.Thread(target=self._listen, args=(events,), name="llmpar-answers", daemon=True)
        self._writer.start()
        self._listener.start()

    def open(self, open_part: OpenPart) -> None:
        """Let it open what it is to serve; queries may follow at once."""
        self.send(Opening(open_part, is_told_in_shell()))

    def send(self, message: Message) -> None:
        """Let it have a message; to one that is gone, nothing happens."""
        self._outbox.put(message)

    def kill(self) -> None:
        """Let it end now."""
        self._outbox.put(None)
        self._post.kill()

    def end(self) -> str:
        """Kill it if it still runs, wait for that, and return how it ended."""
        self.kill()
        self._listener.join(_ENDING)
        self._writer.join(_ENDING)
        return self._end

    def _listen(self, events: Events) -> None:
        try:
            while True:
                heard = self._post.listen()
                for report in heard.reports:
                    events.put((self, report))
                if heard.end is not None:
                    self._end = heard.end
                    return
        except ConnectionError as lost:
            self._end = str(lost)
        finally:
            events.put((self, None))
