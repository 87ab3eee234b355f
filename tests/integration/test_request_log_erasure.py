"""What is in the request log goes with its customer, its tenant, its job, by purge, and by its own time."""

from datetime import timedelta
from pathlib import Path

import pytest
from redis.asyncio import Redis

from retention import keyspace
from retention.errors import NotFound
from retention.tenant import Credential
from tests.integration.cell import AUDIO, HOUR, RESULTS, Cell, open_cell, spoken
from tests.integration.logged import MONTH, WILLING, accepted, everything_logged, files, logged, run_out, worked_on
from tests.stack import wait_until

BRIEF = timedelta(milliseconds=300)


@pytest.fixture
async def cell(redis: Redis, tmp_path: Path) -> Cell:
    """Give an empty cell that keeps a log for a month."""
    return await open_cell(redis, tmp_path / "audio", request_log=MONTH)


async def expired(cell: Cell, *, customer: str | None = None) -> str:
    """Return a logged job that has expired and of which nothing else is left."""
    job = await worked_on(cell, await accepted(cell, customer=customer))
    await run_out(cell, job)
    await go_round(cell)
    return job.id


async def go_round(cell: Cell) -> None:
    await cell.redis.delete(keyspace.CARETAKER)
    assert await cell.caretaker.round("t", during=HOUR)


async def test_a_deleted_job_leaves_nothing(cell: Cell) -> None:
    """Key, list entries and file are gone when the delete returns; others stay (promise P3)."""
    job, other = await accepted(cell, customer="c"), await accepted(cell, customer="c")
    await worked_on(cell, job)
    await worked_on(cell, other)
    await cell.jobs.delete(cell.tenant, job.id)
    assert await cell.naming(job) == []
    assert await logged(cell) == [other.id]
    with pytest.raises(NotFound):
        await cell.log.open(cell.tenant, job.id)


async def test_a_delete_is_one_step(cell: Cell, monkeypatch: pytest.MonkeyPatch) -> None:
    """An API that dies right after the deciding has left no key that would open anything."""

    async def dies(*_: object) -> None:
        raise KeyboardInterrupt

    job = await accepted(cell, customer="c")
    await worked_on(cell, job)
    monkeypatch.setattr(cell.jobs, "clear", dies)
    with pytest.raises(KeyboardInterrupt):
        await cell.jobs.delete(cell.tenant, job.id)
    assert await everything_logged(cell) == [str(path) for path in files(cell)]
    await cell.log.sweep(timedelta(days=-1))
    assert await everything_logged(cell) == []


async def test_an_expired_job_can_still_be_deleted_from_the_log(cell: Cell) -> None:
    """There is no such job any more, and a client that deletes it means all of it."""
    await expired(cell, customer="c")
    [entry] = await cell.log.all()
    with pytest.raises(NotFound):
        await cell.jobs.delete(cell.tenant, entry.job)
    assert await everything_logged(cell) == []


async def test_an_erased_customer_leaves_nothing(cell: Cell) -> None:
    """Of jobs that stand and of such that expired; other customers' entries stay, and so does what comes later."""
    await expired(cell, customer="c")
    for customer in ("c", "d", None):
        await worked_on(cell, await accepted(cell, customer=customer))
    kept = [entry.job for entry in await cell.log.all() if entry.customer != cell.keyring.tag(cell.tenant, "c")]
    assert await cell.jobs.erase_customer(cell.tenant, "c") == 1
    assert await logged(cell) == kept
    assert len(files(cell)) == len(kept) == 2
    tag = cell.keyring.tag(cell.tenant, "c")
    assert not [key async for key in cell.redis.scan_iter(f"volant:log*{tag}*")]
    later = await accepted(cell, customer="c")
    await worked_on(cell, later)
    assert await logged(cell) == [*kept, later.id]


async def test_an_erasure_leaves_what_comes_after_its_moment(cell: Cell) -> None:
    """An entry of a job that was accepted after it is another matter."""
    now = await cell.store.now() - timedelta(seconds=1)
    job = await accepted(cell, customer="c")
    await worked_on(cell, job)
    await cell.log.erase_customer(cell.tenant, cell.keyring.tag(cell.tenant, "c"), until=now)
    assert await logged(cell) == [job.id]


async def test_a_deleted_tenant_leaves_nothing(cell: Cell) -> None:
    """Another tenant's entries stay."""
    other = await cell.tenants.create("other", now=await cell.store.now())
    foreign = await cell.acceptance.submit(
        Credential(tenant=other.id), WILLING, spoken(AUDIO), began=await cell.jobs.now(), results_ttl=HOUR, customer="c"
    )
    await worked_on(cell, foreign)
    await expired(cell, customer="c")
    await worked_on(cell, await accepted(cell))
    await cell.jobs.delete_tenant(cell.tenant)
    assert [entry.tenant for entry in await cell.log.all()] == [other.id]
    assert await logged(cell) == [foreign.id]
    assert [path.parent.name for path in files(cell)] == [other.id]


async def test_a_purge_takes_the_log_and_leaves_the_jobs(cell: Cell) -> None:
    """Of one tenant, or all of it; it says how many entries went."""
    jobs = [await worked_on(cell, await accepted(cell, customer="c")) for _ in range(3)]
    assert await cell.log.erase_tenant(cell.tenant) == 3
    assert await everything_logged(cell) == []
    assert await cell.log.erase_tenant(cell.tenant) == 0
    more = [await worked_on(cell, await accepted(cell)) for _ in range(2)]
    assert await cell.log.erase_all() == 2
    assert await everything_logged(cell) == []
    for job in (*jobs, *more):
        assert await cell.jobs.look_up(cell.tenant, job.id) == (job, RESULTS)


async def test_many_are_purged_and_listed(cell: Cell) -> None:
    """More than one page of them."""
    for _ in range(120):
        await worked_on(cell, await accepted(cell, customer="c"))
    assert len(await cell.log.all()) == len(files(cell)) == 120
    await cell.log.erase_customer(cell.tenant, cell.keyring.tag(cell.tenant, "c"), until=await cell.store.now())
    assert await everything_logged(cell) == []


@pytest.mark.parametrize("alone", [True, False])
async def test_an_entry_goes_when_its_time_is_over(cell: Cell, *, alone: bool) -> None:
    """The key by itself; with the caretaker's next round file and list entries, also when others keep the lists."""
    rest = [] if alone else [await worked_on(cell, await accepted(cell, customer="c"))]
    cell.log._retention = BRIEF
    job = await accepted(cell, customer="c")
    await worked_on(cell, job)

    async def over() -> bool:
        return not await cell.redis.exists(keyspace.logged(cell.tenant, job.id))

    await wait_until(over)
    with pytest.raises(NotFound):
        await cell.log.open(cell.tenant, job.id)
    await cell.log.sweep(timedelta(days=-1))
    assert await logged(cell) == [kept.id for kept in rest]
    assert [path.name for path in files(cell)] == [kept.id for kept in rest]
    names = [name for name in await cell.naming(job) if "volant:log" in name]
    assert names == []


async def test_a_log_that_was_switched_off_is_still_erased_and_swept(cell: Cell) -> None:
    """What is there does not depend on the setting."""
    jobs = [await accepted(cell, customer=customer) for customer in ("c", "d")]
    for job in jobs:
        await worked_on(cell, job)
    cell.log._retention = None
    await worked_on(cell, await accepted(cell))
    assert await logged(cell) == [job.id for job in jobs]
    await cell.jobs.delete(cell.tenant, jobs[0].id)
    await cell.jobs.erase_customer(cell.tenant, "d")
    assert await everything_logged(cell) == []
