"""Request bodies: how a client is asked to send one, and small ones that are read whole."""

import asyncio
from datetime import timedelta

from aiohttp import HttpVersion11, web

from api.problems import Problem, Refusal

CLOSED = Refusal(400, "The connection was closed before the body was complete.")

_CONTINUE = b"HTTP/1.1 100 Continue\r\n\r\n"


def refusals(limit: int) -> tuple[Refusal, ...]:
    """Return what `read_small` may raise."""
    return CLOSED, _too_large(limit), Refusal(408, "The body did not arrive within … seconds.")


async def invite(request: web.Request) -> None:
    """Ask for the body, if the client waits to be asked (RFC 9110 §10.1.1). Raises Problem 400 when it is gone."""
    if request.version >= HttpVersion11 and request.headers.get("Expect", "").lower() == "100-continue":
        try:
            await request.writer.write(_CONTINUE)
        except OSError:
            raise CLOSED.problem() from None
        request.writer.output_size = 0  # the answer proper has not begun


async def read_small(request: web.Request, *, limit: int, within: timedelta) -> bytes:
    """Return the whole body, of at most `limit` bytes.

    Raises Problem: 413 when it is larger, 408 when it is not there `within` this time, 400 when the connection
    closes before its end, 503 when the process is told to stop and does not wait any longer.
    """
    too_large = _too_large(limit)
    if (request.content_length or 0) > limit:
        raise too_large.problem()
    await invite(request)
    body = b""
    waiting = asyncio.timeout(within.total_seconds())
    try:
        async with waiting:
            while piece := await request.content.read(limit + 1):
                body += piece
                if len(body) > limit:
                    raise too_large.problem()
    except web.RequestPayloadError:
        raise CLOSED.problem() from None
    except OSError:
        if waiting.expired():  # a TimeoutError is an OSError, and so may be a lost connection
            raise Problem(408, f"The body did not arrive within {within.total_seconds():g} seconds.") from None
        raise CLOSED.problem() from None
    return body


def _too_large(limit: int) -> Refusal:
    return Refusal(413, f"The body exceeds the limit of {limit} bytes.")
