"""Who asks: the tenant of a request, from its credential and from nothing else (spec 1.0).

The credential is looked up first and failures are counted after that, so that whoever presents a good one
is served, whatever others at the same address have presented. Then the tenant says whether it is served here at all:
by this kind of listener, to this address.
"""

import asyncio
import base64
import binascii
from collections.abc import AsyncIterator, Awaitable, Callable

from aiohttp import web

from api.backoff import source_of
from api.context import ADMISSION, BACKOFF, CREDENTIAL, RETENTION, TENANT, TURN
from api.endpoints import client_of, endpoint_of, keep
from api.problems import NOT_FROM_HERE, UNAUTHORIZED, WRONG_CREDENTIALS, Problem
from retention.denials import Denial
from retention.errors import KeyDisabled
from retention.limits import Count
from retention.tenant import Credential

Handler = Callable[[web.Request], Awaitable[web.Response]]


def authenticated(handler: Handler, counts: Count, *, long: bool = False) -> Handler:
    """Serve only requests that bear a valid key or token, where its tenant is served.

    Others are refused with 401 or 403, before their bodies are read. They are counted, and refused with 429, as early,
    while a limit is reached.
    """

    async def guarded(request: web.Request) -> web.Response:
        header = request.headers.get("Authorization", "")
        async with request.app[ADMISSION].watch(request, _name(request, header), counts, long=long) as request[TURN]:
            await admit(request, await _credential(request, counts))
            if not long:
                await request[TURN].reserve()
            try:
                return await handler(request)
            except KeyDisabled:
                await note_denial(request, "key-disabled")
                raise

    return guarded


def _name(request: web.Request, header: str) -> str:
    """Return what a credential is remembered by: nothing that its bearer may vary, and nothing that others know.

    That is an API key, whatever user name is before it; and of a token the key that bought it, by our signature. Each
    kind is named, or another's text would be taken for the public id of a key.
    """
    if key := presented_key(header):
        return name_of_key(key)
    token = presented_token(header)
    bought = request.app[RETENTION].tokens.bought_with(token) if token else None
    return f"token {bought}" if bought else f"header {header}"


def name_of_key(presented: str) -> str:
    """Return what an API key is remembered by, wherever it is presented."""
    return f"key {presented}"


async def still_authenticated(request: web.Request, audio: AsyncIterator[bytes]) -> AsyncIterator[bytes]:
    """Give the audio; raise Problem at its end if the key was revoked while it came in, which may take long.

    Or if the tenant is not served here any more. Each piece has its turn, and none is held while one is waited for, or
    while it is stored: a bucket takes its time, or is away.
    """
    turn = request[TURN]
    turn.leave()
    async for piece in audio:
        await turn.take()
        await turn.spend(len(piece))
        yield piece
    await turn.take()
    await admit(request, await _credential(request, None))
    turn.leave()


async def admit(request: web.Request, credential: Credential) -> None:
    """Make the request the credential's. Raises Problem 403 when its tenant is not served here."""
    request[CREDENTIAL] = credential
    request[TENANT] = credential.tenant
    kind, client = endpoint_of(request).kind, client_of(request)
    if not credential.is_served(kind, client):
        await note_denial(request, "address" if credential.endpoints in (kind, "both") else "endpoint")
        raise NOT_FROM_HERE.problem()
    keep(request)


async def _credential(request: web.Request, counts: Count | None) -> Credential:
    """Return the credential of a request, counted; or, to look at it again, not."""
    header = request.headers.get("Authorization", "")
    if not header:
        # Not counted, and never 429: some clients present their credentials only when a 401 asks (spec 0, no. 4).
        raise UNAUTHORIZED.problem()
    tenants, tokens = request.app[RETENTION].tenants, request.app[RETENTION].tokens
    key = presented_key(header)
    if key:
        credential = await tenants.authenticate(key, counts)
    elif token := presented_token(header):
        credential = await (tokens.authenticate(token, counts) if counts else tokens.authenticate_again(token))
    else:
        credential = None
    if credential is None:
        await count_failure(request, key)
        raise UNAUTHORIZED.problem()
    return credential


async def count_failure(request: web.Request, presented: str | None) -> None:
    """Count a wrong credential, maybe an API key, against the address that sent it, and have the audit log tell.

    Raises Problem 429 when these were too many: that they are is recorded once, and then they are only counted.
    """
    wait = request.app[BACKOFF].failed(source_of(client_of(request)), now=asyncio.get_running_loop().time())
    if wait > 1:
        request.app[RETENTION].denials.count()
    else:
        await note_denial(request, "backoff" if wait else "credential", presented)
    if wait:
        raise Problem(WRONG_CREDENTIALS.status, WRONG_CREDENTIALS.sentence, headers={"Retry-After": str(wait)})


async def note_denial(request: web.Request, why: Denial, presented: str | None = None) -> None:
    """Have the audit log tell that access is denied. To be awaited before the answer is raised."""
    await request.app[RETENTION].denials.note(
        why, address=str(client_of(request) or ""), presented=presented or "", now=asyncio.get_running_loop().time()
    )


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
