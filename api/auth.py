"""Who asks: the tenant of a request, from its credential and from nothing else (spec 1.0).

The credential is looked up first and failures are counted after that, so that whoever presents a good one
is served, whatever others at the same address have presented.
"""

import asyncio
import base64
import binascii
from collections.abc import AsyncIterator, Awaitable, Callable

from aiohttp import web

from api.backoff import source_of
from api.context import ADMISSION, BACKOFF, CREDENTIAL, RETENTION, TENANT
from api.problems import UNAUTHORIZED, WRONG_CREDENTIALS, Problem
from retention.limits import Credential, Rate

Handler = Callable[[web.Request], Awaitable[web.Response]]


def authenticated(handler: Handler, counts: Rate) -> Handler:
    """Serve only requests that bear a valid key or token; refuse others with 401, before their bodies are read.

    They are counted as requests of that kind, and refused with 429, as early, while a limit is reached.
    """

    async def guarded(request: web.Request) -> web.Response:
        header = request.headers.get("Authorization", "")
        async with request.app[ADMISSION].watch(request, header, counts, brief=request.method == "GET"):
            request[CREDENTIAL] = await _credential(request, counts)
            request[TENANT] = request[CREDENTIAL].tenant
            return await handler(request)

    return guarded


async def still_authenticated(request: web.Request, audio: AsyncIterator[bytes]) -> AsyncIterator[bytes]:
    """Give the audio; raise Problem 401 at its end if the key was revoked while it came in, which may take long."""
    async for piece in audio:
        yield piece
    await _credential(request, None)


async def _credential(request: web.Request, counts: Rate | None) -> Credential:
    """Return the credential of a request, counted; or, to look at it again, not."""
    header = request.headers.get("Authorization", "")
    if not header:
        # Not counted, and never 429: some clients present their credentials only when a 401 asks (spec 0, no. 4).
        raise UNAUTHORIZED.problem()
    tenants, tokens = request.app[RETENTION].tenants, request.app[RETENTION].tokens
    if key := presented_key(header):
        credential = await tenants.authenticate(key, counts)
    elif token := presented_token(header):
        credential = await (tokens.authenticate(token, counts) if counts else tokens.authenticate_again(token))
    else:
        credential = None
    if credential is None:
        count_failure(request)
        raise UNAUTHORIZED.problem()
    return credential


def count_failure(request: web.Request) -> None:
    """Count a wrong credential against the address that sent it. Raises Problem 429 when these were too many."""
    wait = request.app[BACKOFF].failed(source_of(request.remote), now=asyncio.get_running_loop().time())
    if wait:
        raise Problem(WRONG_CREDENTIALS.status, WRONG_CREDENTIALS.sentence, headers={"Retry-After": str(wait)})


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


def presented_token(header: str) -> str | None:
    """Return the token in a Bearer `Authorization` header (RFC 6750 §2.1); None without one."""
    scheme, _, token = header.partition(" ")
    return (token.strip() or None) if scheme.lower() == "bearer" else None
