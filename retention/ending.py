"""How a task is ended from outside."""

import asyncio
from typing import Any


async def end(task: asyncio.Task[Any], *, again_after: float = 0.1) -> None:
    """Cancel a task until it has ended: on Python 3.11 a cancellation may get lost where a time limit is awaited.

    `again_after` is in seconds: what the task does in order to end should not take so long.
    """
    while not task.done():
        task.cancel()
        await asyncio.wait({task}, timeout=again_after)
