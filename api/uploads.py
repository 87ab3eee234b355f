"""The body of a submission: refused by its headers when it can be, then streamed, inflated, counted and looked at.

Memory is flat: at most one piece of the body is held here, and aiohttp's own read buffer is left at
its size. Sizes are those of the inflated audio (spec 5.3).
"""

import asyncio
import zlib
from collections.abc import AsyncIterator
from datetime import timedelta
from http import HTTPStatus

from aiohttp import web

from api import bodies
from api.problems import Problem, Refusal, printable
from retention.settings import Settings

LEAST = 100
"""The smallest audio that is accepted, in bytes (spec 5.3)."""

_PIECE = 1 << 18
_GZIP = zlib.MAX_WBITS | 16
_BAD_GZIP = Refusal(400, "The body is not what 'Content-Encoding: gzip' says: damaged, cut off, or followed by more.")


def announced(request: web.Request, *, most: int) -> int:
    """Return how many bytes of audio the headers announce, 0 if none.

    Raises Problem when they alone show it to be unacceptable: also if it is more than `most`.
    """
    size = (request.content_length or 0) if _coding(request) == "identity" else 0
    if size > most:
        raise _too_large(most)
    return size


async def open_audio(request: web.Request, settings: Settings, *, most: int) -> tuple[bytes, AsyncIterator[bytes]]:
    """Invite the body, and return its beginning (at least 100 bytes) and all of it, the beginning included.

    Raises Problem, now or while the audio is iterated: 400 for too little, for a connection that closed and
    for bad gzip, 408 when nothing arrives for the setting `upload_stall` or the whole has not arrived after
    `upload_within`, 413 above `most` bytes, 503 when the process is told to stop and does not wait any longer.
    """
    await bodies.invite(request)
    body = _received(request, settings.upload_stall, within=settings.upload_within)
    if _coding(request) == "gzip":
        # No inflated byte comes for free: this is more than gzip adds to what it cannot compress.
        body = _inflated(_bounded(body, most, slack=1024 + most // 64))
    audio = _bounded(body, most)
    head = b""
    async for piece in audio:
        head += piece
        if len(head) >= LEAST:
            return head, _chained(head, audio)
    raise Problem(400, f"Stream was {len(head)} bytes but needs to be at least {LEAST} bytes.")


def _coding(request: web.Request) -> str:
    """Return how the audio is coded, of its own or for the transfer: aiohttp undoes nothing but `chunked`."""
    of_content = ",".join(request.headers.getall("Content-Encoding", []))
    of_transfer = ",".join(request.headers.getall("Transfer-Encoding", []))
    codings = [coding.strip().lower() for coding in of_content.split(",")]
    codings += [coding for each in of_transfer.split(",") if (coding := each.strip().lower()) != "chunked"]
    match [coding for coding in codings if coding not in ("", "identity")]:
        case []:
            return "identity"
        case ["gzip" | "x-gzip"]:
            return "gzip"
        case others:
            raise Problem(415, f"unsupported content encoding '{printable(', '.join(others))}'")


def _too_large(limit: int) -> Problem:
    return Problem(HTTPStatus.REQUEST_ENTITY_TOO_LARGE, f"The audio exceeds the limit of {limit} bytes.")


async def _received(request: web.Request, stall: timedelta, *, within: timedelta) -> AsyncIterator[bytes]:
    """Give the body as it arrives. When the process stops, the connection makes a Problem arrive instead."""
    clock = asyncio.get_running_loop().time
    end = clock() + within.total_seconds()
    while True:
        if clock() > end:
            raise Problem(408, f"The audio did not arrive within {within.total_seconds():g} seconds.")
        waiting = asyncio.timeout_at(min(clock() + stall.total_seconds(), end))
        try:
            async with waiting:
                piece = await request.content.read(_PIECE)
        except web.RequestPayloadError:
            raise bodies.CLOSED.problem() from None
        except OSError:
            if waiting.expired():  # a TimeoutError is an OSError, and so may be a lost connection
                if clock() >= end:
                    continue
                raise Problem(408, f"No audio arrived for {stall.total_seconds():g} seconds.") from None
            raise bodies.CLOSED.problem() from None
        if not piece:
            return
        yield piece


async def _inflated(body: AsyncIterator[bytes]) -> AsyncIterator[bytes]:
    """Give what gzip holds (RFC 1952, one member or several), a bounded piece at a time."""
    inflater = zlib.decompressobj(_GZIP)
    async for rest in body:
        data = rest
        while True:
            if inflater.eof and data:
                inflater = zlib.decompressobj(_GZIP)
            try:
                piece = inflater.decompress(data, _PIECE)
            except zlib.error:
                raise _BAD_GZIP.problem() from None
            if piece:
                yield piece
            data = inflater.unconsumed_tail or inflater.unused_data
            if not data and len(piece) < _PIECE:
                break
            await asyncio.sleep(0)  # a bomb must not keep others waiting
    if not inflater.eof:
        raise _BAD_GZIP.problem()


async def _bounded(body: AsyncIterator[bytes], limit: int, *, slack: int = 0) -> AsyncIterator[bytes]:
    size = 0
    async for piece in body:
        size += len(piece)
        if size > limit + slack:
            raise _too_large(limit)
        yield piece


async def _chained(head: bytes, rest: AsyncIterator[bytes]) -> AsyncIterator[bytes]:
    yield head
    async for piece in rest:
        yield piece


REFUSALS = (
    Refusal(400, f"Stream was … bytes but needs to be at least {LEAST} bytes."),
    _BAD_GZIP,
    bodies.CLOSED,
    Refusal(408, "No audio arrived for … seconds."),
    Refusal(408, "The audio did not arrive within … seconds."),
    Refusal(413, "The audio exceeds the limit of … bytes."),
    Refusal(415, "unsupported content encoding '…'"),
)
"""What the functions here may raise."""
