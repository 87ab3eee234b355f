"""Notifications of a cell: jobs that tell, a notifier in the test's own process, and an egress that goes nowhere."""

import asyncio
from collections.abc import AsyncIterator, Awaitable, Callable, Mapping
from contextlib import asynccontextmanager
from datetime import timedelta
from typing import Any, NamedTuple, cast

import msgspec

from retention import keyspace
from retention.delivery import NOTIFY
from retention.egress import Egress, Reply
from retention.errors import Unreachable
from retention.job import Callback, Event, JobId, Waiting
from retention.leases import Leases
from retention.notification import DEFAULT_EVENTS, Pending
from retention.readiness import Readiness
from retention.roots.file import FileRoot
from retention.seal import Key
from retention.telling import Notification, Telling
from tests.integration.cell import RESULTS, Cell
from worker.leases import func
from worker.notifier import Notifier, Tools, notify
from worker.receivers import Receivers

LEASE = timedelta(seconds=12)
URL, SECRET = "https://receiver.example/told?key=canary-in-a-url", "canary-secret"


class Sent(NamedTuple):
    """What a receiver got."""

    url: str
    id: JobId
    event: Event
    body: bytes
    headers: Mapping[str, str]


class Nowhere:
    """An egress whose receivers are functions of what they get; those of no name answer 200. `sent` is all they got."""

    def __init__(self, receivers: Mapping[str, Callable[[Sent], Awaitable[int]]] | None = None) -> None:
        self.receivers = dict(receivers or {})
        self.sent: list[Sent] = []

    async def post(self, url: str, body: bytes, *, headers: Mapping[str, str], within: timedelta) -> Reply:
        said: Any = msgspec.json.decode(body)
        sent = Sent(url, JobId(said["id"]), said["event"], body, headers)
        self.sent.append(sent)
        try:
            async with asyncio.timeout(within.total_seconds()):
                return Reply(await self.receivers[url](sent) if url in self.receivers else 200, b"")
        except TimeoutError:
            raise Unreachable from None

    def events(self, job: Waiting) -> list[Event]:
        return [sent.event for sent in self.sent if sent.id == job.id]


def telling(cell: Cell, leases: Leases | None = None) -> Telling:
    """Return what a notifier may do, with leases of its own."""
    return Telling(
        store=cell.store,
        keyring=cell.keyring,
        tenants=cell.tenants,
        registrations=cell.registrations,
        leases=leases or leases_of(cell),
        hash_="sha256",
    )


def leases_of(cell: Cell, lease: timedelta = LEASE) -> Leases:
    """Return the leases of a new notifier."""
    return Leases(cell.redis, lease=lease, queue=keyspace.NOTIFICATION)


async def registered(cell: Cell, url: str = URL, *, events: tuple[Event, ...] = DEFAULT_EVENTS) -> Callback:
    """Register a URL, without a challenge; return who is to be told of a job."""
    kept = await cell.registrations.keep(cell.tenant, url, SECRET, customer=None, began=await cell.store.now())
    return Callback(registration=kept.id, events=events)


async def ended(cell: Cell, callback: Callback, **options: Any) -> Waiting:
    """Have a job accepted, begun and completed: both its events are pending."""
    job = await cell.submit(callback=callback, **options)
    await end(cell, job)
    return job


async def end(cell: Cell, job: Waiting) -> None:
    async with cell.holding.hold(cell.tenant, job.id) as held:
        assert held is not None
        await cell.holding.finish(held, RESULTS)


async def fetched(cell: Cell, leases: Leases, job: Waiting) -> Notification:
    """Claim the one delivery that is due, and return what it says."""
    assert await leases.claim(10, lapsed=True) == [keyspace.NOTIFICATION.entry(job.id)]
    found = await telling(cell, leases).next(cell.tenant, job.id)
    assert isinstance(found, Notification)
    return found


async def pending(cell: Cell, job: Waiting, field: str) -> Pending | None:
    """Return a notification as it is kept in a job's field."""
    kept = await cell.redis.hget(keyspace.job(cell.tenant, job.id), field)
    return None if kept is None else msgspec.json.decode(kept, type=Pending)


async def comes_back_in(cell: Cell, job: Waiting) -> float | None:
    """Return in how many seconds the delivery is due; None when it is not queued."""
    score = await cell.redis.zscore(keyspace.NOTIFICATION.name, keyspace.NOTIFICATION.entry(job.id))
    return None if score is None else float(score) / 1000 - (await cell.store.now()).timestamp()


async def of_the_queue(cell: Cell) -> list[str]:
    """Return what is left of deliveries: entries of the queue, and arq's keys."""
    name = keyspace.NOTIFICATION.name
    entries = [entry.decode() for entry in await cell.redis.zrange(name, 0, -1)]
    return entries + [key.decode() async for key in cell.redis.scan_iter("arq:*tell:*", count=1000)]


@asynccontextmanager
async def notifying(cell: Cell, egress: Nowhere, *, at_once: int = 20, drain: float = 0.1) -> AsyncIterator[Notifier]:
    """Run a notifier for as long as the block lasts, and stop it in good order."""
    leases = leases_of(cell)
    notifier = Notifier(
        [func(notify, name=NOTIFY)],
        leases=leases,
        readiness=Readiness(cell.redis, FileRoot(Key.random())),
        redis=cell.redis,
        jobs_at_once=at_once,
        lease=LEASE,
        drain=timedelta(seconds=drain),
    )
    tools = Tools(telling=telling(cell, leases), egress=cast("Egress", egress), receivers=Receivers(at_once=at_once))
    notifier.ctx.update(tools=tools, notifier=notifier)
    running = asyncio.create_task(notifier.main())
    try:
        yield notifier
    finally:
        notifier.stop()
        await running
