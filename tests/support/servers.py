"""A server of OpenAI's protocol that tests tell how to behave, on a thread of this process."""

from __future__ import annotations

import asyncio
import itertools
import json
import random
import socket
import struct
import threading
import time
from collections import Counter
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from typing import Any

MODEL = "tiny"
_STEPS = 8  # of the loop, from a connection that is accepted to the one that serves it, and back
Body = dict[str, Any]


@dataclass
class Response:
    """What the server says, or fails to say: `spoil` is "", "reset", "half" or "silence"."""

    status: int = 200
    body: object = ""
    headers: dict[str, str] = field(default_factory=dict)
    spoil: str = ""


def said(text: str, finish_reason: str = "stop", prompt_tokens: int = 7, tokens: int = 3, **more: object) -> Response:
    """Return a good answer to a conversation."""
    message = {"role": "assistant", "content": text}
    choice = {"index": 0, "message": message, "text": text, "finish_reason": finish_reason}
    usage = {"prompt_tokens": prompt_tokens, "completion_tokens": tokens}
    return Response(body={"choices": [choice], "usage": usage, **more})


def failed(status: int, message: str = "", headers: dict[str, str] | None = None, **error: object) -> Response:
    """Return an error."""
    return Response(status, {"error": {"message": message, **error}}, headers or {})


def text_of(body: Body) -> str:
    """Return the last line of the last message of a request, or of its prompt."""
    text = body["messages"][-1]["content"] if "messages" in body else body["prompt"]
    return str(text).split("\n")[-1]


def echo(body: Body) -> Response:
    """Answer with what was asked last, in capitals."""
    return said(text_of(body).upper())


