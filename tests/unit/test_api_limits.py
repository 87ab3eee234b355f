"""What the front answers at a limit: before the body, with an honest Retry-After, and cheaply when asked again."""

import asyncio
import base64
import warnings
from collections.abc import AsyncIterable, AsyncIterator
from datetime import timedelta

import pytest
from aiohttp import encode_basic_auth
from aiohttp.test_utils import make_mocked_request
from ibm_cloud_sdk_core.authenticators import BasicAuthenticator

from api import admission
from retention.errors import LimitReached
from retention.limits import COSTLY, POLL, Count, Limits
from tests.stack import wait_until
from tests.unit.buying import buy
from tests.unit.fake_retention import KEY, TOKEN, WAV, Api, hang_up, serving

with warnings.catch_warnings(action="ignore", category=DeprecationWarning):  # it has invalid escapes in its docstrings
    from ibm_watson import SpeechToTextV1

PATHS = {"submits": ("POST", "/v1/recognitions"), "polls": ("GET", "/v1/recognitions")}


@pytest.mark.parametrize(("limit", "words"), [("submits", "submissions a second"), ("polls", "requests a second")])
async def test_a_refusal_says_which_limit_and_how_long_to_wait(limit: str, words: str) -> None:
    """In whole seconds, and never too few."""
    for seconds, told in ((0.01, "1"), (1.0, "1"), (1.5, "2"), (7205.9, "7206")):
        async with serving() as api:
            api.tenants.reached = LimitReached(limit, timedelta(seconds=seconds))
            refused = await api.ask(*PATHS[limit], WAV if limit == "submits" else None)
            assert (refused.status, refused.headers["Retry-After"]) == (429, told)
            error = f"The limit of {words} is reached; wait."
            assert refused.body == {"code": 429, "code_description": "Too Many Requests", "error": error}


BEARER = {"Authorization": f"Bearer {TOKEN}"}


def respelled() -> dict[str, str]:
    """Return another spelling of the credential."""
    return {"Authorization": encode_basic_auth("anybody", KEY)}


async def test_every_request_is_counted_as_what_it_is() -> None:
    """By key or token, and more than once for what costs more.

    Nothing without credentials is counted, nor an upload again at its end.
    """
    bearer = {"Authorization": f"Bearer {TOKEN}"}
    async with serving() as api:
        job = (await api.submit()).body["id"]
        for method, path in (
            ("GET", f"/v1/recognitions/{job}"),
            ("GET", "/v1/models"),
            ("GET", "/v1/recognitions"),
            ("DELETE", f"/v1/recognitions/{job}"),
            ("DELETE", "/v1/user_data?customer_id=c"),
            ("POST", "/v1/register_callback?callback_url=http://a.example/"),
            ("POST", "/v1/unregister_callback?callback_url=http://a.example/"),
        ):
            await api.ask(method, path)
        await api.ask("GET", "/v1/models", auth=None, headers=bearer)
        await buy(api, KEY)
        for method, path in (
            ("GET", "/health/live"),
            ("OPTIONS", "/v1/models"),
            ("GET", "/openapi.json"),
            ("GET", "/none"),
        ):
            await api.ask(method, path, auth=None)
        await api.ask("OPTIONS", "/v1/models")
        await api.ask("GET", "/health/live")
    assert api.tenants.counted == [
        Count("submits"),
        None,
        POLL,
        POLL,
        *[COSTLY] * 5,
        POLL,
        Count("tokens"),
    ]


