"""Where keys buy tokens (spec 1.11, 1.12), and what is said of it in the log."""

import asyncio
from collections.abc import AsyncIterator
from datetime import timedelta
from typing import Any
from urllib.parse import urlencode

import aiohttp
import pytest
from structlog.testing import capture_logs

from api.identity import GRANT, LARGEST
from retention.errors import Unavailable
from tests.unit.buying import authorize, buy, show
from tests.unit.fake_retention import KEY, TOKEN, hang_up, serving

UNKNOWN_KEY = ("BXNIM0415E", "Provided API key could not be found.")
UNAUTHORIZED = {"code": 401, "code_description": "Unauthorized", "error": "Unauthorized"}


@pytest.mark.parametrize("prefix", ["", "/instances/some-guid"])
async def test_a_key_buys_a_token_of_iam(prefix: str) -> None:
    """The answer of spec 1.11, key by key."""
    async with serving() as api:
        answer = await buy(api, KEY, prefix=prefix)
        assert answer.status == 200
        assert answer.headers["Content-Type"] == "application/json"
        assert answer.headers["Cache-Control"] == "no-store"
        assert answer.body == {
            "access_token": TOKEN,
            "refresh_token": "not_supported",
            "token_type": "Bearer",
            "expires_in": 3600,
            "expiration": 1787000000,
            "scope": "ibm openid",
        }


async def test_a_client_id_is_ignored() -> None:
    """`Authorization` belongs to IBM's client there, and decides nothing."""
    async with serving() as api:
        client = aiohttp.encode_basic_auth("client", "secret")
        assert (await buy(api, KEY, Authorization=client)).status == 200
        for good in (f"Bearer {TOKEN}", aiohttp.encode_basic_auth("apikey", KEY)):
            assert (await buy(api, "wrong", Authorization=good)).status == 400


@pytest.mark.parametrize("key", ["wrong", "", None, TOKEN, f"{KEY}\0", "clé", "\udcff"], ids=ascii)
async def test_a_wrong_key_is_refused_in_the_words_of_iam(key: str | None) -> None:
    """400, not 401; also for a token, which buys no other."""
    async with serving() as api:
        answer = await buy(api, key and key.encode(errors="surrogateescape").decode("latin-1"))
        assert answer.status == 400
        assert answer.body == {
            "errorCode": UNKNOWN_KEY[0],
            "errorMessage": UNKNOWN_KEY[1],
            "context": {"requestId": answer.headers["X-Global-Transaction-ID"]},
        }


@pytest.mark.parametrize("grant", [None, "", "password", "refresh_token", GRANT.upper()])
async def test_another_grant_is_refused(grant: str | None) -> None:
    """Also with a good key."""
    async with serving() as api:
        answer = await buy(api, KEY, grant=grant)
        assert answer.status == 400
        assert answer.body == {
            "errorCode": "BXNIM0109E",
            "errorMessage": "Property missing or empty.",
            "errorDetails": f"Property 'grant_type' must be {GRANT}.",
            "context": {"requestId": answer.headers["X-Global-Transaction-ID"]},
        }


@pytest.mark.parametrize("prefix", ["", "/instances/some-guid"])
@pytest.mark.parametrize(
    "body",
    [
        {"username": "me", "password": None, "api_key": KEY, "account_id": None},
        {"username": "me", "password": KEY, "api_key": None, "account_id": None},
        {"username": "me", "password": KEY},
        {"username": "me", "password": "wrong", "api_key": KEY},
        {"api_key": KEY, "more": [1]},
    ],
)
async def test_a_key_buys_a_token_of_cloud_pak(body: dict[str, Any], prefix: str) -> None:
    """As an API key or as the password of whatever user (spec 1.12)."""
    async with serving() as api:
        answer = await authorize(api, body, prefix)
        assert (answer.status, answer.body) == (200, {"token": TOKEN})


@pytest.mark.parametrize(
    "body",
    [
        {"username": "me", "password": "wrong", "api_key": None},
        {"username": "me", "password": KEY, "api_key": "wrong"},
        {"username": KEY, "password": None, "api_key": None},
        {"api_key": TOKEN},
        {"api_key": [KEY]},
        {},
        [KEY],
        b"",
        b"{",
        b"[" * LARGEST,
        b'{"more":' + b"[" * 8000,
        b'{"api_key":"\xff"}',
        b'{"api_key":"\\ud800"}',
        urlencode({"api_key": KEY}).encode(),
    ],
    ids=range(14),
)
async def test_wrong_credentials_of_cloud_pak_are_401(body: Any) -> None:
    """Whatever is wrong with them."""
    async with serving() as api:
        answer = await authorize(api, body)
        assert (answer.status, answer.body) == (401, UNAUTHORIZED)


@pytest.mark.parametrize("path", ["/identity/token", "/v1/authorize"])
async def test_the_body_is_bounded(path: str) -> None:
    """What is too large is refused by its header, or as soon as it was received."""
    async with serving() as api:

        async def pieces() -> AsyncIterator[bytes]:
            for _ in range(9):
                yield b"x" * 1000

        for data in (b"x" * (LARGEST + 1), pieces()):
            answer = await api.ask("POST", path, data, auth=None)
            assert (answer.status, answer.body["error"]) == (413, f"The body exceeds the limit of {LARGEST} bytes.")
            assert "Retry-After" not in answer.headers


async def test_a_body_that_does_not_come_is_not_waited_for() -> None:
    """However slowly it trickles, the whole of it has its time; a client that waits to be asked is asked."""
    async with serving(upload_stall=timedelta(seconds=1)) as api:
        reader, writer = await api.connect()
        writer.write(b"POST /v1/authorize HTTP/1.1\r\nHost: x\r\nExpect: 100-continue\r\nContent-Length: 999\r\n\r\n")
        assert await reader.readuntil(b"\r\n\r\n") == b"HTTP/1.1 100 Continue\r\n\r\n"

        async def trickle() -> None:
            while True:
                writer.write(b" ")
                await asyncio.sleep(0.1)  # slower than any bound on silence would notice

        task = asyncio.create_task(trickle())
        async with asyncio.timeout(30):
            assert (await reader.readline()) == b"HTTP/1.1 408 Request Timeout\r\n"
        task.cancel()
        await hang_up(writer)


async def test_an_outage_is_not_taken_for_a_wrong_key() -> None:
    """Nobody is told that a key is wrong that could not be looked up, nor is it counted."""
    async with serving() as api:
        api.tenants.trouble = Unavailable()
        for answer in [await buy(api, KEY) for _ in range(12)] + [await authorize(api, {"api_key": KEY})]:
            assert (answer.status, answer.headers["Retry-After"]) == (503, "5")
        api.tenants.trouble = None
        assert (await buy(api, "wrong")).status == 400


async def test_nothing_of_keys_tokens_and_users_is_logged() -> None:
    """One line each, with the tenant of a good key."""
    async with serving() as api:
        with capture_logs() as lines:
            await buy(api, KEY)
            await authorize(api, {"username": "canary", "password": KEY})
            await show(api, f"Bearer {TOKEN}")
            for _ in range(4):
                await buy(api, "canary", grant=GRANT)
                await buy(api, "canary", grant="canary")
                await authorize(api, b"canary")
                await show(api, "Bearer canary")
        assert len(lines) == 19
        assert [line.get("tenant") for line in lines] == ["alice"] * 3 + [None] * 16
        assert {line["route"] for line in lines} == {"/identity/token", "/v1/authorize", "/v1/recognitions"}
        assert 429 in {line["status"] for line in lines}
        for secret in ("canary", KEY, TOKEN, "error"):
            assert secret not in str(lines)
