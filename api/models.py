"""The models that are served (spec 1.8, 1.9): the names that clients know, for what the workers' engine can do."""

from aiohttp import web

from api import responses
from api.addresses import base
from api.context import RETENTION
from api.problems import Problem, printable
from retention.offer import models


async def every(request: web.Request) -> web.Response:
    """List all models."""
    offer = await request.app[RETENTION].offers.current()
    return responses.models(list(models(offer)), engine=offer.engine, url=_url(request))


async def one(request: web.Request) -> web.Response:
    """Show one model. Raises Problem 404 when it is not served."""
    offer = await request.app[RETENTION].offers.current()
    name = request.match_info["model"]
    for model in models(offer):
        if model.name == name:
            return responses.model(model, engine=offer.engine, url=_url(request))
    raise Problem(404, f"Model {printable(name)} not found")


def _url(request: web.Request) -> str:
    """Return the address of the list, with the prefix that the client used."""
    path = request.rel_url.raw_path
    return base(request) + path[: path.rindex("/v1/models")] + "/v1/models"
