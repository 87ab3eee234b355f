"""The endpoints of callback URLs (spec 1.1, 1.2)."""

import math
import re

from aiohttp import web

from api import answers, responses
from api.context import RETENTION, TENANT
from api.customers import LABEL, LABEL_REFUSALS, customer_of
from api.operations import USER_TOKEN, Answer, Field, Operation, Told
from api.problems import ANSWERS, Problem, Refusal, printable
from retention.errors import ChallengeFailed, KeyDisabled, NotRegistered, TooManyChallenges
from retention.limits import COSTLY
from retention.notification import Notification

_LONGEST_SECRET = 1024
_CONTROLS = re.compile("[\x00-\x1f\x7f-\x9f\ud800-\udfff]")

_MISSING = Refusal(400, "'callback_url' is missing")
_WRONG_SECRET = Refusal(400, f"'user_secret' must be printable, and at most {_LONGEST_SECRET} characters")
_TOO_MANY = Refusal(429, "too many callback urls were registered within an hour", {"Retry-After": "3600"})


async def register(request: web.Request) -> web.Response:
    """Register a URL: 201 when it is new, 200 when it was registered already."""
    url = _callback_url(request)
    secret = request.query.get("user_secret") or None
    if secret is not None and (len(secret) > _LONGEST_SECRET or _CONTROLS.search(secret)):
        raise _WRONG_SECRET.problem()
    customer = customer_of(request)
    retention = request.app[RETENTION]
    cell = await retention.of(request[TENANT])
    began = await cell.jobs.now()
    try:
        new = await retention.callbacks.register(request[TENANT], url, secret, customer=customer, began=began, at=cell)
    except ChallengeFailed as error:
        raise Problem(400, f"unable to register callback url '{printable(url)}', {error}") from None
    except TooManyChallenges as error:
        wait = {"Retry-After": str(math.ceil(error.wait.total_seconds()))}
        raise Problem(_TOO_MANY.status, _TOO_MANY.sentence, headers=wait) from None
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
        raise _MISSING.problem()
    return url


_URL = "https://receiver.example/results"
_SIGNATURE = Field(
    name="X-Callback-Signature",
    where="header",
    means="With a `user_secret` only: the HMAC of the challenge, or of the body, in base64. SHA-256, or SHA-1 by a"
    " setting of the service.",
    schema={"type": "string"},
)
_SECRET = Field(
    name="user_secret",
    where="query",
    means="Signs the challenge and all notifications to this URL; empty for none. No control characters.",
    schema={"type": "string", "maxLength": _LONGEST_SECRET, "pattern": r"^[^\u0000-\u001f\u007f-\u009f]*$"},
)
_CALLBACK_URL = Field(
    name="callback_url",
    where="query",
    means="An absolute http or https URL. It counts exactly as it is given.",
    schema={"type": "string", "format": "uri", "minLength": 1},
    required=True,
    example=_URL,
)
_CHALLENGE = Told(
    method="get",
    means="Asks a URL that is to be registered whether it wants to be told.",
    fields=(
        Field(
            name="challenge_string",
            where="query",
            means="To be in the body of the answer.",
            schema={"type": "string"},
            required=True,
        ),
        _SIGNATURE,
    ),
    answers={"200": "It does: the body has the challenge. Within 5 seconds, and without redirects."},
)
_NOTIFICATION = Told(
    method="post",
    means="Tells of a job, at least once. Beside the signature of IBM's there are the headers of Standard Webhooks.",
    fields=(_SIGNATURE,),
    example=Notification(
        id="4bd734c0-e575-41f3-8e03-f932aa0468a0", event="recognitions.started", user_token=USER_TOKEN
    ),
    answers={
        "2XX": "Taken, within 10 seconds. After anything else it is sent again, for a day.",
        "410": "Not wanted any more.",
    },
)

REGISTER = Operation(
    handler=register,
    id="registerCallback",
    tag="Callbacks",
    counts=COSTLY,
    long=True,
    summary="Register a callback URL",
    means="The URL is asked first whether it wants to be told. At most 20 times an hour, unless the service is set up"
    " otherwise.",
    fields=(_CALLBACK_URL, _SECRET, LABEL),
    answers=(
        Answer(
            status=201,
            means="It was asked, and is registered.",
            example=answers.RegisteredCallback(status="created", url=_URL),
        ),
        Answer(
            status=200,
            means="It was registered already. It was asked only if the secret is another one, which now counts.",
            example=answers.RegisteredCallback(status="already created", url=_URL),
        ),
    ),
    refusals=(
        _MISSING,
        _WRONG_SECRET,
        *LABEL_REFUSALS,
        Refusal(400, "unable to register callback url '…', …"),
        ANSWERS[KeyDisabled],
        _TOO_MANY,
    ),
    tells={"challenge": _CHALLENGE, "notification": _NOTIFICATION},
    query=f"?callback_url={_URL}",
    arguments="-X POST",
    python=f"speech.register_callback({_URL!r}, user_secret='…')",
)
UNREGISTER = Operation(
    handler=unregister,
    id="unregisterCallback",
    tag="Callbacks",
    counts=COSTLY,
    summary="Take a callback URL back",
    means="It is not told anything any more, not even of jobs that name it; these go on.",
    fields=(_CALLBACK_URL,),
    answers=(Answer(status=200, means="It is not registered any more."),),
    refusals=(_MISSING, Refusal(404, "callback url '…' is not registered")),
    query=f"?callback_url={_URL}",
    arguments="-X POST",
    python=f"speech.unregister_callback({_URL!r})",
)
