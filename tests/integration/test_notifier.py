"""The notifier on a real Redis: order, shares, outages, stops, and that nothing is left over."""

import asyncio
import contextlib
from collections.abc import Awaitable, Callable
from dataclasses import replace
from datetime import timedelta
from typing import Any

import pytest

from retention import keyspace
from retention.errors import Unavailable, Unreachable
from retention.job import Callback, Waiting
from tests.integration.cell import Cell
from tests.integration.notifying import (
    LEASE,
    URL,
    Nowhere,
    Sent,
    comes_back_in,
    ended,
    leases_of,
    notifying,
    of_the_queue,
    pending,
    registered,
)
from tests.stack import wait_until
from worker.receivers import AT_ONCE_PER_RECEIVER, FAILURES

BAD, GOOD = "https://bad.example/", "https://good.example/"


def all_told(egress: Nowhere, *jobs: Waiting) -> Callable[[], Awaitable[bool]]:
    async def told() -> bool:
        return all(egress.events(job) == ["recognitions.started", "recognitions.completed"] for job in jobs)

    return told


def nothing_left(cell: Cell) -> Callable[[], Awaitable[bool]]:
    async def nothing() -> bool:
        return await of_the_queue(cell) == []

    return nothing


class Gate:
    """A receiver that answers when the test says so."""

    def __init__(self, status: int = 200) -> None:
        self.status = status
        self.open = asyncio.Event()
        self.at_once = self.most_at_once = 0

    async def __call__(self, _sent: Sent) -> int:
        self.at_once += 1
        self.most_at_once = max(self.most_at_once, self.at_once)
        try:
            await self.open.wait()
        finally:
            self.at_once -= 1
        return self.status

    def is_asked(self, times: int = 1) -> Callable[[], Awaitable[bool]]:
        async def asked() -> bool:
            return self.at_once >= times

        return asked


async def test_everything_is_told_in_order_and_nothing_is_left(cell: Cell) -> None:
    """Once each, soon; and arq keeps nothing of it, its count of tries neither."""
    callback = await registered(cell)
    jobs = [await ended(cell, callback) for _ in range(60)]
    egress = Nowhere()
    async with notifying(cell, egress):
        await wait_until(all_told(egress, *jobs), within=LEASE.total_seconds())
        await wait_until(nothing_left(cell))
    assert len(egress.sent) == 120


