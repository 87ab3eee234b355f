"""How a recording becomes an object whole, or not at all.

A small one is one request that refuses a name which is taken. A larger one is sent in parts that nobody sees until
the last request makes an object of them: a killed process leaves parts, never an object. Whoever is cancelled, or
cannot go on, waits for the end of the request that is under way, and takes away what it may have stored.
"""

import asyncio
from collections.abc import AsyncIterable, AsyncIterator, Coroutine
from contextlib import suppress
from typing import Any

import structlog

from retention.bucket import PART, Bucket
from retention.errors import Unavailable
from retention.log import failure

_HANDED_OVER = 1 << 20

_log = structlog.get_logger()


class _GivenUp(Exception):
    """Ends the parts of an upload, so that none becomes an object."""


async def upload(bucket: Bucket, path: str, content: AsyncIterable[bytes]) -> int:
    """Store an object; return its size in bytes. Absent when it raises: what `content` raises, or FileExistsError.

    That the name of a large one is free is asked just before its parts become one. Where the bucket is out of reach
    when an upload is given up, something may stay, and the sweep finds it.
    """
    start, pieces = bytearray(), aiter(content)
    async for piece in pieces:
        start += piece
        if len(start) > PART:
            return await _in_parts(bucket, path, start, pieces)
    await _unless_broken_off(asyncio.ensure_future(bucket.create(path, bytes(start))), bucket, path)
    return len(start)


async def _in_parts(bucket: Bucket, path: str, start: bytearray, rest: AsyncIterator[bytes]) -> int:
    parts: asyncio.Queue[bytes] = asyncio.Queue(1)
    given_up = False

    async def handed_over() -> AsyncIterator[bytes]:
        while part := await parts.get():
            yield part
        if given_up:
            raise _GivenUp
        if await bucket.holds(path):
            raise FileExistsError("the name is taken")

    sending = asyncio.ensure_future(bucket.put(path, handed_over()))
    size, waiting = 0, start
    try:
        async for piece in rest:
            if len(waiting) >= _HANDED_OVER:
                size += await _hand_over(parts, waiting, sending)
                waiting = bytearray()
            waiting += piece
        size += await _hand_over(parts, waiting, sending)
        await _hand_over(parts, b"", sending)
    except BaseException:
        given_up = True
        while not parts.empty():
            parts.get_nowait()
        parts.put_nowait(b"")
        await _to_its_end(_withdraw(sending, bucket, path))
        raise
    await _unless_broken_off(sending, bucket, path)
    return size


async def _hand_over(parts: asyncio.Queue[bytes], part: bytes | bytearray, sending: asyncio.Future[None]) -> int:
    """Give the next part as soon as the last is taken; return its size. Raises what ended the sending."""
    waiting = asyncio.ensure_future(parts.put(bytes(part)))
    try:
        await asyncio.wait([waiting, sending], return_when=asyncio.FIRST_COMPLETED)
    finally:
        waiting.cancel()
    if sending.done():
        sending.result()
    return len(part)


async def _unless_broken_off(sending: asyncio.Future[None], bucket: Bucket, path: str) -> None:
    try:
        await asyncio.shield(sending)
    except BaseException:
        await _to_its_end(_withdraw(sending, bucket, path))
        raise


async def _withdraw(sending: asyncio.Future[None], bucket: Bucket, path: str) -> None:
    """Wait for the end of what is sent, and take away what it has become all the same."""
    try:
        await sending
    except (_GivenUp, FileExistsError):
        return
    except Exception as error:  # noqa: BLE001 - whatever went wrong: the last request may have been heeded
        _log.warning("upload broken off", **failure(error))
    with suppress(Unavailable):
        await bucket.remove([path])


async def _to_its_end(work: Coroutine[Any, Any, None]) -> None:
    """Wait for the end of this, however often the caller is cancelled."""
    task = asyncio.ensure_future(work)
    while not task.done():
        with suppress(asyncio.CancelledError):
            await asyncio.wait([task])
    task.result()
