"""Who asks: the tenant of a request, from its credential and from nothing else (spec 1.0)."""

import base64
import binascii
from collections.abc import AsyncIterator, Awaitable, Callable

from aiohttp import web

from api.context import RETENTION, TENANT
from api.problems import UNAUTHORIZED
from retention.job import TenantId

Handler = Callable[[web.Request], Awaitable[web.Response]]


def authenticated(handler: Handler) -> Handler:
    """Serve only requests that bear a valid key; refuse others with 401, before their bodies are read."""

    async def guarded(request: web.Request) -> web.Response:
        request[TENANT] = await _tenant(request)
        return await handler(request)

    return guarded


async def still_authenticated(request: web.Request, audio: AsyncIterator[bytes]) -> AsyncIterator[bytes]:
    """Give the audio; raise Problem 401 at its end if the key was revoked while it came in, which may take long."""
    async for piece in audio:
        yield piece
    await _tenant(request)


async def _tenant(request: web.Request) -> TenantId:
    key = presented_key(request.headers.get("Authorization", ""))
    tenant = await request.app[RETENTION].tenants.authenticate(key) if key else None
    if tenant is None:
        raise UNAUTHORIZED.problem()
    return tenant


def presented_key(header: str) -> str | None:
    """Return the API key in a Basic `Authorization` header, under whatever user name; None without one."""
    scheme, _, encoded = header.partition(" ")
    if scheme.lower() != "basic":
        return None
    try:
        pair = base64.b64decode(encoded.strip(), validate=True).decode()
    except (binascii.Error, ValueError):
        return None
    return pair.partition(":")[2] or None
