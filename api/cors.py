"""Which answers pages of other origins may read, as the setting `cors_origins` says (spec 6.5; Fetch, "CORS protocol").

Only what clients of the service need is open to pages: not health, and nothing else that may stand beside it. Cookies
are never involved: whoever asks says so in an Authorization header of its own, so any origin may be let in.
"""

import re
from collections.abc import Mapping
from http import HTTPStatus

from aiohttp import web

from api.responses import HEADERS

_OPEN = re.compile(r"(/instances/[^/]+)?(/v1/.*|/identity/token)|/openapi\.json")

_OF_PREFLIGHTS: Mapping[str, str] = {
    "Access-Control-Allow-Methods": "GET, POST, DELETE, OPTIONS",
    # By name: `*` would not cover Authorization (Fetch, "CORS-preflight fetch").
    "Access-Control-Allow-Headers": "Authorization, Content-Type, Content-Encoding, X-Watson-Metadata,"
    " X-Watson-Learning-Opt-Out, X-IBMCloud-SDK-Analytics",
    "Access-Control-Max-Age": "600",
}
_OF_OTHERS: Mapping[str, str] = {"Access-Control-Expose-Headers": "X-Global-Transaction-ID, Retry-After"}
_DEPENDS_ON_ORIGIN: Mapping[str, str] = {"Vary": "Origin"}


def preflight(request: web.BaseRequest, origins: str) -> web.Response | None:
    """Return the answer to a preflight, which bears no credentials; None for any other request, and when it is off.

    What it grants is in `headers`, as for every answer (Fetch, "CORS-preflight fetch": any ok status will do).
    """
    if not (_is_preflight(request) and _concerns(request, origins)):
        return None
    return web.Response(status=HTTPStatus.NO_CONTENT, headers=HEADERS)


def headers(request: web.BaseRequest, origins: str) -> Mapping[str, str]:
    """Return what an answer to this request has to say to a browser, be it an error or not; nothing when it is off.

    `origins` is the setting. Where it is a list, answers differ by origin and say so to caches, also those that let
    nobody in (Fetch, "CORS protocol and HTTP caches").
    """
    if not _concerns(request, origins):
        return {}
    granted = _OF_PREFLIGHTS if _is_preflight(request) else _OF_OTHERS
    if origins == "*":
        return {"Access-Control-Allow-Origin": "*", **granted}
    origin = request.headers.get("Origin", "")
    if origin not in origins.split():
        return _DEPENDS_ON_ORIGIN
    return {"Access-Control-Allow-Origin": origin, **granted, **_DEPENDS_ON_ORIGIN}


def _is_preflight(request: web.BaseRequest) -> bool:
    named = ("Origin", "Access-Control-Request-Method")
    return request.method == "OPTIONS" and all(name in request.headers for name in named)


def _concerns(request: web.BaseRequest, origins: str) -> bool:
    return bool(origins.strip()) and _OPEN.fullmatch(request.rel_url.raw_path) is not None
