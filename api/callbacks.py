"""The endpoints of callback URLs (spec 1.1, 1.2)."""

import math

from aiohttp import web

from api import responses
from api.context import RETENTION, TENANT
from api.customers import customer_of
from api.problems import Problem, printable
from retention.errors import ChallengeFailed, NotRegistered, TooManyChallenges

_LONGEST_SECRET = 1024


async def register(request: web.Request) -> web.Response:
    """Register a URL: 201 when it is new, 200 when it was registered already."""
    url = _callback_url(request)
    secret = request.query.get("user_secret") or None
    if secret is not None and (len(secret) > _LONGEST_SECRET or not secret.isprintable()):
        raise Problem(400, f"'user_secret' must be printable, and at most {_LONGEST_SECRET} characters")
    customer = customer_of(request)
    retention = request.app[RETENTION]
    began = await retention.jobs.now()
    try:
        new = await retention.callbacks.register(request[TENANT], url, secret, customer=customer, began=began)
    except ChallengeFailed as error:
        raise Problem(400, f"unable to register callback url '{printable(url)}', {error}") from None
    except TooManyChallenges as error:
        wait = {"Retry-After": str(math.ceil(error.wait.total_seconds()))}
        raise Problem(429, "too many callback urls were registered within an hour", headers=wait) from None
    return responses.registered(url, new=new)


async def unregister(request: web.Request) -> web.Response:
    """Take a URL back."""
    url = _callback_url(request)
    try:
        await request.app[RETENTION].callbacks.unregister(request[TENANT], url)
    except NotRegistered:
        raise Problem(404, f"callback url '{printable(url)}' is not registered") from None
    return responses.done()


def _callback_url(request: web.Request) -> str:
    url = request.query.get("callback_url", "")
    if not url:
        raise Problem(400, "'callback_url' is missing")
    return url