async def test_the_next_may_come_before_it_is_known_that_the_last_was_noted(
    cell: Cell, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The reply is late, and the same notifier has claimed the job's delivery meanwhile: it is another one."""
    egress = Nowhere()
    async with notifying(cell, egress) as notifier:
        told = notifier._leases.told

        async def late(*args: Any, **options: Any) -> None:
            await told(*args, **options)
            await wait_until(lambda: _counts(egress, 2))

        monkeypatch.setattr(notifier._leases, "told", late)
        job = await ended(cell, await registered(cell))
        await wait_until(all_told(egress, job), within=LEASE.total_seconds() - 1)
        await wait_until(nothing_left(cell))


async def test_a_receiver_is_told_as_fast_as_it_answers(cell: Cell) -> None:
    """More at once than it may be sent at once: they follow each other without pauses."""

    async def slowly(_sent: Sent) -> int:
        await asyncio.sleep(0.05)  # its pace is what is tried
        return 200

    egress = Nowhere({URL: slowly})
    callback = await registered(cell, events=("recognitions.completed",))
    for _ in range(60):
        await ended(cell, callback)
    async with notifying(cell, egress):
        await wait_until(lambda: _counts(egress, 60), within=60 / AT_ONCE_PER_RECEIVER * 0.05 + 4)


async def test_the_next_is_told_at_once_also_soon_after_an_outage(cell: Cell) -> None:
    """A notifier takes what is due without waiting for the owners of lapsed leases: they never come back for them."""
    callback = await registered(cell)
    async with notifying(cell, egress := Nowhere()) as notifier:
        notifier._be_patient()
        jobs = [await ended(cell, callback) for _ in range(20)]
        await wait_until(all_told(egress, *jobs), within=LEASE.total_seconds() - 1)


async def test_a_retry_is_made_when_it_is_due(cell: Cell) -> None:
    """An idle notifier wakes for it."""
    left = iter([500, 503])

    async def failing(_sent: Sent) -> int:
        return next(left, 200)

    egress = Nowhere({URL: failing})
    job = await ended(cell, await registered(cell))
    async with notifying(cell, egress):
        await wait_until(lambda: _counts(egress, 4))
        await wait_until(nothing_left(cell))
    assert egress.events(job) == ["recognitions.started"] * 3 + ["recognitions.completed"]
    assert len({sent.body for sent in egress.sent[:3]}) == 1


async def test_a_job_that_goes_on_the_wire_leaves_nothing(cell: Cell) -> None:
    """Deleted while it is told: no key comes back, whatever the receiver answers then, or if it is broken off."""
    for status in (200, 500, 410):
        gate = Gate(status)
        job = await ended(cell, await registered(cell))
        async with notifying(cell, Nowhere({URL: gate})):
            await wait_until(gate.is_asked())
            await cell.jobs.delete(cell.tenant, job.id)
            gate.open.set()
            await wait_until(nothing_left(cell))
            assert await cell.naming(job) == []
    never = Gate()
    job = await ended(cell, await registered(cell))
    async with notifying(cell, Nowhere({URL: never})):
        await wait_until(never.is_asked())
        await cell.jobs.delete(cell.tenant, job.id)
        await wait_until(nothing_left(cell))

        async def broken_off() -> bool:
            return never.at_once == 0

        await wait_until(broken_off)  # with the next renewal: its lease is lost
    assert await cell.naming(job) == []


async def test_an_expired_job_leaves_nothing(cell: Cell) -> None:
    """Its results_ttl ends while a retry is pending: after the caretaker's next round nothing names it."""
    gate = Gate(500)
    gate.open.set()
    egress = Nowhere({URL: gate})
    job = await ended(cell, await registered(cell))
    async with notifying(cell, egress):
        await wait_until(lambda: _counts(egress, 1))
        await cell.redis.delete(keyspace.job(cell.tenant, job.id))  # as Redis does at its moment
        await cell.redis.zadd(keyspace.DUE, {keyspace.entry(cell.tenant, job.id, job.customer): 0})

        async def swept() -> bool:
            await cell.redis.delete(keyspace.CARETAKER)
            await cell.caretaker.round("token", during=timedelta(seconds=5))
            return await cell.naming(job) == []

        await wait_until(swept)
    assert await of_the_queue(cell) == []


async def test_a_stop_hands_back_what_is_on_the_wire(cell: Cell) -> None:
    """At once and as it was; another notifier sends it again, and only then what comes after it."""
    gate = Gate()
    job = await ended(cell, await registered(cell))
    first = Nowhere({URL: gate})
    async with notifying(cell, first):
        await wait_until(gate.is_asked())
    kept = await pending(cell, job, "started")
    assert kept is not None
    assert kept.tries == 0
    assert [key async for key in cell.redis.scan_iter("arq:in-progress:*")] == []
    second = Nowhere()
    async with notifying(cell, second):
        await wait_until(all_told(second, job), within=LEASE.total_seconds() - 1)
    assert first.events(job) == ["recognitions.started"]
    assert first.sent[0].body == second.sent[0].body


async def test_what_a_dead_notifier_had_in_hand_is_told_by_another(cell: Cell) -> None:
    """When its lease has lapsed: at least once."""
    job, egress = await ended(cell, await registered(cell)), Nowhere()
    assert await leases_of(cell, timedelta(seconds=1)).claim(1, lapsed=True) == [keyspace.NOTIFICATION.entry(job.id)]
    async with notifying(cell, egress):
        await wait_until(all_told(egress, job))


async def test_a_bad_receiver_has_its_share_and_no_more(cell: Cell) -> None:
    """One that hangs holds eight places and is then left alone; 1500 that stand in line for it delay nobody else."""
    bad, good = [await registered(cell, url) for url in (BAD, GOOD)]
    gate = Gate()
    egress = Nowhere({BAD: gate})
    for _ in range(1500):
        await told_of_its_start(cell, bad)
    async with notifying(cell, egress):
        await wait_until(gate.is_asked(AT_ONCE_PER_RECEIVER))

        async def all_were_looked_at() -> bool:
            return not await cell.redis.zcount(keyspace.NOTIFICATION.name, "-inf", f"({10**12}")

        await wait_until(all_were_looked_at, within=200)
        for _ in range(5):
            job = await ended(cell, good)
            await wait_until(all_told(egress, job), within=10)
        assert gate.most_at_once == AT_ONCE_PER_RECEIVER


async def test_a_receiver_that_fails_is_left_alone(cell: Cell) -> None:
    """After so many failures others are not even tried; that is no try of theirs."""
    bad = await registered(cell, BAD)

    async def failing(_sent: Sent) -> int:
        raise Unreachable

    egress = Nowhere({BAD: failing})
    async with notifying(cell, egress, at_once=1):
        jobs = [await told_of_its_start(cell, bad) for _ in range(FAILURES + 20)]
        await wait_until(lambda: _counts(egress, FAILURES))

        async def all_put_off() -> bool:
            waits = [await comes_back_in(cell, job) or 0.0 for job in jobs]
            return min(waits) > 0

        await wait_until(all_put_off)
        tried = {sent.id for sent in egress.sent}
        assert len(tried) <= FAILURES + 2
        untried = [await pending(cell, job, "started") for job in jobs if job.id not in tried]
        assert {kept.tries for kept in untried if kept is not None} == {0}
        assert None not in untried


async def test_a_tenant_has_half_of_the_places(cell: Cell) -> None:
    """With as many receivers that hang as it likes; another tenant is told meanwhile."""
    gate = Gate()
    hosts = [f"https://bad{number}.example/" for number in range(20)]
    egress = Nowhere(dict.fromkeys(hosts, gate))
    for host in hosts:
        await told_of_its_start(cell, await registered(cell, host))
    other = replace(cell, tenant=(await cell.tenants.create("other", now=await cell.store.now())).id)
    async with notifying(cell, egress, at_once=10):
        await wait_until(gate.is_asked(5))
        job = await ended(other, await registered(other, GOOD))
        await wait_until(all_told(egress, job), within=10)
        assert gate.most_at_once == 5


async def test_an_outage_loses_nothing(cell: Cell, monkeypatch: pytest.MonkeyPatch) -> None:
    """What was taken but could not be noted is sent again when its lease has lapsed."""
    job = await ended(cell, await registered(cell))
    egress = Nowhere()
    async with notifying(cell, egress) as notifier:
        told = notifier._leases.told
        broken = asyncio.Event()

        async def breaks(*_: object, **__: object) -> None:
            monkeypatch.setattr(notifier._leases, "told", told)
            broken.set()
            raise Unavailable

        monkeypatch.setattr(notifier._leases, "told", breaks)
        await wait_until(lambda: _counts(egress, 3))
        await wait_until(nothing_left(cell))
    assert broken.is_set()
    assert egress.events(job) == ["recognitions.started"] * 2 + ["recognitions.completed"]


async def told_of_its_start(cell: Cell, callback: Callback) -> Waiting:
    """Return a job whose start is pending."""
    job = await cell.submit(callback=callback)
    with contextlib.suppress(_Enough):
        async with cell.holding.hold(cell.tenant, job.id):
            raise _Enough
    return job


class _Enough(Exception):
    pass


async def _counts(egress: Nowhere, times: int) -> bool:
    return len(egress.sent) >= times
