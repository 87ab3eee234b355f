"""IBM's Node SDK and a receiver in JavaScript: callbacks, and erasure (spec 1.1, 1.2, 1.7 and 3)."""

import json
import os
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from deploy.stack import Stack
from tests.javascript import Program, Receiver, Sdk
from tests.recognizers import CALLING, recording
from tests.stack import StartStack

SECRET = "Geheimnis, größer als ASCII"
TOKEN = 'Auftrag 25 für "Grüße" 🎙'
STARTED, COMPLETED, WITH_RESULTS, FAILED = (
    f"recognitions.{event}" for event in ("started", "completed", "completed_with_results", "failed")
)


def sdk_of(stack: Stack, drive: Program) -> Sdk:
    """Return the SDK for a tenant of its own: only so many registrations an hour are allowed to one."""
    return Sdk(drive, auth="basic", url=stack.url, apikey=stack.new_tenant("node callbacks")[1])


@pytest.fixture
def sdk(calling: Stack, drive: Program) -> Sdk:
    """Give the SDK for a new tenant."""
    return sdk_of(calling, drive)


@pytest.fixture
def receiver(node: None) -> Iterator[Receiver]:
    """Give a receiver that knows the secret."""
    del node
    with Receiver(secret=SECRET) as running:
        yield running


@pytest.fixture
def wav(tmp_path: Path) -> dict[str, str]:
    """Give audio that is recognised at once."""
    path = tmp_path / "audio.wav"
    path.write_bytes(recording(0))
    return {"stream": str(path)}


@pytest.fixture
def broken(tmp_path: Path) -> dict[str, str]:
    """Give audio that is accepted, and fails."""
    path = tmp_path / "broken.wav"
    path.write_bytes(b"RIFF\x00\x10\x00\x00WAVE\x00" + os.urandom(50_000))
    return {"stream": str(path)}


def register(sdk: Sdk, receiver: Receiver, secret: str | None = SECRET, **more: object) -> str:
    """Register the receiver, and see it challenged. Returns its URL."""
    secrets = {} if secret is None else {"userSecret": secret}
    answer = sdk.call("registerCallback", callbackUrl=receiver.url, **secrets, **more)
    assert (answer.get("status"), answer.get("result")) == (201, {"status": "created", "url": receiver.url}), answer
    said = receiver.told()
    assert (said["method"], said["status"], said["signed"]) == ("GET", 200, secret is not None)
    return receiver.url


def verified(said: Any) -> Any:
    """Return the body of a notification that both ways of verifying have accepted."""
    assert (said["method"], said["url"], said["status"]) == ("POST", "/results", 200)
    assert said["headers"]["content-type"].startswith("application/json")
    assert (said["signed"], said["webhook"]) == (True, {"valid": True})
    return json.loads(said["body"])


def test_a_registration_is_a_challenge(sdk: Sdk, receiver: Receiver) -> None:
    """Signed, in text, beside whatever the URL asks; once only for a URL and a secret."""
    url = f"{receiver.url}?who=me&what=a%20b%26c"
    answer = sdk.call("registerCallback", callbackUrl=url, userSecret=SECRET)
    assert (answer.get("status"), answer.get("result")) == (201, {"status": "created", "url": url}), answer
    said = receiver.told()
    assert said["url"] == f"/results?who=me&what=a%20b%26c&challenge_string={said['challenge']}"
    assert (said["signed"], said["headers"]["accept"]) == (True, "text/plain")

    for again in ({"userSecret": SECRET}, {}):
        answer = sdk.call("registerCallback", callbackUrl=url, **again)
        assert (answer.get("status"), answer.get("result")) == (200, {"status": "already created", "url": url})
    assert sdk.refusal_of("registerCallback", callbackUrl=url, userSecret="another")[0] == 400
    said_next = receiver.told()  # nothing came for the two in between
    assert (said_next["signed"], said_next["status"]) == (False, 403)
    assert said_next["challenge"] != said["challenge"]


