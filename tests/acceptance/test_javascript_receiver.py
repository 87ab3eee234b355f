"""The receiver of the callback tests: it must accept what the contract signs, and nothing else (spec 0.9, 3.1, 3.4)."""

import base64
import hmac
import json
import time
from collections.abc import Iterator
from http.client import HTTPConnection
from typing import Any
from urllib.parse import quote

import pytest

from tests.javascript import Receiver

SECRET = "ThisIsMySecret"
CHALLENGE = "n9ArPGMQ36Hiu7QC"
STARTED = '{"id":"4bd734c0-e575-21f3-de03-f932aa0468a0","event":"recognitions.started","user_token":"job25"}'
VECTORS = {
    "sha256": {
        CHALLENGE: "FyUDXJrry57fCRAWEZF7aYDblcW+Z7SPSVZ7bx9u72M=",
        STARTED: "Nqc6f9hxCrfmJuKclunKslZVBnfK+TNEIXQopzY5hZI=",
    },
    "sha1": {
        CHALLENGE: "dcPyZ0kMudpTxD9q2w9rb9qu6wA=",
        STARTED: "fMac7N+mV99UJrVfgkqL0Y2OZqA=",
    },
}
ID = "msg_2KWPBgLlAfxdpx2AI54pPJ85f4W"
NO_MATCH = {"valid": False, "reason": "No matching signature found"}


@pytest.fixture(params=["sha256", "sha1"])
def hash_(request: pytest.FixtureRequest) -> str:
    """Give each hash in turn."""
    return str(request.param)


@pytest.fixture
def receiver(node: None, hash_: str) -> Iterator[Receiver]:
    """Give a receiver that knows the secret."""
    del node
    with Receiver(secret=SECRET, hash_=hash_) as running:
        yield running


def send(receiver: Receiver, method: str, path: str, body: bytes, headers: dict[str, str]) -> tuple[int, str, Any]:
    """Send one request: the status and the text of the answer, and what the receiver says about it."""
    connection = HTTPConnection("127.0.0.1", receiver.port, timeout=60)
    try:
        connection.request(method, path, body, headers)
        answer = connection.getresponse()
        return answer.status, answer.read().decode(), receiver.told()
    finally:
        connection.close()


def challenge(
    receiver: Receiver, challenge: str, signature: str | None, path: str = "/results?"
) -> tuple[int, str, Any]:
    """Send a challenge."""
    headers = {} if signature is None else {"X-Callback-Signature": signature}
    return send(receiver, "GET", f"{path}challenge_string={quote(challenge)}", b"", headers)


def notify(receiver: Receiver, body: str, headers: dict[str, str]) -> tuple[int, Any]:
    """Send a notification: the status of the answer, and what the receiver says about it."""
    status, _, said = send(receiver, "POST", "/results", body.encode(), headers)
    return status, said


def signed(body: str, secret: str = SECRET, hash_: str = "sha256") -> str:
    """Return the signature of the contract."""
    return base64.b64encode(hmac.digest(secret.encode(), body.encode(), hash_)).decode()


def as_webhook(body: str, *, secret: str = SECRET, id_: str = ID, at: float = 0) -> dict[str, str]:
    """Return the headers of Standard Webhooks, for now or `at` seconds later."""
    timestamp = int(time.time() + at)
    signature = base64.b64encode(hmac.digest(secret.encode(), f"{ID}.{timestamp}.{body}".encode(), "sha256"))
    return {
        "webhook-id": id_,
        "webhook-timestamp": str(timestamp),
        "webhook-signature": f"v1,{signature.decode()}",
    }


def test_the_challenge_of_the_contract_is_echoed(receiver: Receiver, hash_: str) -> None:
    """With the contract's signature: 200 and the challenge, whatever else stands in the query."""
    for path in ("/results?", "/?a=b&"):
        status, text, said = challenge(receiver, CHALLENGE, VECTORS[hash_][CHALLENGE], path)
        assert (status, text) == (200, CHALLENGE)
        assert (said["method"], said["status"], said["challenge"], said["signed"]) == ("GET", 200, CHALLENGE, True)
        assert said["url"] == f"{path}challenge_string={CHALLENGE}"


def wrong_signatures(hash_: str, message: str) -> list[str | None]:
    """Return what is none, almost one, or one of something else."""
    right = VECTORS[hash_][message]
    other = VECTORS["sha1" if hash_ == "sha256" else "sha256"][message]
    hexadecimal = base64.b64decode(right).hex()
    return [None, "", right[:-1], right.rstrip("="), right.lower(), other, hexadecimal, f"{hash_}={right}"]


