"""The endpoints of callback URLs and of customers, as a client sees them (spec 1.1, 1.2, 1.7)."""

import asyncio
from datetime import timedelta
from urllib.parse import quote

import pytest

from retention.errors import ChallengeFailed, CustomerErased, TooManyChallenges
from retention.job import Callback, RegistrationId
from tests.unit.fake_retention import serving

URL = "https://me.example/hook?a=b&c=d%20e"
ASKED = f"?callback_url={quote(URL, safe='')}"


async def test_a_url_is_created_and_then_already_created() -> None:
    """201 once, then 200; the URL comes back byte for byte."""
    async with serving() as api:
        answer = await api.ask("POST", f"/v1/register_callback{ASKED}&user_secret=s%C3%A9cret")
        assert (answer.status, answer.body) == (201, {"status": "created", "url": URL})
        answer = await api.ask("POST", f"/v1/register_callback{ASKED}", headers={"X-Watson-Metadata": "customer_id=c"})
        assert (answer.status, answer.body) == (200, {"status": "already created", "url": URL})
        assert api.callbacks.customers == [None, "c"]


async def test_why_a_url_is_not_registered_is_told_in_the_words_of_the_contract() -> None:
    """With the receiver's status; no Retry-After but for the limit of the hour."""
    async with serving() as api:
        api.callbacks.trouble = ChallengeFailed("callback server responded with status code 406")
        answer = await api.ask("POST", f"/v1/register_callback{ASKED}")
        expected = f"unable to register callback url '{URL}', callback server responded with status code 406"
        assert (answer.status, answer.body["error"]) == (400, expected)
        assert "Retry-After" not in answer.headers

        api.callbacks.trouble = TooManyChallenges(timedelta(minutes=7))
        answer = await api.ask("POST", f"/v1/register_callback{ASKED}")
        assert (answer.status, answer.headers["Retry-After"]) == (429, "420")

        api.callbacks.trouble = CustomerErased()
        assert (await api.ask("POST", f"/v1/register_callback{ASKED}")).status == 400


@pytest.mark.parametrize("path", ["register_callback", "unregister_callback"])
@pytest.mark.parametrize("query", ["", "?callback_url=", "?url=x"])
async def test_a_url_must_be_named(path: str, query: str) -> None:
    """400, naming the parameter."""
    async with serving() as api:
        answer = await api.ask("POST", f"/v1/{path}{query}")
        assert (answer.status, "callback_url" in answer.body["error"]) == (400, True)


@pytest.mark.parametrize("secret", ["x" * 1025, "a%0Ab", "%00"])
async def test_a_secret_is_printable_and_bounded(secret: str) -> None:
    """400, naming the parameter; nothing is registered."""
    async with serving() as api:
        answer = await api.ask("POST", f"/v1/register_callback{ASKED}&user_secret={secret}")
        assert (answer.status, "user_secret" in answer.body["error"]) == (400, True)
        assert api.callbacks.known == {}


async def test_unregistering_is_an_empty_200_and_then_404() -> None:
    """What clients before 2017 send as a body is ignored."""
    async with serving() as api:
        api.callbacks.known[URL] = None
        answer = await api.ask("POST", f"/v1/unregister_callback{ASKED}", b"{}")
        assert (answer.status, answer.body, answer.headers["Content-Length"]) == (200, None, "0")
        answer = await api.ask("POST", f"/v1/unregister_callback{ASKED}")
        assert (answer.status, URL in answer.body["error"]) == (404, True)


async def test_a_job_tells_the_url_that_is_registered() -> None:
    """Its events and its user token reach the service; the list shows the token and nothing else new."""
    async with serving() as api:
        api.callbacks.known[URL] = None
        answer = await api.submit(f"{ASKED}&events=recognitions.failed&user_token=job25", Content_Type="audio/wav")
        assert (answer.status, "user_token" in answer.body) == (201, False)
        [taken] = api.jobs.accepted
        assert taken.callback == Callback(registration=RegistrationId(URL), events=("recognitions.failed",))
        assert taken.user_token == "job25"
        [(_, id_)] = api.jobs.kept
        api.jobs.tokens[id_] = "job25"
        [row] = (await api.ask("GET", "/v1/recognitions")).body["recognitions"]
        assert row["user_token"] == "job25"
        assert "user_token" not in (await api.ask("GET", f"/v1/recognitions/{id_}")).body


async def test_a_url_that_is_not_registered_is_refused_by_name() -> None:
    """Before the body is asked for, and no job is made."""
    async with serving() as api:
        answer = await api.submit(ASKED, Content_Type="audio/wav")
        assert (answer.status, URL in answer.body["error"]) == (400, True)
        assert api.jobs.accepted == []


@pytest.mark.parametrize(
    ("asked", "meant"),
    [("c1", "c1"), ("%20Zo%C3%AB%207%20", "Zoë 7"), ("Zo%EB", "Zoë"), ("a%26b", "a&b"), ("a+b%2B&x=1", "a b+")],
)
async def test_a_customer_is_erased_by_id(asked: str, meant: str) -> None:
    """An empty 200; blanks around the id do not count, and bytes are read as in the header that labels."""
    async with serving() as api:
        answer = await api.ask("DELETE", f"/v1/user_data?customer_id={asked}")
        assert (answer.status, answer.body) == (200, None)
        assert api.jobs.erased == [meant]


@pytest.mark.parametrize(
    "query",
    [
        "",
        "?customer_id=",
        "?customer_id=%20",
        "?customer_id=a%3Db",
        f"?customer_id={'x' * 257}",
        "?customer_id=a&customer_id=b",
    ],
)
async def test_no_customer_is_400(query: str) -> None:
    """Absent, empty, no id at all, or more than one: nothing is erased."""
    async with serving() as api:
        answer = await api.ask("DELETE", f"/v1/user_data{query}")
        assert (answer.status, "customer_id" in answer.body["error"]) == (400, True)
        assert api.jobs.erased == []


@pytest.mark.parametrize("tail", ["", "%3B"])
async def test_blanks_around_an_id_keep_nobody_waiting(tail: str) -> None:
    """However many: the time that they take grows with them, not with their square."""
    async with serving() as api, asyncio.timeout(20):
        answer = await api.ask("DELETE", f"/v1/user_data?customer_id={'+' * 60_000}x{'+' * 3000}{tail}")
        assert answer.status == (400 if tail else 200)
        for value in (" " * 7000 + "x" + " " * 900, " " * 7900 + ";"):
            answer = await api.submit(X_Watson_Metadata=f"customer_id={value}", Content_Type="audio/wav")
            assert answer.status == (400 if ";" in value else 201)