def test_who_does_not_echo_is_not_registered(sdk: Sdk, receiver: Receiver, wav: dict[str, str]) -> None:
    """Another status, another text, nobody there, no URL: 400, and jobs may not name it."""
    url = receiver.url
    receiver.answer(406)
    assert sdk.refusal_of("registerCallback", callbackUrl=url, userSecret=SECRET) == (
        400,
        f"unable to register callback url '{url}', callback server responded with status code 406",
    )
    assert receiver.told()["status"] == 406
    receiver.answer(200)
    assert sdk.refusal_of("registerCallback", callbackUrl=url, userSecret="another")[0] == 400
    assert receiver.told()["status"] == 200
    with Receiver() as gone:
        pass
    for wrong in (gone.url, "ftp://127.0.0.1/results", "results"):
        assert sdk.refusal_of("registerCallback", callbackUrl=wrong)[0] == 400
    code, message = sdk.refusal_of("createJob", audio=wav, callbackUrl=url)
    assert (code, url in message) == (400, True)


async def test_a_job_tells_that_it_started_and_completed(sdk: Sdk, receiver: Receiver, wav: dict[str, str]) -> None:
    """In this order, signed in both ways, never twice the same id; a copy of it ten minutes later is refused."""
    url = register(sdk, receiver)
    job = sdk.result_of("createJob", audio=wav, callbackUrl=url, userToken=TOKEN)["id"]
    said = [receiver.told(), receiver.told()]
    assert [verified(each) for each in said] == [
        {"id": job, "event": STARTED, "user_token": TOKEN},
        {"id": job, "event": COMPLETED, "user_token": TOKEN},
    ]
    assert said[0]["body"].startswith(f'{{"id":"{job}","event":"{STARTED}","user_token":"Auftrag 25 für')
    assert len({each["headers"]["webhook-id"] for each in said}) == 2
    assert receiver.replay() == {"valid": False, "reason": "Message timestamp too old"}

    done = sdk.result_of("checkJob", id=job)
    assert (done["status"], "user_token" in done) == ("completed", False)
    [listed] = sdk.result_of("checkJobs")["recognitions"]
    assert (listed["id"], listed["user_token"]) == (job, TOKEN)


async def test_results_come_with_the_notification(sdk: Sdk, receiver: Receiver, wav: dict[str, str]) -> None:
    """If asked for, and nothing else then; the same as read, and as JavaScript writes it, whole numbers too."""
    url = register(sdk, receiver)
    asked = {"timestamps": True, "wordConfidence": True, "events": WITH_RESULTS, "callbackUrl": url}
    job = sdk.result_of("createJob", audio=wav, **asked)["id"]
    body = verified(receiver.told())
    assert list(body) == ["id", "event", "user_token", "results"]
    assert (body["id"], body["event"], body["user_token"]) == (job, WITH_RESULTS, "")
    assert body["results"] == sdk.result_of("checkJob", id=job)["results"]
    assert body["results"][0]["results"][0]["alternatives"][0]["timestamps"] == [["done", 0, 0.5]]
    [listed] = sdk.result_of("checkJobs")["recognitions"]
    assert "user_token" not in listed


async def test_a_job_tells_that_it_failed(
    sdk: Sdk, receiver: Receiver, wav: dict[str, str], broken: dict[str, str]
) -> None:
    """To who wants to hear it: who asked for completions alone hears nothing of the failure."""
    url = register(sdk, receiver)
    silent = sdk.result_of("createJob", audio=broken, callbackUrl=url, events=COMPLETED)["id"]
    assert (await sdk.final(silent))["status"] == "failed"
    failed = sdk.result_of("createJob", audio=broken, callbackUrl=url)["id"]
    assert [verified(receiver.told()) for _ in range(2)] == [
        {"id": failed, "event": STARTED, "user_token": ""},
        {"id": failed, "event": FAILED, "user_token": ""},
    ]
    done = sdk.result_of("createJob", audio=wav, callbackUrl=url, events=COMPLETED)["id"]
    assert verified(receiver.told()) == {"id": done, "event": COMPLETED, "user_token": ""}


