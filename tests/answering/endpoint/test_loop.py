"""The loop that requests run on."""

from __future__ import annotations

import asyncio
import socket
import threading

from llmpar.answering.endpoint.loop import Loop


def test_a_connection_that_nobody_remembers_is_closed_with_the_loop() -> None:
    """A request that is cancelled in the moment in which its connection stands knows nothing of it."""
    with socket.create_server(("127.0.0.1", 0)) as listening:
        loop = Loop()
        thread = threading.Thread(target=loop.run_until_stopped)
        thread.start()

        async def connect() -> None:
            await loop.create_connection(asyncio.Protocol, *listening.getsockname())

        asyncio.run_coroutine_threadsafe(connect(), loop).result(10)
        with listening.accept()[0] as other:
            other.settimeout(10)
            loop.call_soon_threadsafe(loop.stop)
            assert other.recv(1) == b"", "the other side is told"
        thread.join(10)
        assert loop.is_closed()


def test_what_still_goes_on_is_ended() -> None:
    loop = Loop()
    thread = threading.Thread(target=loop.run_until_stopped)
    thread.start()
    endless = asyncio.run_coroutine_threadsafe(asyncio.sleep(3600), loop)
    loop.call_soon_threadsafe(loop.stop)
    thread.join(10)
    assert endless.cancelled()
