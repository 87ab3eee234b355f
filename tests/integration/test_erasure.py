"""Erasing a customer: what was under way, what came after, what had expired, and a crowd of jobs at once."""

import asyncio
from collections.abc import AsyncIterator
from datetime import UTC, datetime, timedelta
from typing import Any

import pytest

from retention import keyspace
from retention.errors import CustomerErased, NotFound, Superseded, Unavailable
from retention.job import Waiting, accept, new_job_id
from tests.integration.cell import AUDIO, HOUR, RESULTS, WEEK, Cell, milliseconds
from tests.integration.crowd import CUSTOMER, crowd
from tests.integration.traces import traces
from tests.stack import wait_until

MILLISECOND = timedelta(milliseconds=1)
SLACK = timedelta(minutes=5)


async def erase(cell: Cell) -> int:
    return await cell.jobs.erase_customer(cell.tenant, CUSTOMER)


async def fenced_at(cell: Cell) -> int:
    """Return the moment of the last erasure, in unix milliseconds."""
    return int(await cell.redis.get(keyspace.erased(cell.tenant, cell.keyring.tag(cell.tenant, CUSTOMER))))


async def past_the_fence(cell: Cell) -> None:
    """Return when what begins is younger than the last erasure."""
    fence = datetime.fromtimestamp(await fenced_at(cell) / 1000, UTC)
    await wait_until(lambda: is_later(cell, fence))


async def is_later(cell: Cell, moment: datetime) -> bool:
    return await cell.store.now() > moment


async def test_an_upload_that_is_interrupted_by_an_erasure_is_refused(cell: Cell) -> None:
    """It began before, so it is the erased customer's; neither record nor audio remain."""

    async def interrupted() -> AsyncIterator[bytes]:
        yield AUDIO
        assert await erase(cell) == 0
        yield AUDIO

    with pytest.raises(CustomerErased):
        await cell.submit(interrupted(), customer=CUSTOMER)
    assert cell.recordings() == []
    assert await traces(cell, CUSTOMER) == []


