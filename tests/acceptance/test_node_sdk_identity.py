"""IBM's Node SDK with each of its ways to say who it is (spec 1.11 and 1.12)."""

import base64
import json
from http.client import HTTPConnection
from typing import Any
from urllib.parse import urlencode, urlsplit

import pytest

from deploy.stack import Stack
from tests.javascript import Program, Sdk
from tests.speech import AUDIO
from tests.stack import StartStack

WAV = str(AUDIO / "goforward.wav")
DENIED = (401, "Access is denied due to invalid credentials.")


@pytest.fixture(scope="module")
def apikey(stack: Stack) -> str:
    """Give the key of a tenant that only these tests use."""
    return stack.new_tenant("node identity")[1]


def bought(url: str, apikey: str) -> str:
    """Return a token, bought without the SDK."""
    parts = urlsplit(url)
    connection = HTTPConnection(parts.hostname or "", parts.port, timeout=60)
    try:
        form = urlencode({"grant_type": "urn:ibm:params:oauth:grant-type:apikey", "apikey": apikey})
        headers = {"Content-Type": "application/x-www-form-urlencoded", "Accept": "application/json"}
        connection.request("POST", "/identity/token", form, headers)
        answer = connection.getresponse()
        assert answer.status == 200
        body = json.load(answer)
    finally:
        connection.close()
    assert (body["token_type"], body["scope"]) == ("Bearer", "ibm openid")
    return str(body["access_token"])


def claims(token: str) -> Any:
    """Return what a token says, as the SDK reads it: without a look at its signature."""
    part = token.split(".")[1]
    return json.loads(base64.urlsafe_b64decode(part + "=" * (-len(part) % 4)))


@pytest.mark.parametrize(
    "service",
    [
        {"auth": "iam"},
        {"auth": "iam", "clientId": "somebody", "clientSecret": "something", "scope": "anything"},
        {"auth": "cp4d", "username": "somebody"},
    ],
    ids=["iam", "iam-client", "cp4d"],
)
@pytest.mark.parametrize("prefix", ["", "/instances/6bf1f4a7-5d2c-4a0b-9e0a-3f1c2b7d8e90"])
async def test_a_key_buys_a_token(stack: Stack, drive: Program, service: dict[str, str], prefix: str) -> None:
    """The SDK exchanges the key by itself, at the service's own URL, and then does everything with the token."""
    apikey = stack.new_tenant("node identity")[1]
    sdk = Sdk(drive, url=f"{stack.url}{prefix}", apikey=apikey, **service)
    job = sdk.result_of("createJob", audio={"stream": WAV}, contentType="audio/wav")["id"]
    assert (await sdk.final(job))["status"] == "completed"
    assert [listed["id"] for listed in sdk.result_of("checkJobs")["recognitions"]] == [job]
    assert sdk.call("deleteJob", id=job)["status"] == 204


def test_a_key_is_a_password_of_cloud_pak(stack: Stack, drive: Program, apikey: str) -> None:
    """Whoever the user is, and with the whole path of the exchange as its URL."""
    for auth_url in (stack.url, f"{stack.url}/v1/authorize"):
        sdk = Sdk(drive, auth="cp4d", url=stack.url, authUrl=auth_url, username="somebody", password=apikey)
        assert sdk.result_of("checkJobs") == {"recognitions": []}


def test_the_exchange_may_be_named_in_full(stack: Stack, drive: Program, apikey: str) -> None:
    """An IAM URL with its path, or with a slash at its end in the service's URL: both as the SDK allows."""
    sdk = Sdk(drive, auth="iam", url=f"{stack.url}/", authUrl=f"{stack.url}/identity/token", apikey=apikey)
    assert sdk.result_of("checkJobs") == {"recognitions": []}


def test_a_bearer_token_by_hand(stack: Stack, drive: Program, apikey: str) -> None:
    """A token that was bought elsewhere serves its tenant, and says when it ends."""
    token = bought(stack.url, apikey)
    assert isinstance(claims(token)["iat"], int)
    assert 0 < claims(token)["exp"] - claims(token)["iat"] <= 3600
    assert Sdk(drive, auth="bearer", url=stack.url, token=token).result_of("checkJobs") == {"recognitions": []}


async def test_a_token_shows_its_own_tenant_only(stack: Stack, drive: Program, apikey: str) -> None:
    """A job made with a key is there for the token of that key, and for no other."""
    mine = Sdk(drive, auth="basic", url=stack.url, apikey=stack.new_tenant("node owner")[1])
    job = mine.result_of("createJob", audio={"stream": WAV})["id"]
    other = Sdk(drive, auth="bearer", url=stack.url, token=bought(stack.url, apikey))
    assert other.result_of("checkJobs") == {"recognitions": []}
    assert other.refusal_of("checkJob", id=job) == (404, "job not found")
    assert other.refusal_of("deleteJob", id=job) == (404, "job not found")
    assert (await mine.final(job))["status"] == "completed"
    assert mine.call("deleteJob", id=job)["status"] == 204


def test_credentials_from_the_environment(stack: Stack, node: None, apikey: str) -> None:
    """A key and two URLs are all that the SDK needs: a key without a type means IAM."""
    del node
    environment = {
        "SPEECH_TO_TEXT_URL": stack.url,
        "SPEECH_TO_TEXT_APIKEY": apikey,
        "SPEECH_TO_TEXT_AUTH_URL": stack.url,
    }
    with Program("drive.mjs", environment=environment) as drive:
        assert Sdk(drive, auth="environment").result_of("checkJobs") == {"recognitions": []}


def test_a_wrong_key_buys_nothing(fresh_stack: StartStack, drive: Program) -> None:
    """The SDK shows IAM's sentence, and for Cloud Pak its own; with the right key the same service goes on."""
    stack = fresh_stack(workers=0)  # of its own: a service may answer otherwise after other tests' wrong keys
    iam = Sdk(drive, auth="iam", url=stack.url, apikey="volant_no_key")
    error = iam.call("checkJobs")["error"]
    assert (error["code"], error["message"]) == (400, "Provided API key could not be found.")
    assert json.loads(error["body"])["errorCode"] == "BXNIM0415E"
    assert iam.refusal_of("createJob", audio={"stream": WAV}) == (400, "Provided API key could not be found.")
    for wrong in ({"apikey": "volant_no_key"}, {"password": "volant_no_key"}):
        assert Sdk(drive, auth="cp4d", url=stack.url, username="x", **wrong).refusal_of("checkJobs") == DENIED
    right = Sdk(drive, auth="iam", url=stack.url, apikey=stack.apikey)
    assert right.result_of("checkJobs") == {"recognitions": []}


def test_a_forged_token_opens_nothing(fresh_stack: StartStack, drive: Program) -> None:
    """Another's claims, no signature, part of one, or none of the algorithm: the SDK's own sentence, to all alike."""
    stack = fresh_stack(workers=0)
    token, other = bought(stack.url, stack.apikey), bought(stack.url, stack.new_tenant()[1])
    head, body, signature = token.split(".")
    none = base64.urlsafe_b64encode(b'{"alg":"none","typ":"JWT"}').decode().rstrip("=")
    for forged in (
        f"{head}.{other.split('.')[1]}.{signature}",
        f"{head}.{body}.",
        f"{head}.{body}.{signature[:-4]}",
        f"{none}.{body}.",
        f"{none}.{body}.{signature}",
        "volant_no_key",
    ):
        assert Sdk(drive, auth="bearer", url=stack.url, token=forged).refusal_of("checkJobs") == DENIED
    assert Sdk(drive, auth="bearer", url=stack.url, token=token).result_of("checkJobs") == {"recognitions": []}
