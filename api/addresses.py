"""The addresses that we give out."""

import re

from aiohttp import web

from api.context import SETTINGS

_HOST = re.compile(r"[A-Za-z0-9.:\[\]_-]{1,255}")


def base(request: web.Request) -> str:
    """Return scheme and authority of addresses that we give out: the operator's, else what the client used."""
    settings = request.app[SETTINGS]
    if settings.public_url:
        return settings.public_url.rstrip("/")
    host = request.headers.get("Host", "")
    return f"{request.scheme}://{host if _HOST.fullmatch(host) else settings.host}"