@pytest.mark.parametrize("limit", ["submits", "waiting", "bytes", "uploads", "audio"])
async def test_an_upload_is_refused_before_its_body(limit: str) -> None:
    """Who waits to be asked for the body is not asked; the connection ends, as the body might still come."""
    async with serving() as api:
        error = LimitReached(limit, timedelta(seconds=5))
        if limit == "submits":
            api.tenants.reached = error
        else:
            api.jobs.trouble = error
        credentials = base64.b64encode(f"apikey:{KEY}".encode()).decode()
        reader, writer = await api.connect()
        writer.write(
            f"POST /v1/recognitions HTTP/1.1\r\nHost: x\r\nAuthorization: Basic {credentials}\r\n"
            f"Content-Length: {len(WAV)}\r\nExpect: 100-continue\r\n\r\n".encode()
        )
        answer = await reader.readuntil(b"\r\n\r\n")
        await hang_up(writer)
    assert answer.startswith(b"HTTP/1.1 429 ")
    assert b"\r\nRetry-After: 5\r\n" in answer
    assert b"\r\nConnection: close\r\n" in answer
    assert api.jobs.accepted == []


async def test_what_is_larger_than_may_wait_is_no_matter_of_waiting() -> None:
    """It is refused for good, by its header or as it comes; the smaller one of two limits counts."""
    async with serving(max_upload=100_000) as api:
        api.tenants.limits = Limits(bytes=1000)
        assert (await api.submit("", WAV + bytes(1000))).status == 413

        async def pieces() -> AsyncIterator[bytes]:
            for _ in range(20):
                yield WAV

        refused = await api.submit("", pieces())
        assert refused.status == 413
        assert refused.body["error"] == "The audio exceeds the limit of 1000 bytes."
        assert (await api.submit()).status == 201
    assert [size for _, size in api.jobs.uploads] == [0, len(WAV)]


async def test_a_refusal_is_remembered_for_its_time() -> None:
    """Who asks again before it is over is refused without being looked at, and told what is left."""
    async with serving() as api:
        api.tenants.reached = LimitReached("polls", timedelta(milliseconds=300))
        assert (await api.ask("GET", "/v1/models")).status == 429
        api.tenants.reached = None
        looked = len(api.tenants.counted)
        assert (await api.ask("GET", "/v1/models")).status == 429
        assert len(api.tenants.counted) == looked
        assert (await api.submit()).status == 201

        async def is_served() -> bool:
            return (await api.ask("GET", "/v1/models")).status == 200

        await wait_until(is_served)


async def test_a_long_refusal_is_remembered_for_a_moment(monkeypatch: pytest.MonkeyPatch) -> None:
    """A limit that was raised counts soon; meanwhile it is told how long it takes otherwise."""
    monkeypatch.setattr(admission, "REMEMBERED", 0.2)
    async with serving() as api:
        api.tenants.reached = LimitReached("polls", timedelta(hours=1))
        for _ in range(2):
            assert (await api.ask("GET", "/v1/models")).headers["Retry-After"] == "3600"
        api.tenants.reached = None

        async def is_served() -> bool:
            return (await api.ask("GET", "/v1/models")).status == 200

        await wait_until(is_served)


async def test_a_refusal_is_remembered_for_the_credential_alone() -> None:
    """Another secret under the same id is wrong, not refused; another spelling is the same credential."""
    async with serving() as api:
        api.tenants.reached = LimitReached("polls", timedelta(hours=1))
        assert (await api.ask("GET", "/v1/models")).status == 429
        assert (await api.ask("GET", "/v1/models", auth=("apikey", KEY + "x"))).status == 401
        api.tenants.reached = None
        assert (await api.ask("GET", "/v1/models", headers=respelled(), auth=None)).status == 429
        assert (await api.ask("GET", "/v1/models", headers=BEARER, auth=None)).status == 200


@pytest.mark.parametrize("authorization", ["token alice", encode_basic_auth("anybody", "token alice")])
async def test_a_public_id_is_no_credential(authorization: str) -> None:
    """Who presents what a token is remembered by is a stranger, who learns of no limit and is in nobody's turns."""
    async with serving() as api:
        api.tenants.reached = LimitReached("polls", timedelta(hours=1))
        assert (await api.ask("GET", "/v1/models", headers=BEARER, auth=None)).status == 429
        strange = {"Authorization": authorization}
        assert (await api.ask("GET", "/v1/models", headers=strange, auth=None)).status == 401


