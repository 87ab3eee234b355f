"""What becomes of a notification: by what its receiver answered, by whose lease it is, by what happens to its job."""

from datetime import timedelta

import msgspec
import pytest

from retention import keyspace
from retention.errors import KeyDisabled
from retention.job import JobId, Processing, TenantId, Waiting
from retention.keys import COMMON
from retention.notification import Pending
from retention.telling import Notification, Unwanted
from retention.tenant import Tenant
from tests.integration.cell import HOUR, Cell
from tests.integration.notifying import (
    SECRET,
    URL,
    comes_back_in,
    end,
    ended,
    fetched,
    leases_of,
    of_the_queue,
    pending,
    registered,
    telling,
)
from tests.stack import wait_until

DAY = timedelta(days=1)


async def long_pending(cell: Cell, sent: Notification, ago: timedelta, *, tries: int = 0) -> Notification:
    """Make it a notification that is pending since so long ago."""
    since = round((sent.now - ago).timestamp() * 1000)
    older = Pending(event=sent.pending.event, since=since, tries=tries)
    await cell.redis.hset(keyspace.job(sent.tenant, sent.job), sent.place, msgspec.json.encode(older))
    return msgspec.structs.replace(sent, pending=older)


@pytest.mark.parametrize("status", [200, 201, 204, 299])
async def test_what_is_taken_is_done(cell: Cell, status: int) -> None:
    """Any 2xx: the next one is due at once, and after the last nothing is left."""
    job = await ended(cell, await registered(cell))
    leases = leases_of(cell)
    for event, place in (("recognitions.started", "started"), ("recognitions.completed", "ended")):
        sent = await fetched(cell, leases, job)
        assert (sent.pending.event, sent.place, sent.url) == (event, place, URL)
        assert await telling(cell, leases).note(sent, status) == "taken"
        assert await pending(cell, job, place) is None
    assert await of_the_queue(cell) == []
    assert not {b"started", b"ended", b"dead.started", b"dead.ended"} & await cell.fields(job)


@pytest.mark.parametrize("status", [None, 100, 302, 400, 404, 429, 500, 503])
async def test_what_is_not_taken_comes_again(cell: Cell, status: int | None) -> None:
    """Whatever it was, a redirect too: later and later, the same bytes under the same id, and nothing overtakes it."""
    job = await ended(cell, await registered(cell))
    leases = leases_of(cell)
    sent = first = await fetched(cell, leases, job)
    for tries, wait in enumerate((1, 5, 30, 120, 600, 3600, 3600), start=1):
        assert await telling(cell, leases).note(sent, status) == "again"
        kept = await pending(cell, job, "started")
        assert kept == Pending(event="recognitions.started", since=first.pending.since, tries=tries)
        back = await comes_back_in(cell, job)
        assert back is not None
        assert 0.75 * wait < back <= 1.2 * wait
        assert await leases.claim(1, lapsed=True) == []
        await cell.redis.zadd(keyspace.NOTIFICATION.name, {entry(job): 10**12})
        sent = await fetched(cell, leases, job)
        assert (sent.body, sent.place) == (first.body, "started")
        assert sent.headers["webhook-id"] == first.headers["webhook-id"] == f"{job.id}_started"
        assert sent.headers["X-Callback-Signature"] == first.headers["X-Callback-Signature"]


@pytest.mark.parametrize(("status", "ago"), [(410, timedelta(0)), (500, DAY), (None, DAY - timedelta(minutes=30))])
async def test_what_nobody_takes_is_dead(cell: Cell, status: int | None, ago: timedelta) -> None:
    """By 410 at once, else when the next try would be more than a day after the event: kept, and the next is told."""
    job = await ended(cell, await registered(cell))
    leases = leases_of(cell)
    sent = await long_pending(cell, await fetched(cell, leases, job), ago, tries=9)
    assert await telling(cell, leases).note(sent, status) == "dead"
    assert await pending(cell, job, "started") is None
    buried = await pending(cell, job, "dead.started")
    assert buried == msgspec.structs.replace(sent.pending, tries=10)
    assert [(dead.tenant, dead.job, dead.pending) async for dead in cell.outbox.dead()] == [
        (cell.tenant, job.id, buried)
    ]
    assert (await fetched(cell, leases, job)).place == "ended"


async def test_an_event_within_its_day_is_not_dead(cell: Cell) -> None:
    """However often it was tried."""
    job = await ended(cell, await registered(cell))
    leases = leases_of(cell)
    sent = await long_pending(cell, await fetched(cell, leases, job), DAY - timedelta(hours=2), tries=30)
    assert await telling(cell, leases).note(sent, 500) == "again"


async def test_putting_off_is_no_try(cell: Cell) -> None:
    """The notification stays as it is, and comes back when it was put off to."""
    job = await ended(cell, await registered(cell))
    leases = leases_of(cell)
    sent = await fetched(cell, leases, job)
    await telling(cell, leases).put_off(cell.tenant, job.id, timedelta(seconds=40))
    assert await pending(cell, job, "started") == sent.pending
    back = await comes_back_in(cell, job)
    assert back is not None
    assert 39 < back <= 40


