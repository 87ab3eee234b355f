"""The endpoints of jobs (spec 1.3 to 1.6). A handler reads, acts, presents."""

import re

from aiohttp import web

from api import auth, media_types, parameters, responses, uploads
from api.addresses import base
from api.context import CREDENTIAL, JOB, RETENTION, SETTINGS, TENANT, TURN
from api.customers import customer_of
from api.learning import opted_out
from api.problems import JOB_NOT_FOUND, Problem, printable
from retention.cells import Cell
from retention.errors import NotRegistered
from retention.job import Callback, JobId

_ID = re.compile(r"[0-9a-f]{8}(-[0-9a-f]{4}){3}-[0-9a-f]{12}")


async def create(request: web.Request) -> web.Response:
    """Accept a job. What headers and query show to be unacceptable is refused before the body is invited."""
    settings = request.app[SETTINGS]
    # Once for the whole request: where the callback URL is known, the job must go, should its tenant move meanwhile.
    cell = await request.app[RETENTION].of(request[TENANT])
    wishes = parameters.read(request.query, settings, await cell.offers.current())
    customer = customer_of(request)
    declared = media_types.declared(request.headers.get("Content-Type", ""))
    credential = request[CREDENTIAL]
    # What is more than may wait in all would be refused whenever it came.
    most = credential.least("bytes", otherwise=settings.max_upload)
    # Before the body: a store that cannot be reached or a disabled key refuses now, and an erasure from now on counts
    # for this upload.
    async with cell.acceptance.upload(credential, size=uploads.announced(request, most=most)) as began:
        callback = await _callback(request, wishes.told, cell)
        async with request[TURN].left():
            head, audio = await uploads.open_audio(request, settings, most=most)
        job = await cell.acceptance.submit(
            credential,
            wishes.submission(media_types.settle(declared, head), began=began, learning_opt_out=opted_out(request)),
            auth.still_authenticated(request, audio),
            began=began,
            results_ttl=wishes.results_ttl,
            customer=customer,
            callback=callback,
            user_token=wishes.told.user_token if wishes.told else "",
        )
    request[JOB] = job.id
    url = f"{base(request)}{request.rel_url.raw_path}/{job.id}"
    return responses.created(job, url=url, warnings=wishes.recognition.warnings)


async def latest(request: web.Request) -> web.Response:
    """List the tenant's newest jobs."""
    return responses.listed(await request.app[RETENTION].jobs.latest(request[TENANT]))


async def check(request: web.Request) -> web.Response:
    """Show one job, with its results when it is completed."""
    job, results = await request.app[RETENTION].jobs.look_up(request[TENANT], _id(request))
    request[JOB] = job.id
    return responses.checked(job, results)


async def delete(request: web.Request) -> web.Response:
    """Delete one job for good."""
    id_ = _id(request)
    await request.app[RETENTION].jobs.delete(request[TENANT], id_)
    request[JOB] = id_
    return responses.deleted()


async def _callback(request: web.Request, told: parameters.Told | None, cell: Cell) -> Callback | None:
    if told is None:
        return None
    try:
        return await request.app[RETENTION].callbacks.subscribe(request[TENANT], told.url, told.events, at=cell)
    except NotRegistered:
        raise Problem(400, f"callback url '{printable(told.url)}' is not registered") from None


def _id(request: web.Request) -> JobId:
    """Return the job id in the path. What is not one of ours is a job that does not exist, and goes no further."""
    text = request.match_info["id"]
    if not _ID.fullmatch(text):
        raise JOB_NOT_FOUND.problem()
    return JobId(text)
