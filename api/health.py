"""Whether the process is alive, and whether it can do its work. Anybody may ask, and learns nothing else."""

import structlog
from aiohttp import web

from api import responses
from api.answers import Nothing, Ready
from api.context import RETENTION
from api.operations import Answer, Operation
from retention.errors import Unavailable

_log = structlog.get_logger()


async def live(_request: web.Request) -> web.Response:
    """Answer at all."""
    return responses.alive()


async def ready(request: web.Request) -> web.Response:
    """Answer 200 when what the service depends on is fit for work, and 503 otherwise.

    That is the home cell. One tenant's cell must not take the front away from all others: its troubles are logged.
    """
    retention = request.app[RETENTION]
    try:
        await retention.jobs.check()
    except Unavailable as error:
        _log.warning("not ready", reason=str(error))
        return responses.ready(503, retention.privileges.least)
    return responses.ready(200, retention.privileges.least)


LIVE = Operation(
    handler=live,
    id="live",
    tag="Health",
    summary="Whether the process is alive",
    keyed=False,
    answers=(Answer(status=200, means="It is.", example=Nothing()),),
)
READY = Operation(
    handler=ready,
    id="ready",
    tag="Health",
    summary="Whether the process can do its work",
    keyed=False,
    answers=(
        Answer(status=200, means="It can.", example=Ready("held")),
        Answer(status=503, means="What it depends on is not fit for work; its log says why.", example=Ready("held")),
    ),
)
