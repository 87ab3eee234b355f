"""The application: every request gets an id, one answer in the contract's form, and one log line."""

import asyncio
import uuid
from collections.abc import Awaitable, Callable

import msgspec
import structlog
from aiohttp import web

from api import cors, openapi, page, problems, routes
from api.admission import LAST, Admission
from api.backoff import Backoff
from api.context import ADMISSION, BACKOFF, DOCUMENT, JOB, PAGE, RETENTION, SETTINGS, TENANT, TRANSACTION
from api.endpoints import scheme_of
from retention.acting import begin_request
from retention.bootstrap import Retention
from retention.errors import RetentionError
from retention.log import failure
from retention.settings import Settings

TRANSACTION_HEADER = "X-Global-Transaction-ID"

_A_YEAR = 31_536_000

_METHODS = frozenset({"GET", "HEAD", "POST", "PUT", "PATCH", "DELETE", "OPTIONS"})
_SERVER_ERROR = 500

_log = structlog.get_logger()


def create_app(settings: Settings, retention: Retention) -> web.Application:
    """Return the application over what keeps the jobs."""
    app = web.Application(middlewares=[_answer])
    app[SETTINGS] = settings
    app[RETENTION] = retention
    app[ADMISSION] = Admission()
    app[BACKOFF] = Backoff()
    document = openapi.document(routes.SERVICE, routes.ALONE)
    app[DOCUMENT] = msgspec.json.encode(document)
    app[PAGE] = page.render(document)
    routes.add_routes(app.router)
    return app


@web.middleware
async def _answer(
    request: web.Request, handler: Callable[[web.Request], Awaitable[web.StreamResponse]]
) -> web.StreamResponse:
    began = asyncio.get_running_loop().time()
    request[TRANSACTION] = uuid.uuid4().hex
    begin_request(request[TRANSACTION])
    origins = request.app[SETTINGS].cors_origins
    status = 0  # of a request that was cut off
    trouble: dict[str, str] = {}
    try:
        try:
            preflight = cors.preflight(request, origins)
            response = await handler(request) if preflight is None else preflight
        except Exception as error:  # noqa: BLE001 - this is where every error becomes an answer
            response = problems.answer(error)
            trouble = _trouble(error)
        if request.get(LAST):
            response.force_close()
        if "Expect" in request.headers and request.content.total_bytes == 0:
            # Whether the body still comes after this answer is the client's choice: the connection ends here,
            # or its next request could be taken for the body (RFC 9110 §10.1.1).
            response.force_close()
        response.headers[TRANSACTION_HEADER] = request[TRANSACTION]
        response.headers.extend(hsts(request))
        response.headers.extend(cors.headers(request, origins))
        status = response.status
        return response
    finally:
        took = asyncio.get_running_loop().time() - began
        _write_line(request, status, round(took * 1000, 1), trouble)


def hsts(request: web.BaseRequest) -> dict[str, str]:
    """Return what keeps browsers from asking without TLS for a year; it is not sent without TLS (RFC 6797 §7.2)."""
    return {"Strict-Transport-Security": f"max-age={_A_YEAR}"} if scheme_of(request) == "https" else {}


def _trouble(error: Exception) -> dict[str, str]:
    """Return what the log says about an error; nothing about refusals, whose texts quote the client."""
    if isinstance(error, problems.Problem | web.HTTPNotFound):
        return {}
    if isinstance(error, RetentionError) and problems.ANSWERS[type(error)].status < _SERVER_ERROR:
        return {"error": type(error).__name__}
    return failure(error)


def _write_line(request: web.Request, status: int, duration_ms: float, trouble: dict[str, str]) -> None:
    """Log a request: the template of its path and never the path or the query, which may hold secrets."""
    resource = request.match_info.route.resource
    route = resource.canonical if resource is not None else ""
    write = _log.debug if route.startswith("/health/") else _log.error if "where" in trouble else _log.info
    write(
        "request",
        method=request.method if request.method in _METHODS else "other",
        route=route,
        status=status,
        duration_ms=duration_ms,
        bytes_in=request.content.total_bytes,
        transaction=request[TRANSACTION],
        **{key: request[name] for key, name in (("tenant", TENANT), ("job", JOB)) if name in request},
        **trouble,
    )