async def test_refusals_leave_at_a_steady_pace(monkeypatch: pytest.MonkeyPatch) -> None:
    """The first at once, others behind it; those of another credential do not wait for them."""
    monkeypatch.setattr(admission, "PACE", 3600.0)
    gate, request = admission.Admission(), make_mocked_request("GET", "/")

    async def refused(credential: str) -> None:
        with pytest.raises(LimitReached):
            async with gate.watch(request, credential, POLL):
                raise LimitReached("polls", timedelta(hours=1))

    await refused("one")
    held = [asyncio.create_task(refused("one")) for _ in range(3)]
    await refused("another")
    done, _ = await asyncio.wait(held, timeout=0.1)
    assert not done
    for task in held:
        task.cancel()


async def test_too_many_refusals_at_once_end_their_connections(monkeypatch: pytest.MonkeyPatch) -> None:
    """There is a bound to the queue, too."""
    monkeypatch.setattr(admission, "MOST", 0)
    async with serving() as api:
        api.tenants.reached = LimitReached("polls", timedelta(hours=1))
        refused = await api.ask("GET", "/v1/models")
        assert (refused.status, refused.headers["Connection"]) == (429, "close")


async def test_tokens_are_refused_like_everything(monkeypatch: pytest.MonkeyPatch) -> None:
    """And a refusal is remembered by the key, whatever is around it."""
    monkeypatch.setattr(admission, "PACE", 0.0)
    async with serving() as api:
        api.tenants.reached = LimitReached("tokens", timedelta(hours=1))
        for _ in range(2):
            refused = await buy(api, KEY)
            assert (refused.status, refused.headers["Retry-After"]) == (429, "3600")
        assert api.tenants.counted == [Count("tokens")]


class Slow:
    """Lists of models that are not given out before it is told, so that requests for them are under way."""

    def __init__(self, api: Api) -> None:
        self.inside = 0
        self.gate = asyncio.Event()
        api.offers.current = self._current  # type: ignore[method-assign,assignment]

    async def _current(self) -> object:
        self.inside += 1
        await self.gate.wait()
        return None

    async def is_entered(self) -> bool:
        return self.inside > 0


async def test_requests_of_a_credential_are_served_one_after_another(monkeypatch: pytest.MonkeyPatch) -> None:
    """Those of another do not wait for them."""
    monkeypatch.setattr(admission, "PATIENCE", 3600.0)
    async with serving() as api:
        slow = Slow(api)
        asked = [asyncio.create_task(api.ask("GET", "/v1/models")) for _ in range(5)]
        await wait_until(slow.is_entered)
        for _ in range(5):  # so the others have had every chance
            assert (await api.ask("GET", "/v1/recognitions", headers=BEARER, auth=None)).status == 200
        assert slow.inside == 1
        slow.gate.set()
        await asyncio.gather(*asked)
        assert slow.inside == 5


async def test_nobody_waits_long_for_what_does_not_end(monkeypatch: pytest.MonkeyPatch) -> None:
    """What holds one up, an outage maybe, is not added up."""
    monkeypatch.setattr(admission, "PATIENCE", 0.05)
    async with serving() as api:
        slow = Slow(api)
        held = asyncio.create_task(api.ask("GET", "/v1/models"))
        await wait_until(slow.is_entered)
        assert (await api.ask("GET", "/v1/recognitions")).status == 200
        slow.gate.set()
        await held


async def test_nobody_waits_for_a_body(monkeypatch: pytest.MonkeyPatch) -> None:
    """An upload leaves its turn while the client sends, be it the beginning or the rest; its end waits for its turn."""
    monkeypatch.setattr(admission, "PATIENCE", 3600.0)
    async with serving() as api:
        more, at_the_end = asyncio.Event(), asyncio.Event()

        async def pieces() -> AsyncIterator[bytes]:
            yield WAV[:50]
            await more.wait()
            yield WAV
            await at_the_end.wait()

        upload = asyncio.create_task(api.submit("", pieces()))

        async def is_under_way() -> bool:
            return bool(api.jobs.uploads)

        await wait_until(is_under_way)
        assert (await api.ask("GET", "/v1/recognitions")).status == 200
        more.set()
        assert (await api.ask("GET", "/v1/recognitions")).status == 200
        slow = Slow(api)
        held = asyncio.create_task(api.ask("GET", "/v1/models"))
        await wait_until(slow.is_entered)
        at_the_end.set()
        for _ in range(5):
            assert (await api.ask("GET", "/v1/recognitions", headers=BEARER, auth=None)).status == 200
        assert not api.jobs.accepted
        slow.gate.set()
        assert (await upload).status == 201
        await held


