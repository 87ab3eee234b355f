"""Whether a request may be kept to improve the service (spec 6.3)."""

from aiohttp import web

_HEADERS = ("X-Watson-Learning-Opt-Out", "X-WDC-PL-OPT-OUT")  # the second is its name of 2016


def opted_out(request: web.BaseRequest) -> bool:
    """Tell whether the client has opted out: by either header, with any value but an explicit `false` or `0`."""
    said = [value for name in _HEADERS for value in request.headers.getall(name, [])]
    return any(value.strip().lower() not in {"false", "0"} for value in said)
