"""Registering callback URLs with real receivers: the answers, and that what is not allowed is not told apart."""

import asyncio
import hmac
from base64 import b64encode
from collections.abc import AsyncIterator

import pytest

from deploy.stack import Stack
from tests.acceptance.client import Client
from tests.acceptance.receivers import SECRET, Answer, Asked, Receiver, echo, reply
from tests.recognizers import recording
from tests.stack import wait_until

UNREACHABLE = "callback server could not be reached"


@pytest.fixture
async def client(calling: Stack) -> AsyncIterator[Client]:
    """Give a client of a new tenant."""
    async with Client(calling.url, calling.new_tenant("callbacks")[1]) as client:
        yield client


def says(status: int, text: str | None = None, **headers: str) -> Answer:
    """Answer a challenge with this status, and another text than the challenge."""

    async def answer(asked: Asked, writer: asyncio.StreamWriter) -> None:
        await reply(writer, status, asked.challenge if text is None else text, headers)

    return answer


async def after_six_seconds(asked: Asked, writer: asyncio.StreamWriter) -> None:
    """Answer rightly, and too late: whoever waits so long takes it."""
    await asyncio.sleep(6)  # longer than a receiver may take
    await echo(asked, writer)


async def refused(client: Client, url: str, why: str) -> None:
    """See a registration refused, in IBM's words."""
    status, body = await client.register(url)
    assert (status, body["error"]) == (400, f"unable to register callback url '{url}', {why}")


async def test_a_url_is_challenged_once_for_a_secret(client: Client) -> None:
    """201, then 200 without a challenge, also without the secret; another secret is another challenge."""
    async with Receiver() as receiver:
        created, already = (
            (201, {"status": "created", "url": receiver.url}),
            (200, {"status": "already created", "url": receiver.url}),
        )
        assert await client.register(receiver.url, SECRET) == created
        assert await client.register(receiver.url, SECRET) == already
        assert await client.register(receiver.url) == already
        assert len(receiver.asked) == 1
        assert await client.register(receiver.url, "another") == already
        assert len(receiver.asked) == 2
        for asked, secret in zip(receiver.asked, (SECRET, "another"), strict=True):
            signed = b64encode(hmac.digest(secret.encode(), asked.challenge.encode(), "sha256")).decode()
            assert asked.headers["x-callback-signature"] == signed
            assert asked.headers["accept"] == "text/plain"
            assert asked.target == f"/told?by=volant&challenge_string={asked.challenge}"

        receiver.answer = says(200, "no")
        await client.register(receiver.url, "a third")
        receiver.answer = echo
        job = await client.submit(recording(0), callback_url=receiver.url, events="recognitions.completed")

        async def told() -> bool:
            return bool(receiver.told)

        await wait_until(told)
        assert receiver.told[0].id == job
        assert receiver.told[0].is_signed("another"), "a secret that was not proved is not taken"


async def test_a_registration_is_one_tenants(calling: Stack, client: Client) -> None:
    """What another has registered can neither be named nor taken back; what is unregistered is as unknown."""
    async with Receiver() as receiver, Client(calling.url, calling.new_tenant("another")[1]) as other:
        assert (await client.register(receiver.url))[0] == 201
        assert (await other.try_to_submit(recording(0), callback_url=receiver.url))[0] == 400
        assert await other.unregister(receiver.url) == 404
        assert (await client.try_to_submit(recording(0), callback_url=f"{receiver.url}&more"))[0] == 400
        assert await client.unregister(receiver.url) == 200
        status, body = await client.try_to_submit(recording(0), callback_url=receiver.url)
        assert (status, body["error"]) == (400, f"callback url '{receiver.url}' is not registered")
        assert await client.unregister(receiver.url) == 404
        assert (await client.register(receiver.url))[0] == 201


async def test_who_does_not_answer_as_it_must_is_refused(client: Client) -> None:
    """Another status, another text, a redirect, no answer within five seconds, nobody there: each in its words."""
    async with Receiver() as receiver, Receiver() as elsewhere:
        receiver.answer = says(406)
        await refused(client, receiver.url, "callback server responded with status code 406")
        receiver.answer = says(302, Location=elsewhere.url)
        await refused(client, receiver.url, "callback server responded with status code 302")
        receiver.answer = says(200, "hello")
        await refused(client, receiver.url, "callback server did not echo the challenge string")
        receiver.answer = after_six_seconds
        began = asyncio.get_running_loop().time()
        await refused(client, receiver.url, UNREACHABLE)
        assert asyncio.get_running_loop().time() - began >= 5
        await receiver.close()
        await refused(client, receiver.url, UNREACHABLE)
        assert (await client.try_to_submit(recording(0), callback_url=receiver.url))[0] == 400
        assert elsewhere.asked + elsewhere.others == []


async def test_so_many_challenges_an_hour_and_no_more(client: Client) -> None:
    """429 from the twenty-first on, and when to come back; what needs no challenge is answered all the same."""
    async with Receiver() as receiver:
        for number in range(20):
            assert (await client.register(receiver.url, f"secret {number}"))[0] == (200 if number else 201)
        status, body, headers = await client.try_to_register(receiver.url, "one more")
        assert (status, body["code"]) == (429, 429)
        assert 3500 < int(headers["Retry-After"]) <= 3600
        assert len(receiver.asked) == 20
        assert (await client.register(receiver.url, "secret 19"))[0] == 200


async def test_what_is_not_allowed_is_not_told_apart(stack: Stack, calling: Stack) -> None:
    """Metadata, private networks, this machine, closed ports and nonsense: one answer, and nothing reaches anybody."""
    async with Receiver() as receiver:
        denied = [
            "http://169.254.169.254/latest/meta-data/",
            "http://10.0.0.1/",
            "http://[fd00:ec2::254]/",
            "http://192.168.1.1:8080/",
            "http://0.0.0.0/",
            "nonsense",
        ]
        for where, urls in ((stack, [receiver.url, *denied]), (calling, denied)):
            async with Client(where.url, where.new_tenant("denied")[1]) as client:
                began = asyncio.get_running_loop().time()
                await asyncio.gather(*(refused(client, url, UNREACHABLE) for url in urls))
                assert asyncio.get_running_loop().time() - began >= 1
        assert receiver.asked == []
