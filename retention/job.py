"""What a job is: one record type per status, and the moves between them.

A field exists exactly when it means something. A move is a pure function from one status type to
another, so an illegal move is a type error; its signature is the only place where the rule is
written. Deleted and expired are absences: they have no record. `now` is always given, in aware UTC
datetimes of whole milliseconds; nothing here reads a clock.
"""

import uuid
from datetime import datetime, timedelta
from typing import Literal, NewType

from msgspec import Struct

JobId = NewType("JobId", str)
"""A UUIDv4 in its canonical text form. Never reused."""

TenantId = NewType("TenantId", str)
"""An instance with credentials. Random, so that a deleted tenant's id never comes back."""

CustomerTag = NewType("CustomerTag", str)
"""A keyed digest of a customer id: equality without the value."""

RegistrationId = NewType("RegistrationId", str)
"""One registration of a callback URL: its tag and a random part, so that registering again is another one."""

Event = Literal[
    "recognitions.started",
    "recognitions.completed",
    "recognitions.completed_with_results",
    "recognitions.failed",
]
"""What a client may be told of (spec 3.2)."""

FailureReason = Literal["undecodable", "too_long", "attempts_spent", "deadline", "audio_missing", "engine", "model"]
"""Why a job failed, as stored. The words that clients read are in `api/responses.py`."""

ATTEMPTS = 3
"""How often a job is tried before it fails. Orderly stops and outages are not counted."""


SAMPLING_RATES = range(1_000, 384_001)
"""The rates of audio that is taken, in samples a second. A header may claim 1, and a few bytes would be hours."""


class Media(Struct, frozen=True, kw_only=True):
    """The declared or detected form of the audio (spec 5.1). `type` is one of our canonical media types.

    The rest is known of raw audio only: `rate` of alaw, l16 and mulaw, `channels` and `endianness` of l16,
    where None asks for detection.
    """

    type: str
    rate: int | None = None
    channels: int = 1
    endianness: Literal["big-endian", "little-endian"] | None = None


PAUSE = 0.8
"""Seconds of a pause that ends an utterance, unless the client asks otherwise (spec 1.3)."""


class Recognition(Struct, frozen=True, kw_only=True):
    """What of the contract's recognition parameters is honoured for a job, under their names (spec 1.3)."""

    model: str
    timestamps: bool = False
    word_confidence: bool = False
    max_alternatives: int = 1
    keywords: tuple[str, ...] = ()
    keywords_threshold: float | None = None
    profanity_filter: bool = False
    end_of_phrase_silence_time: float = PAUSE
    """Seconds of a pause that ends an utterance."""
    split_transcript_at_phrase_end: bool = False
    speech_detector_sensitivity: float = 0.5
    audio_metrics: bool = False
    processing_metrics: bool = False
    enrichments: str = ""
    warnings: tuple[str, ...] = ()


class Submission(Recognition, frozen=True, kw_only=True):
    """What the client asked for. Sealed at rest; never changes while the job lives."""

    media: Media
    began: datetime | None = None
    """When the upload began."""
    learning_opt_out: bool = True
    """Whether the request log must not keep it (spec 6.3). What was accepted without a decision is opted out."""


class Callback(Struct, frozen=True, kw_only=True):
    """Who is told of a job, and of what. The URL is the registration's; a user token is sealed beside the record."""

    registration: RegistrationId
    events: tuple[Event, ...]


class _Record(Struct, frozen=True, kw_only=True, tag_field="status"):
    id: JobId
    tenant: TenantId
    revision: int
    created: datetime
    updated: datetime
    results_ttl: timedelta
    customer: CustomerTag | None = None
    callback: Callback | None = None


class Waiting(_Record, tag="waiting", frozen=True, kw_only=True):
    """Accepted and not begun. `deadline` is when it fails if it is still unfinished."""

    deadline: datetime


class Processing(_Record, tag="processing", frozen=True, kw_only=True):
    """Held by a worker. `attempts` counts this one; `holder` is the token of the worker's lease."""

    deadline: datetime
    attempts: int
    holder: str


class Completed(_Record, tag="completed", frozen=True, kw_only=True):
    """Recognised; the sealed result is readable until `expires`."""

    expires: datetime


class Failed(_Record, tag="failed", frozen=True, kw_only=True):
    """Ended without a result; readable, with its reason, until `expires`."""

    expires: datetime
    reason: FailureReason


Unfinished = Waiting | Processing
Final = Completed | Failed
Job = Unfinished | Final


def new_job_id() -> JobId:
    """Return a fresh random id (UUIDv4, 122 random bits; it is a name, not a capability)."""
    return JobId(str(uuid.uuid4()))


def accept(
    job_id: JobId,
    tenant: TenantId,
    *,
    now: datetime,
    results_ttl: timedelta,
    patience: timedelta,
    customer: CustomerTag | None = None,
    callback: Callback | None = None,
) -> Waiting:
    """Begin a job. It fails if it is unfinished after `patience`."""
    return Waiting(
        id=job_id,
        tenant=tenant,
        revision=1,
        created=now,
        updated=now,
        results_ttl=results_ttl,
        customer=customer,
        callback=callback,
        deadline=now + patience,
    )


def claim(job: Waiting, *, now: datetime, holder: str) -> Processing:
    """Begin the first attempt."""
    return _process(job, updated=now, attempts=1, holder=holder)


def reclaim(job: Processing, *, holder: str) -> Processing:
    """Begin another attempt: the lease of the one before has lapsed, or it was handed back.

    `updated` stays: what a client sees has not changed (spec 2.1).
    """
    return _process(job, updated=job.updated, attempts=job.attempts + 1, holder=holder)


def hand_back(job: Processing) -> Processing:
    """Give up an attempt without counting it: the worker stops in good order."""
    return _process(job, updated=job.updated, attempts=job.attempts - 1, holder="")


def complete(job: Processing, *, now: datetime) -> Completed:
    """End with a result, kept for `results_ttl` from now (spec 2.3)."""
    return Completed(
        id=job.id,
        tenant=job.tenant,
        revision=job.revision + 1,
        created=job.created,
        updated=now,
        results_ttl=job.results_ttl,
        customer=job.customer,
        callback=job.callback,
        expires=now + job.results_ttl,
    )


def fail(job: Waiting | Processing, reason: FailureReason, *, now: datetime) -> Failed:
    """End without a result; the record is kept as long as a result would have been (spec 2.3)."""
    return Failed(
        id=job.id,
        tenant=job.tenant,
        revision=job.revision + 1,
        created=job.created,
        updated=now,
        results_ttl=job.results_ttl,
        customer=job.customer,
        callback=job.callback,
        expires=now + job.results_ttl,
        reason=reason,
    )


def _process(job: Unfinished, *, updated: datetime, attempts: int, holder: str) -> Processing:
    return Processing(
        id=job.id,
        tenant=job.tenant,
        revision=job.revision + 1,
        created=job.created,
        updated=updated,
        results_ttl=job.results_ttl,
        customer=job.customer,
        callback=job.callback,
        deadline=job.deadline,
        attempts=attempts,
        holder=holder,
    )