async def test_a_refused_notification_comes_again(sdk: Sdk, receiver: Receiver, wav: dict[str, str]) -> None:
    """Byte for byte, under the same id, and before the next; then it counts."""
    url = register(sdk, receiver)
    receiver.answer(500)
    job = sdk.result_of("createJob", audio=wav, callbackUrl=url)["id"]
    refused, again, completed = (receiver.told() for _ in range(3))
    assert refused["status"] == 500
    assert verified(again)["event"] == STARTED
    assert refused["body"] == again["body"]
    for header in ("webhook-id", "x-callback-signature"):
        assert refused["headers"][header] == again["headers"][header]
    assert verified(completed) == {"id": job, "event": COMPLETED, "user_token": ""}


async def test_without_a_secret_nothing_is_signed(sdk: Sdk, node: None, wav: dict[str, str]) -> None:
    """Neither the challenge nor a notification."""
    del node
    with Receiver() as receiver:
        url = register(sdk, receiver, secret=None)
        sdk.result_of("createJob", audio=wav, callbackUrl=url, events=COMPLETED)
        said = receiver.told()
    assert said["status"] == 200
    assert {"x-callback-signature", "webhook-signature"} & set(said["headers"]) == set()


async def test_sha1_is_a_setting(fresh_stack: StartStack, drive: Program, wav: dict[str, str]) -> None:
    """For receivers of before June 2025: the signature of IBM changes, that of Standard Webhooks does not."""
    stack = fresh_stack(workers=1, callback_signature="sha1", **CALLING)
    sdk = sdk_of(stack, drive)
    with Receiver(secret=SECRET, hash_="sha1") as receiver:
        url = register(sdk, receiver)
        job = sdk.result_of("createJob", audio=wav, callbackUrl=url, events=WITH_RESULTS)["id"]
        said = receiver.told()
    assert verified(said)["id"] == job
    assert len(said["headers"]["x-callback-signature"]) == 28


def test_what_a_job_may_not_ask_for(
    calling: Stack, drive: Program, sdk: Sdk, receiver: Receiver, wav: dict[str, str]
) -> None:
    """Events that are unknown or exclude each other, and a receiver that is somebody else's."""
    register(sdk, receiver)
    for events in (f"{COMPLETED},{WITH_RESULTS}", "recognitions.begun"):
        code, message = sdk.refusal_of("createJob", audio=wav, callbackUrl=receiver.url, events=events)
        assert (code, "events" in message) == (400, True), message
    code, message = sdk_of(calling, drive).refusal_of("createJob", audio=wav, callbackUrl=receiver.url)
    assert (code, receiver.url in message) == (400, True), message


def test_unregistering(sdk: Sdk, receiver: Receiver, wav: dict[str, str]) -> None:
    """From then on no job may name the receiver, and there is nothing left to unregister; it may come back."""
    url = register(sdk, receiver)
    assert sdk.call("unregisterCallback", callbackUrl=url)["status"] == 200
    code, message = sdk.refusal_of("createJob", audio=wav, callbackUrl=url)
    assert (code, url in message) == (400, True)
    assert sdk.refusal_of("unregisterCallback", callbackUrl=url)[0] == 404
    register(sdk, receiver)


async def test_a_customer_is_erased(
    calling: Stack, drive: Program, sdk: Sdk, receiver: Receiver, wav: dict[str, str]
) -> None:
    """Jobs and receivers with the label are gone at once, for this tenant; all others stay; and again is no error."""
    label = {"X-Watson-Metadata": "customer_id=Müller 7"}
    url = register(sdk, receiver, headers=label)
    other = sdk_of(calling, drive)
    theirs = other.result_of("createJob", audio=wav, headers=label)["id"]
    kept = sdk.result_of("createJob", audio=wav)["id"]
    gone = [sdk.result_of("createJob", audio=wav, headers=label)["id"] for _ in range(2)]
    await sdk.final(gone[0])
    for _ in range(2):
        assert sdk.call("deleteUserData", customerId="Müller 7")["status"] == 200
        for job in gone:
            assert sdk.refusal_of("checkJob", id=job) == (404, "job not found")
    assert [listed["id"] for listed in sdk.result_of("checkJobs")["recognitions"]] == [kept]
    assert sdk.refusal_of("createJob", audio=wav, callbackUrl=url)[0] == 400
    register(sdk, receiver)
    assert (await other.final(theirs))["status"] == "completed"
