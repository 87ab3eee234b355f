"""Registered callback URLs: sealed, fenced, and one for a URL whatever happens at once."""

import asyncio
from collections.abc import Awaitable, Callable
from datetime import timedelta
from typing import Any, cast

import pytest
from redis.asyncio import Redis

from retention import keyspace
from retention.callbacks import Callbacks
from retention.egress import Egress, Reply
from retention.errors import ChallengeFailed, CustomerErased, NotFound, TenantGone, TooManyChallenges
from retention.job import RegistrationId
from retention.notification import signature
from retention.registrations import Registration
from retention.telling import Notification
from tests.integration.cell import Cell
from tests.integration.notifying import SECRET, URL, ended, fetched, leases_of, of_the_queue, registered, telling
from tests.stack import wait_until

Meanwhile = Callable[[], Awaitable[object]]


class Echo:
    """An egress whose receivers pass every challenge, while something else happens. `asked` counts them."""

    def __init__(self, meanwhile: Meanwhile | None = None) -> None:
        self.meanwhile = meanwhile
        self.asked = 0

    async def get(self, url: str, **_: Any) -> Reply:
        self.asked += 1
        if self.meanwhile is not None:
            await self.meanwhile()
        return Reply(200, url.partition("challenge_string=")[2].encode())


def callbacks(cell: Cell, egress: Echo, *, most: int = 20) -> Callbacks:
    return Callbacks(
        registrations=cell.registrations,
        tenants=cell.tenants,
        egress=cast("Egress", egress),
        hash_="sha256",
        challenges_per_hour=most,
    )


async def register(
    cell: Cell,
    egress: Echo,
    secret: str | None = SECRET,
    *,
    customer: str | None = None,
    url: str = URL,
    most: int = 20,
) -> bool:
    """Register a URL as the front does."""
    began = await cell.store.now()
    return await callbacks(cell, egress, most=most).register(cell.tenant, url, secret, customer=customer, began=began)


async def found(cell: Cell, url: str = URL) -> Registration:
    registration = await cell.registrations.find(cell.tenant, url)
    assert registration is not None
    return registration


async def everything(redis: Redis) -> bytes:
    """Return all that Redis holds, keys and values."""
    values = [bytes(key) + (await redis.dump(key) or b"") for key in await redis.keys("*")]
    hashes = [await redis.hgetall(key) for key in await redis.keys("*") if await redis.type(key) == b"hash"]
    return b"\n".join([*values, *(part for each in hashes for pair in each.items() for part in pair)])


async def test_neither_url_nor_secret_nor_body_is_at_rest(cell: Cell) -> None:
    """Of a registration and of a pending notification, no value of Redis holds them in clear; but they open."""
    await register(cell, Echo(), customer="canary-customer")
    callback = await callbacks(cell, Echo()).subscribe(cell.tenant, URL, ("recognitions.completed_with_results",))
    job = await ended(cell, callback, user_token="canary-token", customer="canary-customer")
    stored = await everything(cell.redis)
    for clear in (b"receiver.example", b"canary", SECRET.encode()):
        assert clear not in stored
    assert job.id.encode() in stored
    sent = await fetched(cell, leases_of(cell), job)
    assert (sent.url, b"canary-token" in sent.body) == (URL, True)
    assert sent.headers["X-Callback-Signature"] == signature(SECRET, sent.body, "sha256")


async def test_a_new_secret_keeps_what_is_pending(cell: Cell) -> None:
    """It is told, and signed with the new one. The registration is as old as it was."""
    await register(cell, Echo())
    before = await found(cell)
    job = await ended(cell, await callbacks(cell, Echo()).subscribe(cell.tenant, URL, ("recognitions.completed",)))
    assert await register(cell, Echo(), "another") is False
    after = await found(cell)
    assert (after.id, after.created, after.secret) == (before.id, before.created, "another")
    sent = await fetched(cell, leases_of(cell), job)
    assert sent.headers["X-Callback-Signature"] == signature("another", sent.body, "sha256")


async def test_two_who_register_at_once_have_one_registration(cell: Cell) -> None:
    """Both were challenged before either was kept: jobs that the first has submitted since are told all the same."""
    jobs = []

    async def the_other() -> None:
        await register(cell, Echo())
        jobs.append(
            await ended(cell, await callbacks(cell, Echo()).subscribe(cell.tenant, URL, ("recognitions.completed",)))
        )

    await register(cell, Echo(the_other), "another")
    sent = await fetched(cell, leases_of(cell), jobs[0])
    assert sent.headers["X-Callback-Signature"] == signature("another", sent.body, "sha256")


