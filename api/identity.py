"""Where an API key buys a bearer token: as IAM does it (spec 1.11), and as Cloud Pak for Data does (spec 1.12).

Neither asks for credentials beside those in the body; an `Authorization` header is that of IBM's client id, which
means nothing here. Nothing of a body is logged.
"""

from urllib.parse import parse_qs

import msgspec
from aiohttp import web
from msgspec import Struct

from api import answers, bodies, responses
from api.auth import admit, count_failure, name_of_key
from api.context import ADMISSION, RETENTION, SETTINGS, TRANSACTION
from api.operations import BASE, Answer, Body, Operation
from api.problems import LIMITED, NOT_FROM_HERE, UNAUTHORIZED, UNAVAILABLE, WRONG_CREDENTIALS
from retention.limits import Count

LARGEST = 8192
"""The largest body that is read, in bytes. IBM's SDKs send a few hundred."""

GRANT = "urn:ibm:params:oauth:grant-type:apikey"
"""What alone can be exchanged for a token."""


class Credentials(Struct, frozen=True, kw_only=True):
    """What a client of Cloud Pak for Data sends; null and nothing are the same."""

    username: str | None = None
    password: str | None = None
    api_key: str | None = None


async def token(request: web.Request) -> web.Response:
    """Exchange the API key of a form for a token."""
    form = parse_qs((await _body(request)).decode(errors="replace"))
    if form.get("grant_type", [""])[0] != GRANT:
        return responses.unknown_grant(request[TRANSACTION], taken=GRANT)
    presented = form.get("apikey", [""])[0]
    async with request.app[ADMISSION].watch(request, name_of_key(presented), Count("tokens")):
        bought = await request.app[RETENTION].tokens.issue(presented)
    if bought is None:
        await count_failure(request, presented)
        return responses.unknown_key(request[TRANSACTION])
    await admit(request, bought.buyer)
    return responses.bought(bought.text, expires_in=bought.expires_in, expiration=bought.expiration)


async def authorize(request: web.Request) -> web.Response:
    """Exchange the API key of a JSON object for a token; it may be the password of whatever user."""
    try:
        credentials = msgspec.json.decode(await _body(request), type=Credentials)
    except (msgspec.MsgspecError, UnicodeDecodeError, RecursionError):
        credentials = Credentials()
    presented = credentials.api_key or credentials.password or ""
    async with request.app[ADMISSION].watch(request, name_of_key(presented), Count("tokens")):
        bought = await request.app[RETENTION].tokens.issue(presented)
    if bought is None:
        await count_failure(request, presented)
        raise UNAUTHORIZED.problem()
    await admit(request, bought.buyer)
    return responses.authorized(bought.text)


async def _body(request: web.Request) -> bytes:
    return await bodies.read_small(request, limit=LARGEST, within=request.app[SETTINGS].upload_stall)


_JWT = "eyJhbGciOiJIUzI1NiIsInR5cCI6IkpXVCJ9.….…"
_BODY_REFUSALS = (*bodies.refusals(LARGEST), NOT_FROM_HERE, WRONG_CREDENTIALS, LIMITED, UNAVAILABLE)

TOKEN = Operation(
    handler=token,
    id="getIamToken",
    tag="Tokens",
    summary="Buy a token as from IBM's IAM",
    keyed=False,
    body=Body(
        means=f"At most {LARGEST} bytes. Other fields mean nothing.",
        content={
            "application/x-www-form-urlencoded": {
                "type": "object",
                "properties": {"grant_type": {"const": GRANT}, "apikey": {"type": "string", "minLength": 1}},
                "required": ["grant_type", "apikey"],
            }
        },
    ),
    answers=(
        Answer(
            status=200,
            means="A token.",
            example=answers.IamToken(access_token=_JWT, expires_in=3600, expiration=1787000000),
        ),
        Answer(
            status=400,
            means="The key buys nothing, or the grant type is another.",
            example=answers.IamError(
                error_code="BXNIM0415E",
                error_message="Provided API key could not be found.",
                context=answers.IamContext(request_id="5f1c0a4e2b7d4c6f9a3e8b1d0c7f6a25"),
            ),
        ),
    ),
    refusals=_BODY_REFUSALS,
    arguments=f"-d apikey=$APIKEY --data-urlencode grant_type={GRANT}",
    python=f"IAMAuthenticator(apikey, url={BASE!r}).token_manager.get_token()",
)
AUTHORIZE = Operation(
    handler=authorize,
    id="authorize",
    tag="Tokens",
    summary="Buy a token as from Cloud Pak for Data",
    keyed=False,
    body=Body(
        means=f"At most {LARGEST} bytes. The API key as `api_key`, or as the password of whatever user.",
        content={"application/json": answers.reference(Credentials)},
    ),
    answers=(Answer(status=200, means="A token.", example=answers.Token(token=_JWT)),),
    refusals=(UNAUTHORIZED, *_BODY_REFUSALS),
    arguments="""--json '{"username": "anybody", "password": "'$APIKEY'"}'""",
    python=f"CloudPakForDataAuthenticator('anybody', apikey, {BASE!r}).token_manager.get_token()",
)