class Server:
    """A server that is there from now on until it is closed.

    Args:
        answer: what is said to a request.
        seconds: that it takes to say it.
        capacity: how many requests are worked at at a time; others wait.
        models: what it has.
        port: where it listens; 0 for anywhere.
    """

    def __init__(
        self,
        answer: Callable[[Body], Response] = echo,
        *,
        seconds: float = 0.0,
        capacity: int = 10_000,
        models: list[Body] | None = None,
        port: int = 0,
    ) -> None:
        self.answer, self.seconds = answer, seconds
        self.models = [{"id": MODEL, "owned_by": "tests"}] if models is None else models
        self.asked: list[Body] = []
        """What was asked, without greetings."""
        self.headers: list[dict[str, str]] = []
        self.times: list[float] = []
        self.num_greetings = 0
        self.greeting = said("Hi")
        self.running = self.most_running = 0
        self.pages: dict[str, Response] = {}
        self._loop = asyncio.new_event_loop()
        self._free = asyncio.Semaphore(capacity)
        self._thread = threading.Thread(target=self._loop.run_forever, daemon=True)
        self._thread.start()
        self._server: asyncio.Server = self._do(asyncio.start_server(self._serve, "127.0.0.1", port, backlog=1024))
        self.port: int = self._server.sockets[0].getsockname()[1]
        self.url = f"http://127.0.0.1:{self.port}/v1"

    def close(self) -> None:
        async def end() -> None:
            self._loop.remove_reader(self._server.sockets[0].fileno())
            await _steps()  # a connection that was just accepted has nobody yet who closes it
            self._server.close()
            tasks = asyncio.all_tasks() - {asyncio.current_task()}
            for task in tasks:
                task.cancel()
            await asyncio.gather(*tasks, return_exceptions=True)
            await _steps()

        self._do(end())
        self._loop.call_soon_threadsafe(self._loop.stop)
        self._thread.join()
        self._loop.close()

    def _do(self, work: Any) -> Any:
        return asyncio.run_coroutine_threadsafe(work, self._loop).result(10)

    async def _serve(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        try:
            while line := await reader.readline():
                _, path, _ = line.decode().split(" ", 2)
                headers = {}
                while (line := await reader.readline()).strip():
                    name, _, value = line.decode().partition(":")
                    headers[name.lower()] = value.strip()
                data = await reader.readexactly(int(headers.get("content-length", 0)))
                self.headers.append(headers)
                response = await self._respond(path, json.loads(data) if data else {})
                if not await self._write(writer, response):
                    return
        except (ConnectionError, asyncio.IncompleteReadError, asyncio.CancelledError):
            pass
        finally:
            writer.close()

    async def _respond(self, path: str, body: Body) -> Response:
        if path in self.pages:
            return self.pages[path]
        if path.endswith("/models"):
            return Response(body={"object": "list", "data": self.models})
        if not path.endswith("/completions"):
            return Response(404, {"error": {"message": "no such page"}})
        if body.get("max_tokens", body.get("max_completion_tokens")) == 1:
            self.num_greetings += 1
            return self.greeting if body.get("model") in (MODEL, "alias") else self.answer(body)
        self.asked.append(body)
        self.times.append(time.monotonic())
        self.running += 1
        self.most_running = max(self.most_running, self.running)
        try:
            async with self._free:
                response = self.answer(body)
                await asyncio.sleep(3600 if response.spoil == "silence" else self.seconds)
        finally:
            self.running -= 1
        return response

    async def _write(self, writer: asyncio.StreamWriter, response: Response) -> bool:
        """Send a response, and return whether the connection is still good."""
        if response.spoil == "reset":
            # With a linger of no time, closing sends a reset.
            told: socket.socket = writer.get_extra_info("socket")
            told.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))
            return False
        text = response.body if isinstance(response.body, str) else json.dumps(response.body)
        data = text.encode()
        head = {"content-type": "application/json", "content-length": str(len(data)), **response.headers}
        lines = [f"HTTP/1.1 {response.status} X", *(f"{name}: {value}" for name, value in head.items()), "", ""]
        sent = data[: len(data) // 2] if response.spoil == "half" else data
        writer.write("\r\n".join(lines).encode() + sent)
        await writer.drain()
        return response.spoil != "half"


async def _steps() -> None:
    """Let the loop do what it is about to do."""
    for _ in range(_STEPS):
        await asyncio.sleep(0)


@contextmanager
def serving(answer: Callable[[Body], Response] = echo, **more: Any) -> Iterator[Server]:
    """A server for the time of a block."""
    server = Server(answer, **more)
    try:
        yield server
    finally:
        server.close()


class Misbehaving:
    """Answers as `answer` does, but for a share of the requests, at which it fails in one of all the ways in turn.

    Args:
        share: 0 to 1.
        answer: how it answers else.
        seed: of chance.
    """

    WAYS: tuple[tuple[str, Response], ...] = (
        ("429", failed(429, "slow down", {"Retry-After": "0.02"})),
        ("429 without a time", failed(429, "slow down")),
        ("503", failed(503, "busy", {"retry-after-ms": "20"})),
        ("500", failed(500, "oops")),
        ("reset", Response(spoil="reset")),
        ("half", Response(body={"choices": [{"message": {"content": "half of it"}}]}, spoil="half")),
        ("silence", Response(spoil="silence")),
        ("no JSON", Response(body="<html>nginx</html>")),
        ("broken JSON", Response(body='{"choices": [{"message": {"content": "a')),
        ("no choices", Response(body={"choices": []})),
        ("no message", Response(body={"choices": [{"finish_reason": "stop"}]})),
        ("an error in a good answer", Response(body={"error": {"message": "upstream", "code": 502}})),
    )

    def __init__(self, share: float, answer: Callable[[Body], Response] = echo, seed: int = 0) -> None:
        self.counts: Counter[str] = Counter()
        self._share, self._answer = share, answer
        self._chance = random.Random(seed)
        self._ways = itertools.cycle(self.WAYS)

    def __call__(self, body: Body) -> Response:
        if self._chance.random() >= self._share:
            self.counts["good"] += 1
            return self._answer(body)
        name, response = next(self._ways)
        self.counts[name] += 1
        return response
