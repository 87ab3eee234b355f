"""Whether the process is alive, and whether it can do its work. Anybody may ask, and learns nothing else."""

import structlog
from aiohttp import web

from api import responses
from api.context import RETENTION
from retention.errors import Unavailable

_log = structlog.get_logger()


async def live(_request: web.Request) -> web.Response:
    """Answer at all."""
    return responses.health(200)


async def ready(request: web.Request) -> web.Response:
    """Answer 200 when what the service depends on is fit for work, and 503 otherwise."""
    try:
        await request.app[RETENTION].jobs.check()
    except Unavailable as error:
        _log.warning("not ready", reason=str(error))
        return responses.health(503)
    return responses.health(200)
