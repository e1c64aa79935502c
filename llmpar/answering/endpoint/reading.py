"""How what a server says is read: as UTF-8, and no more of it than an answer can be. Import it with `httpx2`."""

from __future__ import annotations

from collections.abc import AsyncIterator

import httpx2

from llmpar.answering.endpoint.failures import Failure, Kind, RequestFailed

_MOST = 1 << 28  # bytes


class _Bounded(httpx2.AsyncByteStream):
    """A stream that breaks off where it is too long to be an answer: memory would not hold what has no end."""

    def __init__(self, stream: httpx2.AsyncByteStream) -> None:
        self._stream = stream

    async def __aiter__(self) -> AsyncIterator[bytes]:
        num_bytes = 0
        async for chunk in self._stream:
            num_bytes += len(chunk)
            if num_bytes > _MOST:
                raise RequestFailed(Failure(Kind.BROKEN, f"answered with more than {_MOST >> 20} MiB"))
            yield chunk

    async def aclose(self) -> None:
        await self._stream.aclose()


async def prepare(response: httpx2.Response) -> None:
    """Have a response read as it should be, of which nothing is read yet.

    What it says that it is encoded in may be nothing that there is.
    """
    response.encoding = "utf-8"
    assert isinstance(response.stream, httpx2.AsyncByteStream)
    response.stream = _Bounded(response.stream)
