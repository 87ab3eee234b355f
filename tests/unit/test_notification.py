"""What a client is told: events, bodies, signatures, and when it is tried again (spec section 3)."""

import base64
import hmac
from datetime import UTC, datetime, timedelta
from typing import get_args

import pytest

from retention.job import (
    Callback,
    Event,
    Job,
    JobId,
    RegistrationId,
    TenantId,
    Waiting,
    accept,
    claim,
    complete,
    fail,
    hand_back,
    reclaim,
)
from retention.notification import as_javascript_writes, body, delay, event_of, signature, signatures

NOW = datetime(2026, 8, 17, 19, 15, 17, tzinfo=UTC)
ID = JobId("4bd734c0-e575-21f3-de03-f932aa0468a0")
SECRET = "ThisIsMySecret"
CHALLENGE = b"n9ArPGMQ36Hiu7QC"
STARTED = b'{"id":"4bd734c0-e575-21f3-de03-f932aa0468a0","event":"recognitions.started","user_token":"job25"}'


def job(*events: Event) -> Waiting:
    callback = Callback(registration=RegistrationId("r"), events=events)
    return accept(
        ID, TenantId("t"), now=NOW, results_ttl=timedelta(hours=1), patience=timedelta(days=7), callback=callback
    )


def test_a_job_starts_once_and_ends_once() -> None:
    """Whatever becomes of its attempts."""
    waiting = job("recognitions.started", "recognitions.completed", "recognitions.failed")
    first = claim(waiting, now=NOW, holder="a")
    second = reclaim(hand_back(first), holder="b")
    history: list[Job] = [waiting, first, hand_back(first), second, complete(second, now=NOW)]
    assert [event_of(each) for each in history] == [
        None,
        "recognitions.started",
        None,
        None,
        "recognitions.completed",
    ]
    assert event_of(fail(second, "engine", now=NOW)) == "recognitions.failed"
    assert event_of(fail(waiting, "deadline", now=NOW)) == "recognitions.failed"


@pytest.mark.parametrize("wanted", get_args(Event))
def test_only_what_was_asked_for_is_told(wanted: Event) -> None:
    """A subset of the events is a subset of the notifications."""
    waiting = job(wanted)
    held = claim(waiting, now=NOW, holder="a")
    told = [event_of(each) for each in (held, complete(held, now=NOW), fail(held, "engine", now=NOW))]
    assert [event for event in told if event] == [wanted]


def test_a_job_without_callback_tells_nothing() -> None:
    """There is nobody to be told."""
    waiting = accept(ID, TenantId("t"), now=NOW, results_ttl=timedelta(hours=1), patience=timedelta(days=7))
    assert event_of(complete(claim(waiting, now=NOW, holder="a"), now=NOW)) is None


def test_the_body_is_compact_utf8_in_the_order_of_the_contract() -> None:
    """The user token is always there, nothing is escaped, and results come only with results."""
    assert body(ID, "recognitions.started", "job25", None) == STARTED
    assert body(ID, "recognitions.failed", "Zoë ✓", None).endswith('"user_token":"Zoë ✓"}'.encode())
    with_results = body(ID, "recognitions.completed_with_results", "", b'{"results":[],"result_index":0}')
    assert with_results.endswith(b'"user_token":"","results":[{"results":[],"result_index":0}]}')


def test_numbers_are_as_javascript_writes_them() -> None:
    """Receivers sign `JSON.stringify` of what they parsed."""
    given = b'{"a":1.0,"b":[0.5,2.0,["word",1.0,1.52]],"c":{"d":0.0},"e":1,"f":true}'
    assert as_javascript_writes(given) == b'{"a":1,"b":[0.5,2,["word",1,1.52]],"c":{"d":0},"e":1,"f":true}'


@pytest.mark.parametrize(
    ("message", "sha256", "sha1"),
    [
        (CHALLENGE, "FyUDXJrry57fCRAWEZF7aYDblcW+Z7SPSVZ7bx9u72M=", "dcPyZ0kMudpTxD9q2w9rb9qu6wA="),
        (STARTED, "Nqc6f9hxCrfmJuKclunKslZVBnfK+TNEIXQopzY5hZI=", "fMac7N+mV99UJrVfgkqL0Y2OZqA="),
    ],
)
def test_the_signature_vectors_of_the_contract(message: bytes, sha256: str, sha1: str) -> None:
    """Spec 3.4."""
    assert signature(SECRET, message, "sha256") == sha256
    assert signature(SECRET, message, "sha1") == sha1


def test_both_pairs_of_signatures_are_sent() -> None:
    """IBM's over the body alone, Standard Webhooks' over id, moment and body."""
    headers = signatures(SECRET, STARTED, hash_="sha1", message_id="m1", now=NOW)
    assert headers["X-Callback-Signature"] == "fMac7N+mV99UJrVfgkqL0Y2OZqA="
    assert (headers["webhook-id"], headers["webhook-timestamp"]) == ("m1", "1786994117")
    version, _, signed = headers["webhook-signature"].partition(",")
    expected = hmac.digest(SECRET.encode(), b"m1.1786994117." + STARTED, "sha256")
    assert (version, base64.b64decode(signed)) == ("v1", expected)


def test_without_a_secret_nothing_is_signed() -> None:
    """The id is sent all the same: receivers tell repetitions by it."""
    headers = signatures(None, STARTED, hash_="sha256", message_id="m1", now=NOW)
    assert set(headers) == {"webhook-id", "webhook-timestamp"}


@pytest.mark.parametrize(("tries", "seconds"), [(1, 1), (2, 5), (3, 30), (4, 120), (5, 600), (6, 3600), (20, 3600)])
def test_retries_are_ever_further_apart(tries: int, seconds: int) -> None:
    """Spec 3.5, scattered by a fifth, so that those that failed together do not come back together."""
    waits = {delay(tries) for _ in range(50)}
    assert all(timedelta(seconds=0.8 * seconds) <= wait <= timedelta(seconds=1.2 * seconds) for wait in waits)
    assert len(waits) > 1
