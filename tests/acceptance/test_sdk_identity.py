"""Every way in which IBM's Python SDK, unmodified, says who it is, against real processes (promise P8)."""

import os
import warnings
from collections.abc import Callable

import pytest

from deploy.stack import Stack
from tests.speech import AUDIO
from tests.stack import StartStack, wait_until

with warnings.catch_warnings():
    warnings.simplefilter("ignore")  # about escapes in its docstrings, whenever they are compiled anew
    from ibm_cloud_sdk_core import ApiException
    from ibm_cloud_sdk_core.authenticators import (
        Authenticator,
        BasicAuthenticator,
        BearerTokenAuthenticator,
        CloudPakForDataAuthenticator,
        IAMAuthenticator,
    )
    from ibm_watson import SpeechToTextV1

WAV = (AUDIO / "goforward.wav").read_bytes()
WAYS: dict[str, Callable[[str, str], Authenticator]] = {
    "IAM": lambda url, key: IAMAuthenticator(key, url=url),
    "IAM with a client id": lambda url, key: IAMAuthenticator(
        key, url=url, client_id="a", client_secret="b", scope="c"
    ),
    "IAM at its whole address": lambda url, key: IAMAuthenticator(key, url=f"{url}/identity/token"),
    "Cloud Pak, key": lambda url, key: CloudPakForDataAuthenticator("somebody", None, url, apikey=key),
    "Cloud Pak, password": lambda url, key: CloudPakForDataAuthenticator("somebody", key, url),
    "Cloud Pak, whole address": lambda url, key: CloudPakForDataAuthenticator("somebody", key, f"{url}/v1/authorize"),
    "bearer": lambda url, key: BearerTokenAuthenticator(token_for(url, key)),
    "Basic": lambda _url, key: BasicAuthenticator("apikey", key),
    "Basic, another user": lambda _url, key: BasicAuthenticator("somebody", key),
}
BOUGHT = ["IAM", "Cloud Pak, key", "bearer"]


def token_for(url: str, key: str) -> str:
    """Return what the SDK itself buys with a key."""
    token: str = IAMAuthenticator(key, url=url).token_manager.get_token()
    return token


def sdk(url: str, authenticator: Authenticator) -> SpeechToTextV1:
    """Return the SDK's service as a client configures it."""
    service = SpeechToTextV1(authenticator=authenticator)
    service.set_service_url(url)
    return service


def refusal(call: Callable[[], object]) -> ApiException:
    """Return what the SDK raises."""
    with pytest.raises(ApiException) as caught:
        call()
    return caught.value


@pytest.fixture(scope="module")
def apikey(stack: Stack) -> str:
    """Give the key of a tenant that only these tests use."""
    return stack.new_tenant("sdk identity")[1]


@pytest.mark.parametrize("instance", ["", "/instances/d8fba5f3-b5b4-4a3c-9bc5-1b7a0f9c3f7e"])
@pytest.mark.parametrize("way", WAYS)
async def test_every_way_leads_to_the_tenants_jobs(stack: Stack, apikey: str, way: str, instance: str) -> None:
    """Created, listed, recognised and deleted, at the bare URL and at that of an instance."""
    url = stack.url + instance
    service = sdk(url, WAYS[way](url, apikey))
    created = service.create_job(WAV, content_type="audio/wav").get_result()
    assert created["url"] == f"{url}/v1/recognitions/{created['id']}"

    async def completed() -> bool:
        return bool(service.check_job(created["id"]).get_result()["status"] == "completed")

    await wait_until(completed)
    listed = service.check_jobs().get_result()["recognitions"]
    assert [job["id"] for job in listed] == [created["id"]]
    assert service.delete_job(created["id"]).get_status_code() == 204


