"""An event loop on a thread of its own, which leaves nothing open when it ends."""

from __future__ import annotations

import asyncio
from typing import Any

_STEPS = 3  # until a connection that was told to close has done so


class Loop(asyncio.SelectorEventLoop):
    """A loop that remembers its connections, and so can close those that nobody else remembers.

    A request that is cancelled in the moment in which its connection stands loses it: the client does not know of the
    connection yet, and whoever made it has nobody to give it to.
    """

    def __init__(self) -> None:
        super().__init__()
        self._connections: set[asyncio.BaseTransport] = set()

    async def create_connection(self, *args: Any, **options: Any) -> tuple[Any, Any]:
        """Open a connection, see `asyncio.loop.create_connection`, and remember it until it is closed."""
        transport, protocol = await super().create_connection(*args, **options)
        self._connections = {one for one in self._connections if not one.is_closing()} | {transport}
        return transport, protocol

    def run_until_stopped(self) -> None:
        """Run until `stop` is called, end what is still going on, close what is open, and close the loop itself."""
        try:
            self.run_forever()
            self.run_until_complete(self._settle())
        finally:
            self.close()

    async def _settle(self) -> None:
        left = asyncio.all_tasks() - {asyncio.current_task()}
        for task in left:
            task.cancel()
        await asyncio.gather(*left, return_exceptions=True)
        for transport in self._connections:
            transport.close()
        for _ in range(_STEPS):
            await asyncio.sleep(0)
