"""Where an API key buys a bearer token: as IAM does it (spec 1.11), and as Cloud Pak for Data does (spec 1.12).

Neither asks for credentials beside those in the body; an `Authorization` header is that of IBM's client id, which
means nothing here. Nothing of a body is logged.
"""

from urllib.parse import parse_qs

import msgspec
from aiohttp import web
from msgspec import Struct

from api import bodies, responses
from api.auth import count_failure
from api.context import RETENTION, SETTINGS, TENANT, TRANSACTION
from api.problems import UNAUTHORIZED

LARGEST = 8192
"""The largest body that is read, in bytes. IBM's SDKs send a few hundred."""

GRANT = "urn:ibm:params:oauth:grant-type:apikey"
"""What alone can be exchanged for a token."""


class _Credentials(Struct, frozen=True, kw_only=True):
    """What a client of Cloud Pak for Data sends: the Python SDK null for what was not given, Node's not at all."""

    username: str | None = None
    password: str | None = None
    api_key: str | None = None


async def token(request: web.Request) -> web.Response:
    """Exchange the API key of a form for a token."""
    form = parse_qs((await _body(request)).decode(errors="replace"))
    if form.get("grant_type", [""])[0] != GRANT:
        return responses.unknown_grant(request[TRANSACTION], taken=GRANT)
    bought = await request.app[RETENTION].tokens.issue(form.get("apikey", [""])[0])
    if bought is None:
        count_failure(request)
        return responses.unknown_key(request[TRANSACTION])
    request[TENANT] = bought.tenant
    return responses.bought(bought.text, expires_in=bought.expires_in, expiration=bought.expiration)


async def authorize(request: web.Request) -> web.Response:
    """Exchange the API key of a JSON object for a token; it may be the password of whatever user."""
    try:
        credentials = msgspec.json.decode(await _body(request), type=_Credentials)
    except (msgspec.MsgspecError, UnicodeDecodeError, RecursionError):
        credentials = _Credentials()
    bought = await request.app[RETENTION].tokens.issue(credentials.api_key or credentials.password or "")
    if bought is None:
        count_failure(request)
        raise UNAUTHORIZED.problem()
    request[TENANT] = bought.tenant
    return responses.authorized(bought.text)


async def _body(request: web.Request) -> bytes:
    return await bodies.read_small(request, limit=LARGEST, within=request.app[SETTINGS].upload_stall)
