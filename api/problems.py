"""What is answered when a request cannot be served: the one table from errors to statuses, and refusals of our own."""

import math
from collections.abc import Mapping
from http import HTTPStatus

from aiohttp import web
from msgspec import Struct

from api import responses
from retention import errors

RETRY_AFTER: Mapping[str, str] = {"Retry-After": "5"}
"""Sent with 503, and never with 413, which clients would then repeat (spec 1.0)."""

_SHOWN = 200


class Refusal(Struct, frozen=True):
    """A status, and the sentence that the client reads."""

    status: int
    sentence: str
    headers: Mapping[str, str] = {}

    def problem(self) -> "Problem":
        """Return what to raise. A new one each time: an exception holds on to where it was raised before."""
        return Problem(self.status, self.sentence, headers=self.headers)


class Problem(Exception):
    """A request is refused with this status and this sentence."""

    def __init__(self, status: int, sentence: str, *, headers: Mapping[str, str] | None = None) -> None:
        super().__init__(status, sentence)
        self.refusal = Refusal(status, sentence, headers or {})


INTERNAL = Refusal(HTTPStatus.INTERNAL_SERVER_ERROR, "The service met an error of its own.")
MALFORMED = Refusal(HTTPStatus.BAD_REQUEST, "The request is not valid HTTP, or its head is too long.")
TOO_LONG = Refusal(HTTPStatus.REQUEST_URI_TOO_LONG, "The path and the query are longer than 64 KiB together.")
JOB_NOT_FOUND = Refusal(HTTPStatus.NOT_FOUND, "job not found")
PATH_NOT_FOUND = Refusal(HTTPStatus.NOT_FOUND, "There is nothing at this path.")
UNAUTHORIZED = Refusal(HTTPStatus.UNAUTHORIZED, "Unauthorized", {"WWW-Authenticate": 'Basic realm="Speech to Text"'})
NOT_FROM_HERE = Refusal(
    HTTPStatus.FORBIDDEN, "This instance may not be used through this endpoint, or not from this address."
)
WRONG_CREDENTIALS = Refusal(
    HTTPStatus.TOO_MANY_REQUESTS, "Too many wrong credentials came from this address; wait.", {"Retry-After": "60"}
)
"""With the seconds that it is really to wait in the place of these."""
LIMITED = Refusal(HTTPStatus.TOO_MANY_REQUESTS, "The limit of … is reached; wait.", {"Retry-After": "1"})
"""With the name of the limit, and the seconds after which it is worth to come again, in the place of these."""

_LIMITS: Mapping[str, str] = {
    "submits": "submissions a second",
    "polls": "requests a second",
    "tokens": "tokens a second",
    "waiting": "waiting jobs",
    "bytes": "bytes of waiting audio",
    "uploads": "uploads at once",
    "audio": "audio a day",
}
CALLBACK_REFUSED = Refusal(HTTPStatus.BAD_REQUEST, "The callback URL is not valid, or its server did not answer.")
UNAVAILABLE = Refusal(
    HTTPStatus.SERVICE_UNAVAILABLE, "The service is unavailable for a moment; try again.", RETRY_AFTER
)

ANSWERS: Mapping[type[errors.RetentionError], Refusal] = {
    errors.NotFound: JOB_NOT_FOUND,
    errors.JobProcessing: Refusal(HTTPStatus.BAD_REQUEST, "job is being processed and cannot be deleted"),
    errors.Superseded: UNAVAILABLE,  # the service decides again by itself; a client that sees it may, too
    errors.TenantGone: UNAUTHORIZED,  # its credentials went with it
    errors.CustomerErased: Refusal(HTTPStatus.BAD_REQUEST, "the customer's data was erased while this request came in"),
    errors.CellRefused: INTERNAL,  # only an operator's command moves a tenant
    errors.NotRegistered: Refusal(HTTPStatus.BAD_REQUEST, "the callback url is not registered"),
    errors.ChallengeFailed: Refusal(HTTPStatus.BAD_REQUEST, "the callback url could not be registered"),
    errors.TooManyChallenges: Refusal(HTTPStatus.TOO_MANY_REQUESTS, "too many callback urls were registered"),
    errors.LimitReached: LIMITED,
    errors.AudioMissing: INTERNAL,  # the front never reads audio
    errors.Unsealable: INTERNAL,
    errors.KeyDisabled: Refusal(HTTPStatus.FORBIDDEN, "the key of this instance is disabled"),
    errors.KeyRefused: INTERNAL,  # an operator's matter
    errors.WrapRefused: INTERNAL,  # the service wraps anew
    errors.KeyUnavailable: JOB_NOT_FOUND,  # what cannot be opened any more is gone (promise P3)
    errors.NothingOffered: Refusal(
        HTTPStatus.SERVICE_UNAVAILABLE, "No recognition engine has started yet; try again.", RETRY_AFTER
    ),
    errors.Denied: CALLBACK_REFUSED,
    errors.Unreachable: CALLBACK_REFUSED,
    errors.AuditBroken: UNAVAILABLE,  # only the log says why, and the operator acts
    errors.Unavailable: UNAVAILABLE,
    errors.SettingsError: INTERNAL,
}
"""The answer to each error of the domain. Everything else is INTERNAL, and only the log learns of what kind."""


def answer(error: Exception) -> web.Response:
    """Present whatever was raised while a request was served."""
    if isinstance(error, Problem):
        return present(error.refusal)
    if isinstance(error, errors.LimitReached):
        return present(_limited(error))
    if isinstance(error, errors.RetentionError):
        return present(ANSWERS[type(error)])
    if isinstance(error, web.HTTPNotFound):  # of a target that is no path: `OPTIONS *`, `CONNECT host:port`
        return present(PATH_NOT_FOUND)
    return present(INTERNAL)


def _limited(error: errors.LimitReached) -> Refusal:
    seconds = max(1, math.ceil(error.wait.total_seconds()))  # whole ones, and never too few (RFC 9110 §10.2.3)
    return Refusal(LIMITED.status, LIMITED.sentence.replace("…", _LIMITS[error.limit]), {"Retry-After": str(seconds)})


def present(refusal: Refusal) -> web.Response:
    """Return the answer that refuses."""
    return responses.refused(refusal.status, refusal.sentence, refusal.headers)


def printable(text: str) -> str:
    """Return what a client sent in a form that fits into an answer: short, and always valid UTF-8."""
    return text[:_SHOWN].encode(errors="replace").decode()