def test_a_client_is_configured_from_its_environment(
    stack: Stack, apikey: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    """An API key without a type means IAM, which then needs its URL (spec 6.7)."""
    for name, value in {"URL": stack.url, "APIKEY": apikey, "AUTH_URL": stack.url}.items():
        monkeypatch.setenv(f"SPEECH_TO_TEXT_{name}", value)
    assert SpeechToTextV1().check_jobs().get_result() == {"recognitions": []}
    monkeypatch.setenv("SPEECH_TO_TEXT_AUTH_TYPE", "bearerToken")
    monkeypatch.setenv("SPEECH_TO_TEXT_BEARER_TOKEN", token_for(stack.url, apikey))
    assert SpeechToTextV1().check_jobs().get_result() == {"recognitions": []}


def test_a_token_is_bought_once_and_used_again(stack: Stack, apikey: str) -> None:
    """The SDK finds in it when to buy the next: at four fifths of its hour."""
    authenticator = IAMAuthenticator(apikey, url=stack.url)
    service = sdk(stack.url, authenticator)
    service.check_jobs()
    first = authenticator.token_manager.get_token()
    service.check_jobs()
    assert authenticator.token_manager.get_token() == first
    assert authenticator.token_manager.expire_time - authenticator.token_manager.refresh_time == 720


def test_a_wrong_key_raises_ibms_message(fresh_stack: StartStack) -> None:
    """In the words of each service that IBM's clients know."""
    stack = fresh_stack(workers=0)
    wrong = stack.apikey[:-1] + ("A" if stack.apikey[-1] != "A" else "B")
    iam = refusal(sdk(stack.url, WAYS["IAM"](stack.url, wrong)).check_jobs)
    assert (iam.status_code, iam.message) == (400, "Provided API key could not be found.")
    assert iam.http_response.json()["errorCode"] == "BXNIM0415E"
    for way in ("Cloud Pak, key", "Cloud Pak, password", "Basic"):
        error = refusal(sdk(stack.url, WAYS[way](stack.url, wrong)).check_jobs)
        assert (error.status_code, error.message) == (401, "Unauthorized")
    for way in ("IAM", "Cloud Pak, key", "Basic"):
        assert sdk(stack.url, WAYS[way](stack.url, stack.apikey)).check_jobs().get_status_code() == 200


def test_who_guesses_is_slowed_and_nobody_else(fresh_stack: StartStack) -> None:
    """From the same address, the right key is served at once, and buys tokens that are."""
    stack = fresh_stack(workers=0)
    guessed = [refusal(sdk(stack.url, BearerTokenAuthenticator("guess")).check_jobs) for _ in range(13)]
    assert [error.status_code for error in guessed] == [401] * 10 + [429] * 3
    assert [error.http_response.headers["Retry-After"] for error in guessed[10:]] == ["1", "2", "4"]
    assert refusal(lambda: token_for(stack.url, "guess")).status_code == 429
    for way in WAYS.values():
        assert sdk(stack.url, way(stack.url, stack.apikey)).check_jobs().get_status_code() == 200


@pytest.mark.parametrize("ending", ["key", "tenant"])
async def test_a_revocation_ends_every_token_at_once(fresh_stack: StartStack, ending: str) -> None:
    """Within five seconds of the command, and for good: the SDK goes on with the token that it has."""
    stack = fresh_stack(workers=0)
    tenant, key = stack.new_tenant()
    services = [sdk(stack.url, WAYS[way](stack.url, key)) for way in BOUGHT]
    for service in services:
        assert service.check_jobs().get_status_code() == 200
    if ending == "key":
        stack.volant("apikey", "revoke", key.split("_")[1])
    else:
        stack.volant("tenant", "delete", tenant, "--yes")

    async def over() -> bool:
        return all(refused_with(service) == 401 for service in services)

    await wait_until(over, within=5)
    for service in services:
        assert refusal(lambda service=service: service.create_job(WAV)).status_code in {401, 429}  # type: ignore[misc]
    assert refusal(lambda: token_for(stack.url, key)).status_code in {400, 429}
    assert sdk(stack.url, WAYS["IAM"](stack.url, stack.apikey)).check_jobs().get_status_code() == 200


def refused_with(service: SpeechToTextV1) -> int | None:
    """Return the status of a refusal, or None when the service serves."""
    try:
        service.check_jobs()
    except ApiException as error:
        return int(error.status_code)
    return None


def test_tokens_outlive_a_restart_of_the_api(fresh_stack: StartStack) -> None:
    """They are signed by the installation, not by a process."""
    stack = fresh_stack(workers=0)
    service = sdk(stack.url, BearerTokenAuthenticator(token_for(stack.url, stack.apikey)))
    stack.kill("api")
    stack.start_api()
    assert service.check_jobs().get_status_code() == 200


def test_keys_tokens_and_users_are_nowhere_but_with_the_client(fresh_stack: StartStack) -> None:
    """Neither in a log of whatever level nor in any file, Redis's own among them."""
    stack = fresh_stack(workers=0, log_level="debug")
    user, wrong = f"canary{os.urandom(8).hex()}", f"volant_canary_{os.urandom(8).hex()}"
    token = token_for(stack.url, stack.apikey)
    sdk(stack.url, BearerTokenAuthenticator(token)).check_jobs()
    sdk(stack.url, CloudPakForDataAuthenticator(user, stack.apikey, stack.url)).check_jobs()
    for way in ("IAM", "Cloud Pak, key", "Basic"):
        refusal(sdk(stack.url, WAYS[way](stack.url, wrong)).check_jobs)
    refusal(sdk(stack.url, BearerTokenAuthenticator(f"{token}x")).check_jobs)
    written = b"".join(path.read_bytes() for path in stack.data.rglob("*") if path.is_file())
    assert b"/identity/token" in written
    for secret in (user, wrong, stack.apikey.split("_")[2], token, *token.split(".")[1:]):
        assert secret.encode() not in written, f"{secret[:6]}… was written down"
