"""Callback URLs that bear customers' labels: none is ever dropped, and an erasure takes what bears its own."""

from datetime import datetime, timedelta
from typing import Any

import pytest

from retention import keyspace
from retention.callbacks import Callbacks
from retention.egress import Egress
from retention.errors import CustomerErased
from retention.job import Callback
from retention.telling import Unwanted
from tests.integration.cell import Cell
from tests.integration.traces import traces
from tests.stack import wait_until

URL = "https://receiver.example/told?key=1"
SECRET = "a"


@pytest.fixture
def callbacks(cell: Cell, monkeypatch: pytest.MonkeyPatch) -> Callbacks:
    """Give the cell's callbacks, whose receivers all answer their challenge."""

    async def answered(*_: Any) -> None:
        pass

    monkeypatch.setattr(Callbacks, "_challenge", answered)
    return Callbacks(
        registrations=cell.registrations,
        tenants=cell.tenants,
        egress=Egress(networks=(), loopback=False, at_once=1),
        hash_="sha256",
        challenges_per_hour=20,
    )


async def register(
    cell: Cell, callbacks: Callbacks, *, secret: str | None = SECRET, customer: str | None = None, url: str = URL
) -> bool:
    began = await cell.jobs.now()
    return await callbacks.register(cell.tenant, url, secret, customer=customer, began=began)


async def is_later(cell: Cell, moment: datetime) -> bool:
    return await cell.jobs.now() > moment


async def erase(cell: Cell, customer: str) -> None:
    """Erase, and return in a later millisecond, so that what begins now is not refused."""
    await cell.jobs.erase_customer(cell.tenant, customer)
    erased = await cell.jobs.now()
    await wait_until(lambda: is_later(cell, erased))


@pytest.mark.parametrize(
    "again",
    [
        {"secret": "a"},
        {"secret": None},
        {"secret": "b"},
        {"secret": "a", "customer": "two"},
        {"secret": None, "customer": "two"},
        {"secret": "b", "customer": "two"},
    ],
)
@pytest.mark.parametrize("erased", ["one", "two"])
async def test_a_url_that_is_registered_again_keeps_its_labels(
    cell: Cell, callbacks: Callbacks, again: dict[str, Any], erased: str
) -> None:
    """With or without a new secret, by nobody or by another customer: the erasure of either takes it away."""
    assert await register(cell, callbacks, customer="one")
    assert not await register(cell, callbacks, **again)
    await erase(cell, erased)
    found = await cell.registrations.find(cell.tenant, URL)
    assert (found is None) == (erased in {"one", again.get("customer")})


async def test_an_erasure_takes_its_own_urls_only(cell: Cell, callbacks: Callbacks) -> None:
    """Neither those of others, nor those of nobody, nor those of the same customer of another tenant."""
    stranger = cell.of((await cell.tenants.create("stranger", now=await cell.jobs.now())).id)
    for at in (cell, stranger):
        for customer in ("one", "two", None):
            assert await register(at, callbacks, customer=customer, url=f"https://{customer}.example/")
    await erase(cell, "one")
    left = {each.url for each in await cell.registrations.all(cell.tenant)}
    assert left == {"https://two.example/", "https://None.example/"}
    assert len(await stranger.registrations.all(stranger.tenant)) == 3
    assert await traces(cell, "one") == []


async def test_nothing_is_told_to_an_erased_url(cell: Cell, callbacks: Callbacks) -> None:
    """Not even of another's job, and not when the URL is registered again."""
    await register(cell, callbacks, customer="one")
    callback = await callbacks.subscribe(cell.tenant, URL, ("recognitions.started",))
    assert isinstance(callback, Callback)
    job = await cell.submit(customer="two", callback=callback)
    async with cell.holding.hold(cell.tenant, job.id):
        await erase(cell, "one")
        assert await register(cell, callbacks, customer="one")
        assert await cell.telling().next(cell.tenant, job.id) == Unwanted(places=("started",))


async def test_a_registration_that_began_before_an_erasure_is_refused(
    cell: Cell, callbacks: Callbacks, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The receiver took its time with the challenge; a label on what is registered already is refused as well."""

    async def slow(*_: Any) -> None:
        await erase(cell, "one")

    with monkeypatch.context() as patch:
        patch.setattr(Callbacks, "_challenge", slow)
        with pytest.raises(CustomerErased):
            await register(cell, callbacks, customer="one")
    assert await cell.registrations.all(cell.tenant) == []

    assert await register(cell, callbacks)
    before = await cell.jobs.now() - timedelta(minutes=1)
    with pytest.raises(CustomerErased):
        await callbacks.register(cell.tenant, URL, None, customer="one", began=before)
    assert await traces(cell, "one") == []


async def test_an_erased_registration_is_not_brought_back(
    cell: Cell, callbacks: Callbacks, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A new secret that is written after the erasure makes another registration, which nothing pending is told to."""
    await register(cell, callbacks, customer="one")
    before = await cell.registrations.find(cell.tenant, URL)
    stored, times = cell.registrations._stored, list[bytes]()

    async def overtaken(*args: Any) -> bytes:
        times.append(await stored(*args))
        if len(times) == 2:  # the first look is for the challenge, the second for the new registration
            await erase(cell, "one")
        return times[-1]

    monkeypatch.setattr(cell.registrations, "_stored", overtaken)
    await register(cell, callbacks, secret="b")
    after = await cell.registrations.find(cell.tenant, URL)
    assert before is not None
    assert after is not None
    assert (after.id == before.id, after.secret, after.customers) == (False, "b", ())


async def test_however_many_urls_bear_a_label_an_erasure_takes_them(cell: Cell, callbacks: Callbacks) -> None:
    """In one step, more than a command of a script can take."""
    await register(cell, callbacks, customer="c")
    key = keyspace.registrations_of(cell.tenant)
    [kept] = await cell.redis.hvals(key)
    await cell.redis.hset(key, mapping={f"{number:064x}": kept for number in range(8200)})
    await erase(cell, "c")
    assert await cell.redis.hlen(key) == 0
