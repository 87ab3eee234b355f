"""How answers are made: the bodies of `api.answers`, and the headers that every answer bears."""

from collections.abc import Mapping
from datetime import UTC, datetime
from http import HTTPStatus
from typing import Literal

import msgspec
from aiohttp import web
from msgspec import UNSET, Raw, Struct, UnsetType

from api import answers
from retention.job import Completed, Failed, FailureReason, Job, Waiting
from retention.offer import Model

HEADERS: Mapping[str, str] = {
    "Cache-Control": "no-store",  # transcripts are personal data (spec 1.0)
    "Content-Security-Policy": "default-src 'none'; frame-ancestors 'none'",
    "Referrer-Policy": "no-referrer",
    "Server": "volant",  # instead of aiohttp's, which tells versions
    "X-Content-Type-Options": "nosniff",
}

FAILURES: Mapping[FailureReason, str] = {
    "undecodable": "unable to transcode data stream -> audio/x-float-array",
    "too_long": "the audio is longer than this service accepts",
    "attempts_spent": "recognition was begun several times and never finished",
    "deadline": "the job could not be finished in time",
    "audio_missing": "the audio of the job was lost",
    "engine": "the recognition engine failed",
    "model": "the model is no longer served",
}
"""What a client reads of a failed job. The first is IBM's wording (spec 1.3), without the type of the stream."""


def created(job: Waiting, *, url: str, warnings: tuple[str, ...]) -> web.Response:
    """Present a job that was just accepted (spec 1.3); `url` is its absolute address."""
    return _json(
        HTTPStatus.CREATED,
        answers.CreatedJob(
            id=job.id,
            status=_status(job),
            created=_instant(job.created),
            url=url,
            warnings=warnings or UNSET,
        ),
    )


def listed(jobs: list[tuple[Job, str]]) -> web.Response:
    """Present a tenant's jobs, in the order given, each with its user token if it has one (spec 1.4)."""
    rows = [
        answers.ListedJob(
            id=job.id,
            created=_instant(job.created),
            updated=_instant(job.updated),
            status=_status(job),
            user_token=user_token or UNSET,
        )
        for job, user_token in jobs
    ]
    return _json(HTTPStatus.OK, answers.ListedJobs(recognitions=rows))


def checked(job: Job, results: bytes | None) -> web.Response:
    """Present one job (spec 1.5); `results` is the results object of a completed one, as JSON.

    A failed job says why in `results[0].error`, since the contract has no other place for it.
    """
    told: tuple[Raw] | UnsetType = UNSET
    if isinstance(job, Completed) and results is not None:
        told = (Raw(results),)
    elif isinstance(job, Failed):
        told = (Raw(msgspec.json.encode(answers.Failure(error=FAILURES[job.reason]))),)
    return _json(
        HTTPStatus.OK,
        answers.CheckedJob(
            id=job.id,
            results=told,
            created=_instant(job.created),
            updated=_instant(job.updated),
            status=_status(job),
        ),
    )


def models(models: list[Model], *, engine: str, url: str) -> web.Response:
    """Present all models (spec 1.8); `url` is the absolute address of their list."""
    return _json(HTTPStatus.OK, answers.Models(models=[_model(model, engine, url) for model in models]))


def model(model: Model, *, engine: str, url: str) -> web.Response:
    """Present one model (spec 1.9)."""
    return _json(HTTPStatus.OK, _model(model, engine, url))


def deleted() -> web.Response:
    """Say that a job is gone (spec 1.6)."""
    return web.Response(status=HTTPStatus.NO_CONTENT, headers=HEADERS)


def registered(url: str, *, new: bool) -> web.Response:
    """Say that a callback URL is registered (spec 1.1)."""
    if new:
        return _json(HTTPStatus.CREATED, answers.RegisteredCallback(status="created", url=url))
    return _json(HTTPStatus.OK, answers.RegisteredCallback(status="already created", url=url))


def done() -> web.Response:
    """Say that what was asked for is done, with an empty body (spec 1.2, 1.7)."""
    return web.Response(status=HTTPStatus.OK, headers=HEADERS)


def bought(token: str, *, expires_in: int, expiration: int) -> web.Response:
    """Hand out a token that is good for so many seconds, until that unix second (spec 1.11)."""
    return _json(HTTPStatus.OK, answers.IamToken(access_token=token, expires_in=expires_in, expiration=expiration))


def authorized(token: str) -> web.Response:
    """Hand out a token (spec 1.12)."""
    return _json(HTTPStatus.OK, answers.Token(token=token))


def unknown_key(transaction: str) -> web.Response:
    """Say, as IAM does, that an API key buys nothing (spec 1.11)."""
    return _iam_error("BXNIM0415E", "Provided API key could not be found.", transaction)


def unknown_grant(transaction: str, *, taken: str) -> web.Response:
    """Say, as IAM does of a property that is missing, which grant type alone is taken (spec 1.11)."""
    return _iam_error(
        "BXNIM0109E", "Property missing or empty.", transaction, f"Property 'grant_type' must be {taken}."
    )


def alive() -> web.Response:
    """Say that the process answers."""
    return _json(HTTPStatus.OK, answers.Nothing())


def ready(status: Literal[200, 503], least_privilege: Literal["held", "exceeded", "no user"]) -> web.Response:
    """Say how the process is, by the status, and whether Redis binds it: the answer goes to anybody."""
    return _json(status, answers.Ready(least_privilege))


def refused(status: int, sentence: str, headers: Mapping[str, str]) -> web.Response:
    """Present an error (spec 1.0, "Error body")."""
    phrase = HTTPStatus(status).phrase
    return _json(status, answers.Error(code=status, code_description=phrase, error=sentence), headers)


def _iam_error(code: str, message: str, transaction: str, details: str = "") -> web.Response:
    context = answers.IamContext(request_id=transaction)
    return _json(
        HTTPStatus.BAD_REQUEST,
        answers.IamError(error_code=code, error_message=message, error_details=details or UNSET, context=context),
    )


def _json(status: int, body: Struct, headers: Mapping[str, str] | None = None) -> web.Response:
    return web.Response(
        status=status,
        body=msgspec.json.encode(body),
        content_type="application/json",
        headers={**HEADERS, **(headers or {})},
    )


def _model(model: Model, engine: str, url: str) -> answers.Model:
    # The former generation of models knows no such feature (spec 1.8).
    former = model.name.endswith(("_BroadbandModel", "_NarrowbandModel"))
    return answers.Model(
        name=model.name,
        language=model.language,
        rate=model.rate,
        url=f"{url}/{model.name}",
        supported_features=answers.SupportedFeatures(low_latency=UNSET if former else False),
        description=f"{model.language}, recognised by {engine}; every name of a language means the same.",
    )


def _status(job: Job) -> answers.Status:
    tag: answers.Status = type(job).__struct_config__.tag  # type: ignore[assignment] # our records' tags are these
    return tag


def _instant(moment: datetime) -> str:
    """Write a moment as spec 2.2 wants it: UTC, milliseconds, Z."""
    return moment.astimezone(UTC).isoformat(timespec="milliseconds").removesuffix("+00:00") + "Z"
