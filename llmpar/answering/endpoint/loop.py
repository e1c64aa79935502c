"""An event loop on a thread of its own, which leaves nothing open when it ends."""

from __future__ import annotations

import asyncio

_STEPS = 3  # until a connection that was told to close has done so


def run_until_stopped(loop: asyncio.AbstractEventLoop) -> None:
    """Run a loop until it is stopped, end what is still going on in it, and close it."""
    try:
        loop.run_forever()
        loop.run_until_complete(_settle())
    finally:
        loop.close()


async def _settle() -> None:
    left = asyncio.all_tasks() - {asyncio.current_task()}
    for task in left:
        task.cancel()
    await asyncio.gather(*left, return_exceptions=True)
    for _ in range(_STEPS):
        await asyncio.sleep(0)