def test_other_challenges_are_not_echoed(receiver: Receiver, hash_: str) -> None:
    """Signed not at all, otherwise, or for another challenge; or no challenge: 403, and not a word of it."""
    for signature in wrong_signatures(hash_, CHALLENGE):
        status, text, said = challenge(receiver, CHALLENGE, signature)
        assert (status, text, said["signed"]) == (403, "no", False), signature
    assert challenge(receiver, "n9ArPGMQ36Hiu7QD", VECTORS[hash_][CHALLENGE])[:2] == (403, "no")
    assert send(receiver, "GET", "/results", b"", {})[:2] == (403, "no")


def test_the_notification_of_the_contract_is_accepted(receiver: Receiver, hash_: str) -> None:
    """By the contract's signature alone; the library does not know it."""
    status, said = notify(receiver, STARTED, {"X-Callback-Signature": VECTORS[hash_][STARTED]})
    assert (status, said["method"], said["signed"], said["body"]) == (200, "POST", True, STARTED)
    assert said["webhook"] == {"valid": False, "reason": "Missing required headers"}


def test_other_notifications_are_refused(receiver: Receiver, hash_: str) -> None:
    """Signed not at all, otherwise, or for another body: 403."""
    for signature in wrong_signatures(hash_, STARTED):
        headers = {} if signature is None else {"X-Callback-Signature": signature}
        status, said = notify(receiver, STARTED, headers)
        assert (status, said["signed"]) == (403, False), signature
    status, said = notify(receiver, STARTED.replace("25", "26"), {"X-Callback-Signature": VECTORS[hash_][STARTED]})
    assert (status, said["signed"]) == (403, False)


@pytest.mark.parametrize("hash_", ["sha256"], indirect=True)
def test_only_what_javascript_would_have_written_verifies(receiver: Receiver) -> None:
    """The signature is checked over the parsed body, written anew: blanks, escapes and 1.0 are lost on the way."""
    for body, verifies in [
        ('{"a":"schöne Grüße 🎙","b":[1,0.5,true,null]}', True),
        ('{"a": 1}', False),
        ('{"a":"sch\\u00f6ne"}', False),
        ('{"a":1.0}', False),
        ('{"a":1}\n', False),
        ("nothing", False),
    ]:
        status, said = notify(receiver, body, {"X-Callback-Signature": signed(body), **as_webhook(body)})
        assert (status, said["signed"]) == (200 if verifies else 403, verifies), body
        assert said["webhook"]["valid"] is (body != "nothing"), "the library checks the bytes, and then parses"


@pytest.mark.parametrize("hash_", ["sha256"], indirect=True)
def test_the_library_verifies_standard_webhooks(receiver: Receiver) -> None:
    """By the same secret, for this id, this moment and this body only; the contract's signature does not matter."""
    _, said = notify(receiver, STARTED, as_webhook(STARTED))
    assert (said["status"], said["signed"], said["webhook"]) == (403, False, {"valid": True})
    right = as_webhook(STARTED)
    for body, headers, webhook in [
        (STARTED, right | {"webhook-signature": f"v1,AAAA {right['webhook-signature']}"}, {"valid": True}),
        (STARTED.replace("25", "26"), right, NO_MATCH),
        (STARTED, as_webhook(STARTED, secret="another"), NO_MATCH),
        (STARTED, as_webhook(STARTED, id_="msg_another"), NO_MATCH),
        (STARTED, right | {"webhook-signature": right["webhook-signature"].replace("v1,", "v1a,")}, NO_MATCH),
        (STARTED, as_webhook(STARTED, at=-400), {"valid": False, "reason": "Message timestamp too old"}),
        (STARTED, as_webhook(STARTED, at=400), {"valid": False, "reason": "Message timestamp too new"}),
    ]:
        assert notify(receiver, body, headers)[1]["webhook"] == webhook


@pytest.mark.parametrize("hash_", ["sha256"], indirect=True)
def test_a_replay_is_refused(receiver: Receiver) -> None:
    """What was valid is too old ten minutes later; and the clock is right again afterwards."""
    assert receiver.replay() == {"valid": False, "reason": "nothing has come yet"}
    for _ in range(2):
        assert notify(receiver, STARTED, as_webhook(STARTED))[1]["webhook"] == {"valid": True}
        assert receiver.replay() == {"valid": False, "reason": "Message timestamp too old"}


@pytest.mark.parametrize("hash_", ["sha256"], indirect=True)
def test_it_answers_once_as_it_is_told(receiver: Receiver) -> None:
    """The next request gets the status asked for, whatever it is worth; the one after it does not."""
    receiver.answer(503)
    headers = {"X-Callback-Signature": VECTORS["sha256"][STARTED]}
    assert [notify(receiver, STARTED, headers)[0] for _ in range(2)] == [503, 200]


def test_without_a_secret_everything_is_accepted(node: None) -> None:
    """A receiver that registered without a secret has nothing to verify with."""
    del node
    with Receiver() as receiver:
        assert challenge(receiver, CHALLENGE, None)[:2] == (200, CHALLENGE)
        status, said = notify(receiver, STARTED, {})
    assert (status, json.loads(said["body"])["user_token"]) == (200, "job25")
