"""Dead notifications, as an operator sees them and has them sent again; and callback URLs, as they are listed."""

import asyncio
from functools import partial

import msgspec
from redis.asyncio import Redis

from retention import keyspace
from retention.bootstrap import open_retention
from retention.job import Callback, JobId, TenantId, accept, new_job_id
from retention.notification import Pending
from retention.settings import load
from retention.store import JobStore
from retention.telling import Notification
from tests.commands import volant
from tests.integration.cell import HOUR, WEEK, Cell
from tests.integration.notifying import SECRET, URL, ended, fetched, leases_of, registered, telling


async def buried(cell: Cell, *, events: int = 2) -> tuple[JobId, Notification]:
    """Have so many events of a job die of a 410; return the job, and the first that was sent."""
    job = await ended(cell, await registered(cell))
    leases = leases_of(cell)
    first = await fetched(cell, leases, job)
    await telling(cell, leases).note(first, 410)
    if events > 1:
        await telling(cell, leases).note(await fetched(cell, leases, job), 410)
    return job.id, first


async def test_dead_ones_are_told_again_for_another_day(cell: Cell) -> None:
    """From the beginning, in their order, with the same bytes under the same id; and are not dead any more."""
    id_, first = await buried(cell)
    async for dead in cell.outbox.dead():
        old = msgspec.structs.replace(dead.pending, since=dead.pending.since - 2 * 86_400_000)
        place = "dead.started" if dead.pending.event == "recognitions.started" else "dead.ended"
        await cell.redis.hset(keyspace.job(cell.tenant, id_), place, msgspec.json.encode(old))
    assert await cell.outbox.revive(cell.tenant, id_) == 2
    assert [dead async for dead in cell.outbox.dead()] == []
    leases = leases_of(cell)
    for place in ("started", "ended"):
        assert await leases.claim(9, lapsed=True) == [keyspace.NOTIFICATION.entry(id_)]
        sent = await telling(cell, leases).next(cell.tenant, id_)
        assert isinstance(sent, Notification)
        assert (sent.place, sent.pending.tries) == (place, 0)
        assert abs(sent.pending.since / 1000 - sent.now.timestamp()) < 5
        if place == "started":
            assert (sent.body, sent.headers["webhook-id"]) == (first.body, first.headers["webhook-id"])
        await telling(cell, leases).note(sent, 200)
    assert await cell.outbox.revive(cell.tenant, id_) == 0


async def test_a_replay_is_not_later_than_what_is_pending(cell: Cell) -> None:
    """What is dead goes before what is to come, and does not wait for its next try."""
    id_, _ = await buried(cell, events=1)
    leases = leases_of(cell)
    assert await leases.claim(9, lapsed=True) == [keyspace.NOTIFICATION.entry(id_)]
    await telling(cell, leases).put_off(cell.tenant, id_, HOUR)
    assert await cell.outbox.revive(cell.tenant, id_) == 1
    assert await leases.claim(9, lapsed=True) == [keyspace.NOTIFICATION.entry(id_)]
    sent = await telling(cell, leases).next(cell.tenant, id_)
    assert isinstance(sent, Notification)
    assert sent.place == "started"


async def test_what_is_gone_cannot_be_told_again(cell: Cell) -> None:
    """Of a deleted job nothing is dead, and a replay makes no key."""
    id_, _ = await buried(cell)
    await cell.jobs.delete(cell.tenant, id_)
    assert [dead async for dead in cell.outbox.dead()] == []
    assert await cell.outbox.revive(cell.tenant, id_) == 0
    assert await cell.redis.keys(f"*{id_}*") == []


async def test_a_replay_while_another_is_told_waits_for_it(cell: Cell) -> None:
    """The lease on the job's delivery stays whose it is; then the dead one is told."""
    id_, _ = await buried(cell, events=1)
    leases = leases_of(cell)
    assert await leases.claim(9, lapsed=True) == [keyspace.NOTIFICATION.entry(id_)]
    sent = await telling(cell, leases).next(cell.tenant, id_)
    assert isinstance(sent, Notification)
    assert await cell.outbox.revive(cell.tenant, id_) == 1
    assert await leases_of(cell).claim(9, lapsed=True) == []
    assert await telling(cell, leases).note(sent, 200) == "taken"
    assert await leases.claim(9, lapsed=True) == [keyspace.NOTIFICATION.entry(id_)]


async def test_the_commands(redis: Redis, settings: dict[str, str]) -> None:
    """`volant callbacks list, dead and replay`: without queries and secrets; what is not there is a sentence."""
    run = partial(asyncio.to_thread, partial(volant, **settings))
    tenant = TenantId((await run("tenant", "create", "Example")).stdout.strip())
    in_force = load({f"VOLANT_{name.upper()}": value for name, value in settings.items()})
    async with open_retention(in_force, role="admin") as retention:
        now = await retention.cells.home.jobs.now()
        await retention.cells.home.registrations.keep(tenant, "http://other.example/", None, customer=None, began=now)
        kept = await retention.cells.home.registrations.keep(tenant, URL, SECRET, customer=None, began=now)
    store = JobStore(redis, rescue_after=HOUR)
    callback = Callback(registration=kept.id, events=("recognitions.completed",))
    job = accept(new_job_id(), tenant, now=now, results_ttl=HOUR, patience=WEEK, callback=callback)
    await store.write(job, now=now)
    dead = Pending(event="recognitions.completed", since=1_700_000_000_000, tries=9)
    await redis.hset(keyspace.job(tenant, job.id), "dead.ended", msgspec.json.encode(dead))

    listed = (await run("callbacks", "list", tenant)).stdout.splitlines()
    moment = f"{now:%Y-%m-%dT%H:%M:%SZ}"
    assert listed == [
        f"{moment}  unsigned  http://other.example/",
        f"{moment}  signed    https://receiver.example/told",
    ]
    told = f"{tenant}  {job.id}  recognitions.completed  2023-11-14T22:13:20Z  9\n"
    assert (await run("callbacks", "dead")).stdout == told
    assert (await run("callbacks", "replay", tenant, job.id)).stdout == "1 to be sent\n"
    assert (await run("callbacks", "dead")).stdout == ""
    refused = await run("callbacks", "replay", tenant, job.id)
    assert (refused.exit_code, refused.stderr) == (1, "Error: there is no such dead notification\n")
    assert await redis.zcard(keyspace.NOTIFICATION.name) == 1
