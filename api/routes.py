"""The table of what is served where: the service bare and under `/instances/{anything}` (spec 1.0).

aiohttp's own answers (404, 405, `100 Continue` before anybody was asked for credentials) never come into play: each
path answers every method, the last route matches every path, and the body is invited by whoever wants it.
"""

from collections.abc import Iterable, Mapping

from aiohttp import web

from api import callbacks, customers, documents, health, identity, jobs, models
from api.auth import Handler, authenticated
from api.operations import Operation
from api.problems import PATH_NOT_FOUND, Problem

_INSTANCE = "/instances/{instance}"

SERVICE: Mapping[str, Mapping[str, Operation]] = {
    "/v1/recognitions": {"GET": jobs.LATEST, "POST": jobs.CREATE},
    "/v1/recognitions/{id}": {"GET": jobs.CHECK, "DELETE": jobs.DELETE},
    "/v1/models": {"GET": models.EVERY},
    "/v1/models/{model}": {"GET": models.ONE},
    "/v1/register_callback": {"POST": callbacks.REGISTER},
    "/v1/unregister_callback": {"POST": callbacks.UNREGISTER},
    "/v1/user_data": {"DELETE": customers.ERASE},
    "/identity/token": {"POST": identity.TOKEN},
    "/v1/authorize": {"POST": identity.AUTHORIZE},
}
"""By path and method, bare and under the prefix of an instance."""

ALONE: Mapping[str, Mapping[str, Operation]] = {
    "/health/live": {"GET": health.LIVE, "HEAD": health.LIVE},
    "/health/ready": {"GET": health.READY, "HEAD": health.READY},
    "/openapi.json": {"GET": documents.OPENAPI, "HEAD": documents.OPENAPI},
    "/docs": {"GET": documents.DOCS, "HEAD": documents.DOCS},
}
"""The same, without the prefix only."""


def add_routes(router: web.UrlDispatcher) -> None:
    """Enter the tables into an application's router."""
    for path, operations in ALONE.items():
        _add(router, path, operations)
    for prefix in ("", _INSTANCE):
        for path, operations in SERVICE.items():
            _add(router, prefix + path.replace("}", ":(?s:.*)}"), operations)
    router.add_resource("/{path:(?s:.*)}").add_route("*", _no_such_path, expect_handler=_say_nothing)


def _add(router: web.UrlDispatcher, path: str, operations: Mapping[str, Operation]) -> None:
    resource = router.add_resource(path)
    for method, operation in operations.items():
        handler = (
            authenticated(operation.handler, operation.counts, long=operation.long)
            if operation.keyed
            else operation.handler
        )
        resource.add_route(method, handler, expect_handler=_say_nothing)
    resource.add_route("*", _refuse_others_than(operations), expect_handler=_say_nothing)


def _refuse_others_than(methods: Iterable[str]) -> Handler:
    allowed = ", ".join(sorted(methods))

    async def method_not_allowed(_request: web.Request) -> web.Response:
        raise Problem(405, f"This path takes {allowed}.", headers={"Allow": allowed})

    return method_not_allowed


async def _no_such_path(_request: web.Request) -> web.Response:
    raise PATH_NOT_FOUND.problem()


async def _say_nothing(_request: web.Request) -> None:
    """Leave `Expect: 100-continue` to the handler, which first looks at the headers (RFC 9110 §10.1.1)."""
