"""The models that are served (spec 1.8, 1.9): the names that clients know, for what the workers' engine can do."""

from aiohttp import web

from api import answers, responses
from api.addresses import base
from api.context import RETENTION, TENANT
from api.operations import BASE, Answer, Field, Operation
from api.problems import ANSWERS, Problem, Refusal, printable
from retention.errors import NothingOffered
from retention.offer import DEFAULT_MODEL, models


async def every(request: web.Request) -> web.Response:
    """List all models."""
    offer = await (await request.app[RETENTION].of(request[TENANT])).offers.current()
    return responses.models(list(models(offer)), engine=offer.engine, url=_url(request))


async def one(request: web.Request) -> web.Response:
    """Show one model. Raises Problem 404 when it is not served."""
    offer = await (await request.app[RETENTION].of(request[TENANT])).offers.current()
    name = request.match_info["model"]
    for model in models(offer):
        if model.name == name:
            return responses.model(model, engine=offer.engine, url=_url(request))
    raise Problem(404, f"Model {printable(name)} not found")


def _url(request: web.Request) -> str:
    """Return the address of the list, with the prefix that the client used."""
    # By its segments, since a client may write any letter of the path as %XX (RFC 3986 §6.2.2.2).
    segments = request.rel_url.raw_path.split("/")
    prefix = "/".join(segments[: 3 if "instance" in request.match_info else 1])
    return f"{base(request)}{prefix}/v1/models"


_EXAMPLE = answers.Model(
    name=DEFAULT_MODEL,
    language="en-US",
    rate=16000,
    url=f"{BASE}/v1/models/{DEFAULT_MODEL}",
    supported_features=answers.SupportedFeatures(),
    description="en-US, recognised by pocketsphinx; every name of a language means the same.",
)
UNKNOWN = Refusal(404, "Model … not found")

EVERY = Operation(
    handler=every,
    id="listModels",
    tag="Models",
    summary="List all models",
    means="The names that IBM's clients know, for the languages that the engine at hand serves.",
    answers=(Answer(status=200, means="The models.", example=answers.Models(models=[_EXAMPLE])),),
    refusals=(ANSWERS[NothingOffered],),
    python="speech.list_models()",
)
ONE = Operation(
    handler=one,
    id="getModel",
    tag="Models",
    summary="Show one model",
    fields=(
        Field(
            name="model",
            where="path",
            means="The name of the model.",
            schema={"type": "string", "minLength": 1},
            required=True,
            example=DEFAULT_MODEL,
        ),
    ),
    answers=(Answer(status=200, means="The model.", example=_EXAMPLE),),
    refusals=(UNKNOWN, ANSWERS[NothingOffered]),
    python=f"speech.get_model({DEFAULT_MODEL!r})",
)
