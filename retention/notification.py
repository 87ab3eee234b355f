"""What a client is told about a job: which move is an event, its body, its signatures, and when it is tried again.

Knows no receiver and no store. The contract is spec section 3; the second pair of signatures, with which
a receiver can refuse replays, is that of Standard Webhooks (standardwebhooks.com).
"""

import base64
import hashlib
import hmac
import random
from collections.abc import Mapping
from datetime import datetime, timedelta
from typing import Literal

import msgspec
from msgspec import UNSET, Raw, Struct, UnsetType

from retention.job import Completed, Event, Failed, Job, JobId, Processing, Waiting
from retention.results import EncodedResults

DEFAULT_EVENTS: tuple[Event, ...] = ("recognitions.started", "recognitions.completed", "recognitions.failed")
"""What is told when the client names no events (spec 1.3)."""

GIVE_UP_AFTER = timedelta(days=1)
"""A notification that was not taken for so long is dead (spec 3.5)."""

GONE = 410
"""The status by which a receiver asks not to be told again (spec 3.5)."""

Hash = Literal["sha256", "sha1"]
"""The hash of `X-Callback-Signature`: IBM's documentation says SHA-256, its receivers verify SHA-1 (spec 3.4)."""

_DELAYS = (1.0, 5.0, 30.0, 120.0, 600.0)
_LAST_DELAY = 3600.0
_FIRST_CLAIM = 2


class Pending(Struct, frozen=True, kw_only=True):
    """An event that is still to be told: how often it was tried, and since when (unix milliseconds)."""

    event: Event
    since: int
    tries: int = 0


class Notification(Struct, frozen=True, kw_only=True):
    """What a receiver reads. `user_token` is empty if there is none; `results` is of completed_with_results only."""

    id: str
    event: Event
    user_token: str
    results: tuple[EncodedResults] | UnsetType = UNSET


def event_of(job: Job) -> Event | None:
    """Return the event that the move to this record is, if its client wants to be told of it (spec 3.2).

    A job starts once, whatever becomes of its attempts: with its second revision.
    """
    if job.callback is None:
        return None
    wanted = job.callback.events
    happened: tuple[Event, ...]
    match job:
        case Waiting():
            return None
        case Processing():
            happened = ("recognitions.started",) if job.revision == _FIRST_CLAIM else ()
        case Completed():
            happened = ("recognitions.completed", "recognitions.completed_with_results")
        case Failed():
            happened = ("recognitions.failed",)
    return next((event for event in happened if event in wanted), None)


def body(job: JobId, event: Event, user_token: str, results: bytes | None) -> bytes:
    """Return the notification: compact JSON in UTF-8, always the same for the same event (spec 3.3, 0.9).

    `results` is the results object as JSON; only `completed_with_results` has one.
    """
    told = UNSET if results is None else (Raw(as_javascript_writes(results)),)
    return msgspec.json.encode(Notification(id=job, event=event, user_token=user_token, results=told))


def as_javascript_writes(document: bytes) -> bytes:
    """Return JSON with whole numbers as integers: receivers verify signatures over `JSON.stringify` (spec 3.3)."""
    return msgspec.json.encode(_integral(msgspec.json.decode(document)))


def signatures(secret: str | None, message: bytes, *, hash_: Hash, message_id: str, now: datetime) -> Mapping[str, str]:
    """Return the headers that prove where a notification comes from (spec 3.4, Standard Webhooks).

    Without a secret there is nothing to sign with, and only the id and the moment are told.
    """
    moment = str(int(now.timestamp()))
    headers = {"webhook-id": message_id, "webhook-timestamp": moment}
    if secret is not None:
        key = secret.encode()
        signed = hmac.digest(key, f"{message_id}.{moment}.".encode() + message, "sha256")
        headers["webhook-signature"] = f"v1,{base64.b64encode(signed).decode()}"
        headers["X-Callback-Signature"] = signature(secret, message, hash_)
    return headers


def signature(secret: str, message: bytes, hash_: Hash) -> str:
    """Return the value of `X-Callback-Signature` for a notification or a challenge (spec 3.4)."""
    return base64.b64encode(hmac.new(secret.encode(), message, getattr(hashlib, hash_)).digest()).decode()


def delay(tries: int) -> timedelta:
    """Return how long to wait after so many failed tries, scattered by a fifth (spec 3.5)."""
    seconds = _DELAYS[tries - 1] if tries <= len(_DELAYS) else _LAST_DELAY
    return timedelta(seconds=seconds * random.uniform(0.8, 1.2))


def _integral(value: object) -> object:
    match value:
        case float() if value.is_integer():
            return int(value)
        case list():
            return [_integral(item) for item in value]
        case dict():
            return {key: _integral(item) for key, item in value.items()}
        case _:
            return value