async def test_audio_that_comes_fast_is_not_taken_in_faster_than_others_can_bear(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """Each piece keeps its credential's turn for as long as it may take; that of others goes on."""
    monkeypatch.setattr(admission, "PATIENCE", 3600.0)
    monkeypatch.setattr(admission, "BANDWIDTH", 1)
    async with serving(grace=timedelta(0)) as api:
        upload = asyncio.create_task(api.submit())

        async def is_under_way() -> bool:
            return bool(api.jobs.uploads)

        await wait_until(is_under_way)
        asked = asyncio.create_task(api.ask("GET", "/v1/recognitions"))
        for _ in range(20):
            assert (await api.ask("GET", "/v1/recognitions", headers=BEARER, auth=None)).status == 200
        assert not asked.done()
        for task in (upload, asked):
            task.cancel()


@pytest.mark.parametrize("stalls", ["amid", "at the end"])
async def test_nobody_waits_for_what_is_being_stored(stalls: str, monkeypatch: pytest.MonkeyPatch) -> None:
    """A bucket that stalls holds up neither the requests nor the other uploads of the same credential."""
    monkeypatch.setattr(admission, "PATIENCE", 3600.0)
    async with serving(grace=timedelta(0)) as api:
        submit, storing = api.jobs.submit, asyncio.Event()

        async def never(_: object, __: object, audio: AsyncIterable[bytes], **___: object) -> None:
            async for _ in audio:
                if stalls == "amid":
                    break
            storing.set()
            await asyncio.Event().wait()

        monkeypatch.setattr(api.jobs, "submit", never)
        stalled = asyncio.create_task(api.submit())
        await storing.wait()
        monkeypatch.setattr(api.jobs, "submit", submit)
        assert (await api.ask("GET", "/v1/recognitions")).status == 200
        assert (await api.submit()).status == 201
        stalled.cancel()


async def test_nobody_waits_for_an_erasure(monkeypatch: pytest.MonkeyPatch) -> None:
    """It may take long by itself, as may asking a callback URL."""
    monkeypatch.setattr(admission, "PATIENCE", 3600.0)
    async with serving() as api:
        gate, erasing = asyncio.Event(), asyncio.Event()

        async def erase_customer(*_: object) -> int:
            erasing.set()
            await gate.wait()
            return 0

        monkeypatch.setattr(api.jobs, "erase_customer", erase_customer)
        held = asyncio.create_task(api.ask("DELETE", "/v1/user_data?customer_id=c"))
        await erasing.wait()
        assert (await api.ask("GET", "/v1/recognitions")).status == 200
        gate.set()
        assert (await held).status == 200


def sdk(api: Api) -> SpeechToTextV1:
    client = SpeechToTextV1(authenticator=BasicAuthenticator("apikey", KEY))
    client.set_service_url(api.url)
    return client


async def test_ibms_sdk_waits_and_tries_again() -> None:
    """With `enable_retries` a limit that is over when `Retry-After` says so is never noticed."""
    async with serving() as api:
        api.tenants.reached = LimitReached("polls", timedelta(milliseconds=900))
        client = sdk(api)
        client.enable_retries(max_retries=3)
        asked = asyncio.create_task(asyncio.to_thread(client.check_jobs))

        async def is_refused() -> bool:
            return bool(api.tenants.counted)

        await wait_until(is_refused)
        api.tenants.reached = None
        assert (await asked).get_result() == {"recognitions": []}
        assert api.tenants.counted == [COSTLY, COSTLY]
