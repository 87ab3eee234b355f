"""The table of what is served where: every path bare and under `/instances/{anything}` (spec 1.0).

aiohttp's own answers (404, 405, `100 Continue` before anybody was asked for credentials) never come into play: each
path answers every method, the last route matches every path, and the body is invited by whoever wants it.
"""

from collections.abc import Mapping

from aiohttp import web

from api import callbacks, customers, health, identity, models, recognitions
from api.auth import Handler, authenticated
from api.problems import PATH_NOT_FOUND, Problem

_INSTANCE = "/instances/{instance}"

_SERVICE: Mapping[str, Mapping[str, Handler]] = {
    "/v1/recognitions": {
        "GET": authenticated(recognitions.latest),
        "POST": authenticated(recognitions.create),
    },
    "/v1/models": {"GET": authenticated(models.every)},
    "/v1/models/{model}": {"GET": authenticated(models.one)},
    "/v1/register_callback": {"POST": authenticated(callbacks.register)},
    "/v1/unregister_callback": {"POST": authenticated(callbacks.unregister)},
    "/v1/user_data": {"DELETE": authenticated(customers.erase)},
    "/v1/recognitions/{id:(?s:.*)}": {
        "DELETE": authenticated(recognitions.delete),
        "GET": authenticated(recognitions.check),
    },
}
_IDENTITY: Mapping[str, Mapping[str, Handler]] = {
    "/identity/token": {"POST": identity.token},
    "/v1/authorize": {"POST": identity.authorize},
}
_HEALTH: Mapping[str, Mapping[str, Handler]] = {
    "/health/live": {"GET": health.live, "HEAD": health.live},
    "/health/ready": {"GET": health.ready, "HEAD": health.ready},
}


def add_routes(router: web.UrlDispatcher) -> None:
    """Enter the table into an application's router."""
    for path, methods in _HEALTH.items():
        _add(router, path, methods)
    for prefix in ("", _INSTANCE):
        for path, methods in {**_SERVICE, **_IDENTITY}.items():
            _add(router, prefix + path, methods)
    router.add_resource("/{path:(?s:.*)}").add_route("*", _no_such_path, expect_handler=_say_nothing)


def _add(router: web.UrlDispatcher, path: str, methods: Mapping[str, Handler]) -> None:
    resource = router.add_resource(path)
    for method, handler in methods.items():
        resource.add_route(method, handler, expect_handler=_say_nothing)
    resource.add_route("*", _refuse_others_than(methods), expect_handler=_say_nothing)


def _refuse_others_than(methods: Mapping[str, Handler]) -> Handler:
    allowed = ", ".join(sorted(methods))

    async def method_not_allowed(_request: web.Request) -> web.Response:
        raise Problem(405, f"This path takes {allowed}.", headers={"Allow": allowed})

    return method_not_allowed


async def _no_such_path(_request: web.Request) -> web.Response:
    raise PATH_NOT_FOUND.problem()


async def _say_nothing(_request: web.Request) -> None:
    """Leave `Expect: 100-continue` to the handler, which first looks at the headers (RFC 9110 §10.1.1)."""