async def test_what_is_taken_back_during_a_challenge_is_another_one_afterwards(cell: Cell) -> None:
    """What was pending for it stays dropped."""
    await register(cell, Echo())
    job = await ended(cell, await callbacks(cell, Echo()).subscribe(cell.tenant, URL, ("recognitions.completed",)))
    before = await found(cell)
    await register(cell, Echo(lambda: cell.registrations.remove(cell.tenant, URL)), "another")
    assert (await found(cell)).id != before.id
    leases = leases_of(cell)
    await leases.claim(1, lapsed=True)
    dropped = await telling(cell, leases).next(cell.tenant, job.id)
    assert not isinstance(dropped, Notification)
    await telling(cell, leases).forget(cell.tenant, job.id, dropped)
    assert await of_the_queue(cell) == []


async def test_registrations_at_once_agree(cell: Cell) -> None:
    """Many that are kept in the same moment: one id, which every one of them was told."""
    kept = await asyncio.gather(*(registered(cell) for _ in range(20)))
    assert {callback.registration for callback in kept} == {(await found(cell)).id}


async def test_an_erasure_goes_before_what_began_before_it(cell: Cell) -> None:
    """A registration under way with the customer's label is refused; one that begins afterwards is taken."""
    with pytest.raises(CustomerErased):
        await register(cell, Echo(lambda: cell.jobs.erase_customer(cell.tenant, "Ada")), customer="Ada")
    assert await cell.registrations.find(cell.tenant, URL) is None
    await register(cell, Echo(lambda: cell.jobs.erase_customer(cell.tenant, "Ada")), customer="Grace")
    erased = await cell.store.now()

    async def later() -> bool:
        return await cell.store.now() > erased

    await wait_until(later)
    await register(cell, Echo(), customer="Ada", url=f"{URL}&ada")
    assert len(await cell.registrations.all(cell.tenant)) == 2
    await cell.jobs.erase_customer(cell.tenant, "Ada")
    assert [each.url for each in await cell.registrations.all(cell.tenant)] == [URL]


async def test_a_label_is_never_dropped(cell: Cell) -> None:
    """Given when the URL was registered already, it counts; a new secret without one leaves it."""
    echo = Echo()
    await register(cell, echo)
    assert await register(cell, echo, customer="Ada") is False
    assert echo.asked == 1
    await register(cell, echo, "another")
    await cell.jobs.erase_customer(cell.tenant, "Ada")
    assert await cell.registrations.find(cell.tenant, URL) is None


async def test_a_deleted_tenant_registers_nothing(cell: Cell) -> None:
    """Under way or later; and nothing of it is left."""
    await register(cell, Echo())
    with pytest.raises(TenantGone):
        await register(cell, Echo(lambda: cell.jobs.delete_tenant(cell.tenant)), "another")
    with pytest.raises((TenantGone, NotFound)):
        await register(cell, Echo())
    assert await cell.redis.keys("volant:callbacks:*") == []


async def test_challenges_are_counted_for_an_hour(cell: Cell) -> None:
    """So many, and then none until the count expires; what leads to none is not counted."""
    echo = Echo()
    with pytest.raises(ChallengeFailed):
        await register(cell, echo, url="http://no url/", most=3)
    for number in range(3):
        await register(cell, echo, f"secret {number}", most=3)
        await register(cell, echo, f"secret {number}", most=3)
    for _ in range(2):
        with pytest.raises(TooManyChallenges) as refused:
            await register(cell, echo, "one more", most=3)
        assert timedelta(minutes=59) < refused.value.wait <= timedelta(hours=1)
    assert echo.asked == 3
    key = keyspace.challenges_of(cell.tenant)
    assert 3590 < await cell.redis.ttl(key) <= 3600
    await cell.redis.pexpire(key, 1)

    async def expired() -> bool:
        return not await cell.redis.exists(key)

    await wait_until(expired)
    assert await register(cell, echo, "one more", most=3) is False


async def test_a_registration_that_does_not_open_is_gone(cell: Cell) -> None:
    """Damaged at rest: jobs cannot name it, and it may be registered anew, as another one."""
    await register(cell, Echo())
    before = await found(cell)
    key = keyspace.registrations_of(cell.tenant)
    [(tag, value)] = (await cell.redis.hgetall(key)).items()
    await cell.redis.hset(key, tag, value.replace(before.id.encode(), f"{before.id[:-1]}g".encode()))
    assert await cell.registrations.find(cell.tenant, URL) is None
    assert await register(cell, Echo()) is True
    assert (await found(cell)).id not in {before.id, RegistrationId("")}
