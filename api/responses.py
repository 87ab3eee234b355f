"""What clients get: the bodies of spec 1.3 to 1.6, 1.11 and 1.12, and the headers that every answer bears."""

from collections.abc import Mapping
from datetime import UTC, datetime
from http import HTTPStatus
from typing import Literal

import msgspec
from aiohttp import web
from msgspec import UNSET, Raw, Struct, UnsetType

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

_Status = Literal["waiting", "processing", "completed", "failed"]


class _Created(Struct, frozen=True, kw_only=True):
    id: str
    status: _Status
    created: str
    url: str
    warnings: tuple[str, ...] | UnsetType = UNSET


class _Listed(Struct, frozen=True, kw_only=True):
    id: str
    created: str
    updated: str
    status: _Status
    user_token: str | UnsetType = UNSET


class _Registered(Struct, frozen=True, kw_only=True):
    status: Literal["created", "already created"]
    url: str


class _List(Struct, frozen=True, kw_only=True):
    recognitions: list[_Listed]


class _Features(Struct, frozen=True, kw_only=True):
    custom_language_model: bool = False
    custom_acoustic_model: bool = False
    speaker_labels: bool = False
    low_latency: bool | UnsetType = UNSET


class _Model(Struct, frozen=True, kw_only=True):
    name: str
    language: str
    rate: int
    url: str
    supported_features: _Features
    description: str


class _Models(Struct, frozen=True, kw_only=True):
    models: list[_Model]


class _Failure(Struct, frozen=True, kw_only=True):
    error: str


class _Checked(Struct, frozen=True, kw_only=True):
    id: str
    results: tuple[Raw | _Failure] | UnsetType = UNSET
    created: str
    updated: str
    status: _Status


class _Error(Struct, frozen=True, kw_only=True):
    code: int
    code_description: str
    error: str


class _Bought(Struct, frozen=True, kw_only=True):
    access_token: str
    refresh_token: str = "not_supported"  # noqa: S105 - the contract's word
    token_type: str = "Bearer"  # noqa: S105 - the same
    expires_in: int
    expiration: int
    scope: str = "ibm openid"


class _Authorized(Struct, frozen=True, kw_only=True):
    token: str


class _IamContext(Struct, frozen=True, kw_only=True, rename="camel"):
    request_id: str


class _IamError(Struct, frozen=True, kw_only=True, rename="camel", omit_defaults=True):
    error_code: str
    error_message: str
    error_details: str = ""
    context: _IamContext


class _Nothing(Struct, frozen=True):
    pass


def created(job: Waiting, *, url: str, warnings: tuple[str, ...]) -> web.Response:
    """Present a job that was just accepted (spec 1.3); `url` is its absolute address."""
    return _json(
        HTTPStatus.CREATED,
        _Created(
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
        _Listed(
            id=job.id,
            created=_instant(job.created),
            updated=_instant(job.updated),
            status=_status(job),
            user_token=user_token or UNSET,
        )
        for job, user_token in jobs
    ]
    return _json(HTTPStatus.OK, _List(recognitions=rows))


def checked(job: Job, results: bytes | None) -> web.Response:
    """Present one job (spec 1.5); `results` is the results object of a completed one, as JSON.

    A failed job says why in `results[0].error`, since the contract has no other place for it.
    """
    told: tuple[Raw | _Failure] | UnsetType = UNSET
    if isinstance(job, Completed) and results is not None:
        told = (Raw(results),)
    elif isinstance(job, Failed):
        told = (_Failure(error=FAILURES[job.reason]),)
    return _json(
        HTTPStatus.OK,
        _Checked(
            id=job.id,
            results=told,
            created=_instant(job.created),
            updated=_instant(job.updated),
            status=_status(job),
        ),
    )


def models(models: list[Model], *, engine: str, url: str) -> web.Response:
    """Present all models (spec 1.8); `url` is the absolute address of their list."""
    return _json(HTTPStatus.OK, _Models(models=[_model(model, engine, url) for model in models]))


def model(model: Model, *, engine: str, url: str) -> web.Response:
    """Present one model (spec 1.9)."""
    return _json(HTTPStatus.OK, _model(model, engine, url))


def deleted() -> web.Response:
    """Say that a job is gone (spec 1.6)."""
    return web.Response(status=HTTPStatus.NO_CONTENT, headers=HEADERS)


def registered(url: str, *, new: bool) -> web.Response:
    """Say that a callback URL is registered (spec 1.1)."""
    if new:
        return _json(HTTPStatus.CREATED, _Registered(status="created", url=url))
    return _json(HTTPStatus.OK, _Registered(status="already created", url=url))


def done() -> web.Response:
    """Say that what was asked for is done, with an empty body (spec 1.2, 1.7)."""
    return web.Response(status=HTTPStatus.OK, headers=HEADERS)


def bought(token: str, *, expires_in: int, expiration: int) -> web.Response:
    """Hand out a token that is good for so many seconds, until that unix second (spec 1.11)."""
    return _json(HTTPStatus.OK, _Bought(access_token=token, expires_in=expires_in, expiration=expiration))


def authorized(token: str) -> web.Response:
    """Hand out a token (spec 1.12)."""
    return _json(HTTPStatus.OK, _Authorized(token=token))


def unknown_key(transaction: str) -> web.Response:
    """Say, as IAM does, that an API key buys nothing (spec 1.11)."""
    return _iam_error("BXNIM0415E", "Provided API key could not be found.", transaction)


def unknown_grant(transaction: str, *, taken: str) -> web.Response:
    """Say, as IAM does of a property that is missing, which grant type alone is taken (spec 1.11)."""
    return _iam_error(
        "BXNIM0109E", "Property missing or empty.", transaction, f"Property 'grant_type' must be {taken}."
    )


def health(status: Literal[200, 503]) -> web.Response:
    """Say how the process is, by the status alone: the answer goes to anybody."""
    return _json(status, _Nothing())


def refused(status: int, sentence: str, headers: Mapping[str, str]) -> web.Response:
    """Present an error (spec 1.0, "Error body")."""
    phrase = HTTPStatus(status).phrase
    return _json(status, _Error(code=status, code_description=phrase, error=sentence), headers)


def _iam_error(code: str, message: str, transaction: str, details: str = "") -> web.Response:
    context = _IamContext(request_id=transaction)
    return _json(
        HTTPStatus.BAD_REQUEST,
        _IamError(error_code=code, error_message=message, error_details=details, context=context),
    )


def _json(status: int, body: Struct, headers: Mapping[str, str] | None = None) -> web.Response:
    return web.Response(
        status=status,
        body=msgspec.json.encode(body),
        content_type="application/json",
        headers={**HEADERS, **(headers or {})},
    )


def _model(model: Model, engine: str, url: str) -> _Model:
    # The former generation of models knows no such feature (spec 1.8).
    former = model.name.endswith(("_BroadbandModel", "_NarrowbandModel"))
    return _Model(
        name=model.name,
        language=model.language,
        rate=model.rate,
        url=f"{url}/{model.name}",
        supported_features=_Features(low_latency=UNSET if former else False),
        description=f"{model.language}, recognised by {engine}; every name of a language means the same.",
    )


def _status(job: Job) -> _Status:
    tag: _Status = type(job).__struct_config__.tag  # type: ignore[assignment] # our records' tags are these
    return tag


def _instant(moment: datetime) -> str:
    """Write a moment as spec 2.2 wants it: UTC, milliseconds, Z."""
    return moment.astimezone(UTC).isoformat(timespec="milliseconds").removesuffix("+00:00") + "Z"