async def test_an_erasure_between_audio_and_record_refuses_the_record(
    cell: Cell, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The audio, which has its name already, goes with the refusal."""
    write = cell.store.write

    async def late(job: Waiting, **options: Any) -> None:
        assert len(cell.recordings()) == 1
        assert await erase(cell) == 0
        await write(job, **options)

    monkeypatch.setattr(cell.store, "write", late)
    with pytest.raises(CustomerErased):
        await cell.submit(customer=CUSTOMER)
    assert cell.recordings() == []
    assert await traces(cell, CUSTOMER) == []


async def test_a_record_that_is_written_right_before_the_fence_is_erased(
    cell: Cell, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Whatever the erasure did before its fence: what the fence does not refuse is old enough to go."""
    fence = cell.store.fence

    async def overtaken(*args: Any, **options: Any) -> Any:
        before = await cell.store.now()
        await wait_until(lambda: is_later(cell, before))
        await cell.submit(customer=CUSTOMER)
        return await fence(*args, **options)

    monkeypatch.setattr(cell.store, "fence", overtaken)
    assert await erase(cell) == 1
    assert await traces(cell, CUSTOMER) == []
    assert cell.recordings() == []


async def test_an_erasure_between_record_and_queue_leaves_nothing_queued(
    cell: Cell, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The upload is accepted, and its job is gone: no delivery names it."""
    put = cell.queue.put

    async def late(*args: Any) -> bool:
        assert await erase(cell) == 1
        return await put(*args)

    monkeypatch.setattr(cell.queue, "put", late)
    await cell.submit(customer=CUSTOMER)
    assert await cell.queued() == []
    assert await traces(cell, CUSTOMER) == []
    assert cell.recordings() == []


async def test_what_began_in_the_very_millisecond_is_refused(cell: Cell) -> None:
    """A millisecond later, and it stays."""
    await erase(cell)
    moment = await fenced_at(cell)
    tag = cell.keyring.tag(cell.tenant, CUSTOMER)
    await past_the_fence(cell)
    now = await cell.store.now()
    for late, began in ((False, moment - 1), (False, moment), (True, moment + 1)):
        job = accept(new_job_id(), cell.tenant, now=now, results_ttl=HOUR, patience=WEEK, customer=tag)
        writing = cell.store.write(job, now=now, began=now + timedelta(milliseconds=began - milliseconds(now)))
        if late:
            await writing
        else:
            with pytest.raises(CustomerErased):
                await writing
        assert await cell.stored(job) == (job if late else None)


async def test_a_job_that_comes_after_the_erasure_stays(cell: Cell, monkeypatch: pytest.MonkeyPatch) -> None:
    """Even while the erasure is at work; and it is worked on like any other."""
    await cell.submit(customer=CUSTOMER)
    discard, came = cell.queue.discard, list[Waiting]()

    async def slow(*ids: Any, **options: Any) -> None:
        if not came:
            await past_the_fence(cell)
            came.append(await cell.submit(customer=CUSTOMER))
        await discard(*ids, **options)

    monkeypatch.setattr(cell.queue, "discard", slow)
    assert await erase(cell) == 1
    [job] = came
    assert await cell.listed() == [job]
    assert await cell.queued() == [job.id]
    async with cell.holding.hold(cell.tenant, job.id) as held:
        assert held is not None
        assert b"".join([piece async for piece in cell.holding.audio(held)]) == AUDIO
        await cell.holding.finish(held, RESULTS)
    assert (await cell.jobs.look_up(cell.tenant, job.id))[1] == RESULTS
    assert await erase(cell) == 1


async def test_a_held_job_is_nobodys_at_once(cell: Cell) -> None:
    """Not even its lease names it; who renews it learns that it is lost, and what it made is dropped."""
    job = await cell.submit(customer=CUSTOMER)
    worker = cell.worker(lease=HOUR)
    assert await worker.claim(1, lapsed=True) == [job.id]
    async with cell.holding_of(worker).hold(cell.tenant, job.id) as held:
        assert held is not None
        assert await erase(cell) == 1
        assert await cell.naming(job) == []
        assert await worker.renew({job.id: held.job}) == {job.id}
        with pytest.raises(Superseded):
            await cell.holding.finish(held, RESULTS)
        with pytest.raises(Superseded):
            await cell.holding.fail(held, "engine")
    await worker.settle(job.id, done=False)
    assert await traces(cell, CUSTOMER) == []


async def test_entries_of_expired_jobs_go_and_do_not_count(cell: Cell) -> None:
    """Redis dropped the record by itself; the entries that name it bear the customer's tag."""
    jobs = [await cell.submit(customer=CUSTOMER) for _ in range(3)]
    await cell.redis.delete(keyspace.job(cell.tenant, jobs[1].id))
    assert await erase(cell) == 2
    for job in jobs:
        assert await cell.naming(job) == []
    assert await traces(cell, CUSTOMER) == []


async def test_the_caretaker_clears_the_customers_list(cell: Cell) -> None:
    """What has expired is not named there for as long as the list lives; the other jobs are."""
    gone, kept = [await cell.submit(customer=CUSTOMER) for _ in range(2)]
    tag = cell.keyring.tag(cell.tenant, CUSTOMER)
    await cell.redis.delete(keyspace.job(cell.tenant, gone.id))
    entries = {job.id: keyspace.entry(cell.tenant, job.id, tag) for job in (gone, kept)}
    await cell.redis.zadd(keyspace.DUE, {entries[gone.id]: 0})
    done = await cell.caretaker.round("t", during=timedelta(seconds=5))
    assert done is not None
    assert done.expired == 1
    assert await cell.naming(gone) == []
    assert await cell.redis.zrange(keyspace.jobs_of_customer(cell.tenant, tag), 0, -1) == [entries[kept.id].encode()]
    assert await erase(cell) == 1


async def test_the_fence_outlives_the_longest_upload(cell: Cell) -> None:
    """It stands for as long as an upload may take, and some minutes more for what comes before and after."""
    key = keyspace.erased(cell.tenant, cell.keyring.tag(cell.tenant, CUSTOMER))
    await erase(cell)
    assert HOUR + SLACK - timedelta(seconds=10) < await cell.redis.pttl(key) * MILLISECOND <= HOUR + SLACK
    await cell.redis.pexpire(key, 1000)
    await erase(cell)
    assert await cell.redis.pttl(key) * MILLISECOND > HOUR


async def test_an_upload_older_than_any_fence_is_not_accepted(cell: Cell) -> None:
    """The process was away, as a suspended machine is: nobody knows any more whether the customer was erased."""
    now = await cell.jobs.now()
    with pytest.raises(Unavailable):
        await cell.submit(customer=CUSTOMER, began=now - HOUR - SLACK)
    await cell.acceptance.close()
    assert await cell.listed() == []
    assert cell.recordings() == []
    job = await cell.submit(customer=CUSTOMER, began=now - HOUR)
    assert await cell.listed() == [job]


async def test_a_clock_that_was_set_back_opens_no_fence(cell: Cell) -> None:
    """What an earlier erasure refuses, a later one refuses as well."""
    key = keyspace.erased(cell.tenant, cell.keyring.tag(cell.tenant, CUSTOMER))
    ahead = milliseconds(await cell.store.now() + HOUR)
    await cell.redis.set(key, ahead, ex=60)
    await erase(cell)
    assert await fenced_at(cell) == ahead


async def test_a_crowd_is_erased_and_nobody_else(cell: Cell) -> None:
    """Hundreds of jobs in every state, with what is pending of them; a neighbour, and a namesake elsewhere, stay."""
    stranger = cell.of((await cell.tenants.create("stranger", now=await cell.store.now())).id)
    others = await crowd(stranger, 20)
    neighbour = await cell.submit(customer="neighbour")
    jobs = await crowd(cell, 250)
    assert len(await traces(cell, CUSTOMER)) > 250
    assert await erase(cell) == 250
    assert await traces(cell, CUSTOMER, *jobs) == []
    for job in jobs:
        with pytest.raises(NotFound):
            await cell.jobs.look_up(cell.tenant, job.id)
    assert await cell.listed() == [neighbour]
    assert {path.name for path in cell.recordings()} == {
        neighbour.id,
        *(job.id for job in others if job.revision == 1 or type(job).__name__ == "Processing"),
    }
    assert len(await stranger.listed()) == 20
    assert len(await stranger.registrations.all(stranger.tenant)) == 1
    assert await erase(cell) == 0
    assert await erase(stranger) == 20
    assert await cell.redis.zrange(keyspace.NOTIFICATION.name, 0, -1) == []


async def test_two_erasures_at_once_leave_nothing(cell: Cell) -> None:
    """Whichever of them removes a job, it counts once."""
    jobs = await crowd(cell, 250)
    assert sum(await asyncio.gather(erase(cell), erase(cell))) == 250
    assert await traces(cell, CUSTOMER, *jobs) == []
    assert cell.recordings() == []