async def test_a_key_that_is_disabled_while_it_is_opened_keeps_it_back(
    cell: Cell, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A root key may take seconds to open it: what counts is whether the key may be used as it goes out."""
    job = await ended(cell, await registered(cell))
    get = cell.tenants.get

    async def slowly(tenant: TenantId) -> Tenant:
        await cell.custody.disable(COMMON)
        return await get(tenant)

    monkeypatch.setattr(cell.tenants, "get", slowly)
    with pytest.raises(KeyDisabled):
        await telling(cell).next(cell.tenant, job.id)


@pytest.mark.parametrize("status", [200, 410, 500])
async def test_what_comes_to_pass_while_it_is_told_is_not_lost(cell: Cell, status: int) -> None:
    """The job ends while its start is on the wire: the end is pending, in the same delivery, after it."""
    job = await cell.submit(callback=await registered(cell))
    leases = leases_of(cell)
    async with cell.holding.hold(cell.tenant, job.id) as held:
        assert held is not None
        sent = await fetched(cell, leases, job)
        await cell.holding.finish(held, b'{"results":[]}')
    assert await leases.claim(1, lapsed=True) == []
    await telling(cell, leases).note(sent, status)
    assert await pending(cell, job, "ended") is not None
    if status != 500:
        assert (await fetched(cell, leases, job)).place == "ended"


async def test_an_event_after_all_was_told_begins_anew(cell: Cell) -> None:
    """The delivery had left the queue, and is there again; also when nothing was left to tell in between."""
    job = await cell.submit(callback=await registered(cell))
    leases = leases_of(cell)
    async with cell.holding.hold(cell.tenant, job.id) as held:
        assert held is not None
        await telling(cell, leases).note(await fetched(cell, leases, job), 200)
        assert await of_the_queue(cell) == []
        await cell.holding.finish(held, b'{"results":[]}')
    await telling(cell, leases).note(await fetched(cell, leases, job), 200)
    assert await of_the_queue(cell) == []


async def test_whose_lease_has_lapsed_notes_nothing(cell: Cell) -> None:
    """Neither a success nor a failure nor a death, and the delivery stays another's."""
    job = await ended(cell, await registered(cell))
    first, second = leases_of(cell, timedelta(milliseconds=1)), leases_of(cell)
    sent = await fetched(cell, first, job)

    async def lapsed() -> bool:
        return not await first.owns(entry(job))

    await wait_until(lapsed)
    for status in (200, 410, 500):
        await telling(cell, first).note(sent, status)
    await telling(cell, first).put_off(cell.tenant, job.id, HOUR)
    await telling(cell, first).forget(cell.tenant, job.id, Unwanted(places=("started",)))
    assert await pending(cell, job, "started") == sent.pending
    again = await fetched(cell, second, job)
    await telling(cell, first).note(sent, 200)
    assert await pending(cell, job, "started") == again.pending == sent.pending
    assert await second.owns(entry(job))


@pytest.mark.parametrize("status", [200, 410, 500])
async def test_a_job_that_goes_while_it_is_told_does_not_come_back(cell: Cell, status: int) -> None:
    """Deleted with its notification on the wire: whatever the receiver answers, no key names the job."""
    job = await ended(cell, await registered(cell))
    leases = leases_of(cell)
    sent = await fetched(cell, leases, job)
    await cell.jobs.delete(cell.tenant, job.id)
    await telling(cell, leases).note(sent, status)
    assert await cell.naming(job) == []


async def test_nothing_is_told_without_a_registration(cell: Cell) -> None:
    """Taken back, or taken back and registered again: what is pending is dropped. A new secret drops nothing."""
    callback = await registered(cell)
    job = await ended(cell, callback)
    leases = leases_of(cell)
    assert (await registered(cell)).registration == callback.registration
    sent = await fetched(cell, leases, job)
    for registers_again in (False, True):
        await cell.registrations.remove(cell.tenant, URL)
        if registers_again:
            assert (await registered(cell)).registration != callback.registration
        assert await telling(cell, leases).next(cell.tenant, job.id) == Unwanted(places=("started",))
    await telling(cell, leases).forget(cell.tenant, job.id, Unwanted(places=("started",)))
    assert await leases.claim(1, lapsed=True) == [entry(job)]
    await telling(cell, leases).forget(cell.tenant, job.id, Unwanted(places=("ended",)))
    assert await of_the_queue(cell) == []
    assert sent.headers["X-Callback-Signature"] != SECRET


async def test_a_job_tells_its_start_once(cell: Cell) -> None:
    """Handed back and begun again, it has started already."""
    job = await cell.submit(callback=await registered(cell))
    with pytest.raises(KeyboardInterrupt):
        async with cell.holding.hold(cell.tenant, job.id):
            raise KeyboardInterrupt
    leases = leases_of(cell)
    await telling(cell, leases).note(await fetched(cell, leases, job), 200)
    await end(cell, job)
    found = await fetched(cell, leases, job)
    assert found.pending.event == "recognitions.completed"
    assert not isinstance(await cell.stored(job), Processing)


def entry(job: Waiting) -> JobId:
    """Return the id of a job's delivery."""
    return JobId(keyspace.NOTIFICATION.entry(job.id))
