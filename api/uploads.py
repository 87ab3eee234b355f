"""The body of a submission: refused by its headers when it can be, then streamed, inflated, counted and looked at.

Memory is flat: at most one piece of the body is held here, and aiohttp's own read buffer is left at
its size. Sizes are those of the inflated audio (spec 5.3).
"""

import asyncio
import re
import zlib
from collections.abc import AsyncIterator
from datetime import timedelta
from http import HTTPStatus

from aiohttp import web

from api.problems import Problem, Refusal, printable
from retention.settings import Settings

LEAST = 100
"""The smallest audio that is accepted, in bytes (spec 5.3)."""

_PIECE = 1 << 18
_CONTINUE = b"HTTP/1.1 100 Continue\r\n\r\n"
_GZIP = zlib.MAX_WBITS | 16
_CLOSED = Refusal(400, "The connection was closed before the body was complete.")
_BAD_GZIP = Refusal(400, "The body is not what 'Content-Encoding: gzip' says: damaged, cut off, or followed by more.")


def check_headers(request: web.Request, settings: Settings) -> None:
    """Refuse what the headers alone show to be unacceptable. Raises Problem."""
    if _coding(request) == "identity" and (request.content_length or 0) > settings.max_upload:
        raise _too_large(settings.max_upload)


async def open_audio(request: web.Request, settings: Settings) -> tuple[bytes, AsyncIterator[bytes]]:
    """Invite the body, and return its beginning (at least 100 bytes) and all of it, the beginning included.

    Raises Problem, now or while the audio is iterated: 400 for too little, for a connection that closed and
    for bad gzip, 408 when nothing arrives for the setting `upload_stall`, 413 above `max_upload`, 503
    when the process is told to stop and does not wait any longer.
    """
    if request.headers.get("Expect", "").lower() == "100-continue":
        await request.writer.write(_CONTINUE)
        request.writer.output_size = 0  # the answer proper has not begun
    body = _received(request, settings.upload_stall)
    if _coding(request) == "gzip":
        # No inflated byte comes for free: this is more than gzip adds to what it cannot compress.
        body = _inflated(_bounded(body, settings.max_upload, slack=1024 + settings.max_upload // 64))
    audio = _bounded(body, settings.max_upload)
    head = b""
    async for piece in audio:
        head += piece
        if len(head) >= LEAST:
            return head, _chained(head, audio)
    raise Problem(400, f"Stream was {len(head)} bytes but needs to be at least {LEAST} bytes.")


def customer_of(request: web.Request) -> str | None:
    """Return the customer id of `X-Watson-Metadata`, or None without the header (spec 6.1).

    Raises Problem 400 for anything else than one `customer_id=…`: a privacy label is never dropped silently.
    """
    headers = request.headers.getall("X-Watson-Metadata", [])
    if not headers:
        return None
    raw = headers[0].encode(errors="surrogateescape")
    try:
        text = raw.decode()
    except UnicodeDecodeError:
        text = raw.decode("latin-1")
    found = re.fullmatch(r"\s*customer_id\s*=\s*([^;=]{1,256}?)\s*", text)
    if len(headers) > 1 or found is None or not found[1].strip():
        raise Problem(400, "'X-Watson-Metadata' must be customer_id={id}, the id without ';' and '='")
    return found[1]


def _coding(request: web.Request) -> str:
    coding = request.headers.get("Content-Encoding", "identity").strip().lower()
    if coding in ("gzip", "x-gzip"):
        return "gzip"
    if coding in ("identity", ""):
        return "identity"
    raise Problem(415, f"unsupported content encoding '{printable(coding)}'")


def _too_large(limit: int) -> Problem:
    return Problem(HTTPStatus.REQUEST_ENTITY_TOO_LARGE, f"The audio exceeds the limit of {limit} bytes.")


async def _received(request: web.Request, stall: timedelta) -> AsyncIterator[bytes]:
    """Give the body as it arrives. When the process stops, the connection makes a Problem arrive instead."""
    while True:
        waiting = asyncio.timeout(stall.total_seconds())
        try:
            async with waiting:
                piece = await request.content.read(_PIECE)
        except web.RequestPayloadError:
            raise _CLOSED.problem() from None
        except OSError:
            if waiting.expired():  # a TimeoutError is an OSError, and so may be a lost connection
                raise Problem(408, f"No audio arrived for {stall.total_seconds():g} seconds.") from None
            raise _CLOSED.problem() from None
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
