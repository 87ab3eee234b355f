"""What a token opens, and how wrong credentials are slowed."""

from collections.abc import AsyncIterator

import aiohttp
import pytest

from api.auth import presented_token
from tests.stack import wait_until
from tests.unit.buying import authorize, buy, show
from tests.unit.fake_retention import KEY, TOKEN, WAV, serving

UNAUTHORIZED = {"code": 401, "code_description": "Unauthorized", "error": "Unauthorized"}


@pytest.mark.parametrize(
    ("header", "token"),
    [
        ("Bearer t", "t"),
        ("bEaReR   t ", "t"),
        ("Bearer", None),
        ("Bearer  ", None),
        ("Basic t", None),
        ("Bearert", None),
        ("", None),
    ],
)
def test_a_token_follows_the_word_bearer(header: str, token: str | None) -> None:
    """In whatever case (RFC 9110 §11.1)."""
    assert presented_token(header) == token


async def test_a_token_opens_what_its_key_opens() -> None:
    """Every endpoint, until it is no good any more."""
    bearer = {"Authorization": f"Bearer {TOKEN}"}
    async with serving() as api:
        job = (await api.ask("POST", "/instances/i/v1/recognitions", WAV, auth=None, headers=bearer)).body["id"]
        for method, path, status in [
            ("GET", "/v1/recognitions", 200),
            ("GET", f"/v1/recognitions/{job}", 200),
            ("DELETE", f"/v1/recognitions/{job}", 204),
        ]:
            assert (await api.ask(method, path, auth=None, headers=bearer)).status == status
        api.tokens.good.clear()
        refused = await show(api, bearer["Authorization"])
        assert (refused.status, refused.body) == (401, UNAUTHORIZED)
        assert refused.headers["WWW-Authenticate"] == 'Basic realm="Speech to Text"'


@pytest.mark.parametrize(
    "authorization",
    [
        f"Bearer {KEY}",
        f"Bearer {TOKEN}x",
        "Bearer",
        f"Token {TOKEN}",
        TOKEN,
        aiohttp.encode_basic_auth("apikey", TOKEN),
        aiohttp.encode_basic_auth("bearer", TOKEN),
    ],
)
async def test_neither_is_taken_for_the_other(authorization: str) -> None:
    """A key is no token, a token is no password."""
    async with serving() as api:
        assert (await show(api, authorization)).status == 401


@pytest.mark.parametrize("ended", ["expired", "revoked"])
async def test_a_token_is_looked_at_again_at_the_end_of_an_upload(ended: str) -> None:
    """A revocation in the middle makes no job; that it expired in the middle is no fault of the client's."""
    async with serving() as api:

        async def begun() -> bool:
            return api.jobs.under_way > 0

        async def interrupted() -> AsyncIterator[bytes]:
            yield WAV
            await wait_until(begun)
            api.tokens.good.clear()
            if ended == "expired":
                api.tokens.expired.add(TOKEN)
            yield WAV

        answer = await api.ask(
            "POST", "/v1/recognitions", interrupted(), auth=None, headers={"Authorization": f"Bearer {TOKEN}"}
        )
        assert answer.status == (201 if ended == "expired" else 401)
        assert len(api.jobs.accepted) == (1 if ended == "expired" else 0)


async def test_asking_without_credentials_is_never_counted() -> None:
    """Clients that wait for the challenge ask twice each time (spec 0, no. 4)."""
    async with serving() as api:
        for _ in range(20):
            assert (await api.ask("GET", "/v1/recognitions", auth=None)).status == 401
        assert (await show(api, "Bearer x")).status == 401


async def test_wrong_credentials_are_slowed_and_good_ones_are_not() -> None:
    """The eleventh is told to wait, however it is presented; whoever has a good one, or none yet, notices nothing."""
    async with serving() as api:
        plain = [await show(api, "Bearer x") for _ in range(4)]
        plain += [await show(api, aiohttp.encode_basic_auth("apikey", "x")) for _ in range(2)]
        plain += [await show(api, "Basic x"), await show(api, "Digest x")]
        plain += [await buy(api, "x"), await authorize(api, {"api_key": "x"})]
        assert [answer.status for answer in plain] == [401] * 8 + [400, 401]

        slowed = [
            await show(api, "Bearer x"),
            await buy(api, "x"),
            await authorize(api, {"api_key": "x"}),
            await api.ask("POST", "/v1/recognitions", WAV, auth=("apikey", "x")),
        ]
        assert [(answer.status, answer.headers["Retry-After"]) for answer in slowed] == [
            (429, "1"),
            (429, "2"),
            (429, "4"),
            (429, "8"),
        ]
        sentence = "Too many wrong credentials came from this address; wait."
        for answer in slowed:
            assert answer.body == {"code": 429, "code_description": "Too Many Requests", "error": sentence}

        assert (await api.submit()).status == 201
        assert (await show(api, f"Bearer {TOKEN}")).status == 200
        assert (await buy(api, KEY)).status == 200
        assert (await authorize(api, {"api_key": KEY})).status == 200
        challenge = await api.ask("GET", "/v1/recognitions", auth=None)
        assert (challenge.status, challenge.headers["WWW-Authenticate"]) == (401, 'Basic realm="Speech to Text"')
        assert (await show(api, "Bearer x")).headers["Retry-After"] == "16"
