"""The two documents about the interface, which anybody may read: `/openapi.json`, and `/docs` for people."""

import hashlib
import html

import msgspec
from aiohttp import web

from api.addresses import base
from api.context import DOCUMENT, PAGE
from api.operations import BASE, Answer, Operation
from api.page import POLICY
from api.responses import HEADERS

_CACHED = {"Cache-Control": "no-cache"}  # may be kept, and is asked about each time


async def openapi(request: web.Request) -> web.Response:
    """Give the OpenAPI document, with the address that the client has used."""
    address = msgspec.json.encode(base(request))[1:-1]
    body = request.app[DOCUMENT].replace(BASE.encode(), address)
    return _given(request, body, content_type="application/json")


async def docs(request: web.Request) -> web.Response:
    """Give the page."""
    body = request.app[PAGE].replace(BASE, html.escape(base(request))).encode()
    response = _given(request, body, content_type="text/html; charset=utf-8")
    response.headers["Content-Security-Policy"] = POLICY
    return response


def _given(request: web.Request, body: bytes, *, content_type: str) -> web.Response:
    """Present what a client may have already (RFC 9110 §13.1.2)."""
    tag = hashlib.sha256(body).hexdigest()[:32]
    headers = {**HEADERS, **_CACHED, "ETag": f'"{tag}"'}
    if any(known.value in (tag, "*") for known in request.if_none_match or ()):
        return web.Response(status=304, headers=headers)
    return web.Response(body=body, headers={**headers, "Content-Type": content_type})


_ANSWERS = (
    Answer(status=304, means="The client has it already: its `If-None-Match` names it.", headers={"ETag": "Its name."}),
)

OPENAPI = Operation(
    handler=openapi,
    id="openapi",
    tag="Documents",
    summary="This interface for programs",
    keyed=False,
    answers=(
        Answer(
            status=200,
            means="An OpenAPI 3.1 document.",
            media_type="application/json",
            headers={"ETag": "Its name."},
        ),
        *_ANSWERS,
    ),
)
DOCS = Operation(
    handler=docs,
    id="docs",
    tag="Documents",
    summary="This interface for people",
    keyed=False,
    answers=(
        Answer(status=200, means="A page.", media_type="text/html", headers={"ETag": "Its name."}),
        *_ANSWERS,
    ),
)
