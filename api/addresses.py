"""The addresses that we give out."""

import re

from aiohttp import web

from api.context import SETTINGS
from api.endpoints import endpoint_of, scheme_of

_HOST = re.compile(r"[A-Za-z0-9.:\[\]_-]{1,255}")


def base(request: web.Request) -> str:
    """Return scheme and authority of addresses that we give out: what the client used, or the operator's public one."""
    settings, endpoint = request.app[SETTINGS], endpoint_of(request)
    if settings.public_url and endpoint.kind == "public":
        return settings.public_url.rstrip("/")
    host = request.headers.get("Host", "")
    return f"{scheme_of(request)}://{host if _HOST.fullmatch(host) else endpoint.host}"
