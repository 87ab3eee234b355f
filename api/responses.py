"""What clients get: the bodies of spec 1.3 to 1.6 and the headers that every answer bears."""

from collections.abc import Mapping
from datetime import UTC, datetime
from http import HTTPStatus
from typing import Literal

import msgspec
from aiohttp import web
from msgspec import UNSET, Raw, Struct, UnsetType

from retention.job import Completed, Failed, FailureReason, Job, Waiting

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


class _List(Struct, frozen=True, kw_only=True):
    recognitions: list[_Listed]


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


def listed(jobs: list[Job]) -> web.Response:
    """Present a tenant's jobs, in the order given (spec 1.4)."""
    rows = [
        _Listed(id=job.id, created=_instant(job.created), updated=_instant(job.updated), status=_status(job))
        for job in jobs
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


def deleted() -> web.Response:
    """Say that a job is gone (spec 1.6)."""
    return web.Response(status=HTTPStatus.NO_CONTENT, headers=HEADERS)


def health(status: Literal[200, 503]) -> web.Response:
    """Say how the process is, by the status alone: the answer goes to anybody."""
    return _json(status, _Nothing())


def refused(status: int, sentence: str, headers: Mapping[str, str]) -> web.Response:
    """Present an error (spec 1.0, "Error body")."""
    phrase = HTTPStatus(status).phrase
    return _json(status, _Error(code=status, code_description=phrase, error=sentence), headers)


def _json(status: int, body: Struct, headers: Mapping[str, str] | None = None) -> web.Response:
    return web.Response(
        status=status,
        body=msgspec.json.encode(body),
        content_type="application/json",
        headers={**HEADERS, **(headers or {})},
    )


def _status(job: Job) -> _Status:
    tag: _Status = type(job).__struct_config__.tag  # type: ignore[assignment] # our records' tags are these
    return tag


def _instant(moment: datetime) -> str:
    """Write a moment as spec 2.2 wants it: UTC, milliseconds, Z."""
    return moment.astimezone(UTC).isoformat(timespec="milliseconds").removesuffix("+00:00") + "Z"
