"""The caretaker: rescues, deadlines and sweeps, by one caretaker at a time."""

import asyncio
import os
import time
from datetime import timedelta
from unittest.mock import patch

from retention import keyspace
from retention.caretaking import Round
from retention.ending import end
from retention.job import Failed, JobId, Processing, TenantId, claim, complete, new_job_id
from retention.keys import KeyId
from retention.keystore import TenantKeys
from tests.integration.cell import AUDIO, HOUR, RESCUE_AFTER, WEEK, Cell, milliseconds, spoken
from tests.stack import wait_until
from worker.caretaker import look_after

LOCK = timedelta(seconds=5)
NO_TIME = timedelta(milliseconds=1)


async def go_round(cell: Cell, *, during: timedelta = LOCK) -> Round:
    await cell.redis.delete(keyspace.CARETAKER)
    done = await cell.caretaker.round("t", during=during)
    assert done is not None
    return done


async def record(cell: Cell, tenant: TenantId, *, old: bool, id_: JobId | None = None) -> None:
    """Store audio, of this job or without a record."""
    id_ = id_ or new_job_id()
    await cell.audio.write(tenant, id_, spoken(AUDIO))
    if old:
        moment = time.time() - 21
        os.utime(cell.directory / tenant / id_, (moment, moment))


async def test_one_caretaker_is_at_work_at_a_time(cell: Cell) -> None:
    """While one holds the lock, another's round does nothing; it goes by itself, also when its holder comes again."""
    assert await cell.caretaker.round("a", during=LOCK) is not None
    assert await cell.caretaker.round("b", during=LOCK) is None
    assert await cell.redis.pexpire(keyspace.CARETAKER, 2000) > 0
    assert await cell.caretaker.round("a", during=LOCK) is not None
    assert 0 < await cell.redis.pttl(keyspace.CARETAKER) <= 2000


async def test_an_accepted_job_that_nobody_queued_is_rescued(cell: Cell) -> None:
    """The API died between record and queue: the job is queued, and looked at again later."""
    job = await cell.accepted(ago=RESCUE_AFTER)
    before = await cell.store.now()
    assert await go_round(cell) == Round(rescued=1)
    assert await cell.queued() == [job.id]
    look = await cell.due(job)
    assert look is not None
    assert look >= milliseconds(before + RESCUE_AFTER)
    assert await cell.stored(job) == job


async def test_a_job_that_is_not_due_is_left_alone(cell: Cell) -> None:
    """Queueing takes a moment; nobody hurries it."""
    await cell.accepted()
    assert await go_round(cell) == Round()
    assert await cell.queued() == []


async def test_a_queued_job_keeps_its_place(cell: Cell) -> None:
    """Being looked at changes neither place nor lease."""
    job = await cell.accepted(ago=HOUR)
    await cell.queue.put(cell.tenant, job.id)
    place = await cell.redis.zscore(keyspace.RECOGNITION.name, job.id)
    assert await go_round(cell) == Round(rescued=0)
    assert await cell.redis.zscore(keyspace.RECOGNITION.name, job.id) == place


async def test_a_held_job_that_the_queue_lost_is_delivered_again(cell: Cell) -> None:
    """A worker died with the job, and the delivery is gone as well."""
    waiting = await cell.accepted(ago=HOUR)
    job = claim(waiting, now=waiting.created, holder="dead")
    await cell.store.write(job, now=waiting.created)
    assert await go_round(cell) == Round(rescued=1)
    assert await cell.stored(job) == job
    assert await cell.queued() == [job.id]


async def test_a_job_past_its_deadline_fails(cell: Cell) -> None:
    """Waiting or held, queued or not: it ends with a reason that can be read, and holds nothing else."""
    waiting = await cell.deliverable(ago=WEEK)
    held = claim(await cell.deliverable(ago=WEEK), now=await cell.store.now() - HOUR, holder="h1")
    await cell.store.write(held, now=held.created)
    for job in (waiting, held):
        await cell.queue.put(cell.tenant, job.id)
        await cell.audio.write(cell.tenant, job.id, spoken(AUDIO))
    await go_round(cell)
    for job in (waiting, held):
        failed = await cell.stored(job)
        assert isinstance(failed, Failed)
        assert (failed.reason, failed.expires) == ("deadline", failed.updated + HOUR)
        assert await cell.fields(job) == {b"revision", b"record"}
    assert await cell.queued() == []
    assert cell.recordings() == []


async def test_a_job_before_its_deadline_does_not_fail(cell: Cell) -> None:
    """A minute is left: it is rescued."""
    job = await cell.accepted(ago=WEEK - timedelta(minutes=1))
    await go_round(cell)
    assert await cell.stored(job) == job


async def test_what_is_over_is_swept(cell: Cell) -> None:
    """Of an expired job every entry, delivery and file go."""
    waiting = await cell.accepted(ago=2 * HOUR)
    then = waiting.created
    job = claim(waiting, now=then, holder="h1")
    await cell.queue.put(cell.tenant, job.id)
    await cell.audio.write(cell.tenant, job.id, spoken(AUDIO))
    await cell.store.write(job, now=then)
    await cell.store.write(complete(job, now=then), now=then)
    assert await cell.naming(job) != []
    assert (await go_round(cell)).expired == 1
    assert await cell.naming(job) == []


async def test_more_than_a_batch_is_swept_in_one_round(cell: Cell) -> None:
    """However much is due, a round ends when nothing is."""
    for _ in range(250):
        await cell.redis.zadd(keyspace.DUE, {keyspace.entry(cell.tenant, new_job_id(), None): 1})
    assert (await go_round(cell)).expired == 250
    assert await cell.redis.zcard(keyspace.DUE) == 0


async def test_audio_without_a_job_is_removed_when_it_is_old(cell: Cell) -> None:
    """An upload was killed between audio and record; one that goes on is left alone."""
    await record(cell, cell.tenant, old=True)
    await record(cell, TenantId("gone"), old=True)
    await record(cell, cell.tenant, old=False)
    assert await go_round(cell) == Round(orphans=2)
    assert len(cell.recordings()) == 1


async def test_audio_of_an_unfinished_job_is_kept_however_old(cell: Cell) -> None:
    """A backlog of days loses no audio."""
    job = await cell.submit()
    (path,) = cell.recordings()
    os.utime(path, (0, 0))
    assert await go_round(cell) == Round()
    async with cell.holding.hold(cell.tenant, job.id) as held:
        assert held is not None
        assert isinstance(await cell.stored(job), Processing)
        assert await go_round(cell) == Round()
        assert b"".join([piece async for piece in cell.holding.audio(held)]) == AUDIO


async def test_audio_of_a_finished_job_is_removed(cell: Cell) -> None:
    """A worker died between the result and the removal of the audio."""
    job = await cell.submit()
    (path,) = cell.recordings()
    os.utime(path, (0, 0))
    held = claim(job, now=job.created, holder="h1")
    await cell.store.write(held, now=job.created)
    await cell.store.write(complete(held, now=job.created), now=job.created)
    assert await go_round(cell) == Round(orphans=1)
    assert cell.recordings() == []


async def test_a_damaged_record_does_not_end_the_round(cell: Cell) -> None:
    """It is left as it is, and what else is due is attended to."""
    damaged, lost = await cell.accepted(ago=RESCUE_AFTER * 2), await cell.accepted(ago=RESCUE_AFTER)
    await cell.redis.hset(keyspace.job(cell.tenant, damaged.id), "record", b"{}")
    await record(cell, cell.tenant, old=True)
    assert await go_round(cell) == Round(rescued=1, orphans=1)
    assert await cell.queued() == [lost.id]


async def test_a_round_is_bounded_and_the_next_one_goes_on(cell: Cell) -> None:
    """In no time a round attends to the most overdue alone, and yet sweeps audio; every round gets further."""
    waiting = [await cell.accepted(ago=2 * HOUR - timedelta(seconds=number)) for number in range(500)]
    await record(cell, cell.tenant, old=True)
    assert await go_round(cell, during=NO_TIME) == Round(rescued=200, orphans=1)
    assert set(await cell.queued()) == {job.id for job in waiting[:200]}
    assert await go_round(cell, during=NO_TIME) == Round(rescued=200)
    assert await go_round(cell, during=NO_TIME) == Round(rescued=100)
    assert await go_round(cell) == Round()


async def test_what_is_over_waits_behind_nothing_that_is_only_looked_at(cell: Cell) -> None:
    """However many wait, and however long ago one should have looked: expired jobs and missed deadlines come first."""
    for _ in range(250):
        await cell.accepted(ago=HOUR)
    late = await cell.begun(ago=WEEK)
    await cell.store.write(late, now=late.deadline - timedelta(seconds=1))  # looked at until then
    job = claim(await cell.accepted(ago=HOUR + timedelta(seconds=1)), now=late.deadline, holder="h1")
    await cell.store.write(job, now=job.updated)
    await cell.store.write(complete(job, now=job.created), now=job.created)
    assert await go_round(cell, during=NO_TIME) == Round(expired=1, rescued=198)
    assert isinstance(await cell.stored(late), Failed)


async def test_a_round_that_had_no_time_for_all_that_is_over_says_so(cell: Cell) -> None:
    """Then the next one is not to wait; for what is only looked at again it may."""
    for number in range(401):
        await cell.redis.zadd(keyspace.DUE, {keyspace.entry(cell.tenant, new_job_id(), None): number})
        await cell.accepted(ago=HOUR)
    assert await go_round(cell, during=NO_TIME) == Round(expired=200, hurried=True)
    assert await go_round(cell, during=NO_TIME) == Round(expired=200, hurried=True)
    assert await go_round(cell, during=NO_TIME) == Round(expired=1, rescued=199)
    assert await go_round(cell, during=NO_TIME) == Round(rescued=200)


async def test_the_round_after_one_that_had_no_time_begins_at_once(cell: Cell) -> None:
    """And then they go on as they do."""
    begun: list[timedelta] = []

    async def no_time(token: str, *, during: timedelta) -> Round:
        del token
        begun.append(during)
        return Round(hurried=len(begun) < 3)

    async def all_begun() -> bool:
        return len(begun) >= 3

    with patch.object(cell.caretaker, "round", no_time):
        task = asyncio.create_task(look_after(cell.caretaker, token="t", every=HOUR))
        await wait_until(all_begun)
        await end(task)
    assert begun == [HOUR / 2] * 3


async def test_a_batch_of_parked_jobs_costs_one_look_at_their_key(cell: Cell) -> None:
    """Of each tenant, so that the jobs of one that is suspended hold up nobody; and none of them is queued."""
    await cell.custody.create(cell.tenant)
    other = cell.of((await cell.tenants.create("other", now=await cell.store.now())).id)
    for _ in range(50):
        await cell.deliverable(ago=HOUR)
        await other.deliverable(ago=HOUR)
    await cell.custody.disable(KeyId(cell.tenant))
    with patch.object(TenantKeys, "of", autospec=True, side_effect=TenantKeys.of) as read:
        assert await go_round(cell) == Round(rescued=50)
    assert {tenant for _, tenant in (call.args for call in read.call_args_list)} == {cell.tenant, other.tenant}
    assert read.call_count == 2
    assert len(await cell.queued()) == 50


async def test_damaged_records_do_not_hide_what_is_due_after_them(cell: Cell) -> None:
    """However many there are: each is put off, and keeps its audio, of which nobody knows whether it is needed."""
    damaged = [await cell.accepted(ago=HOUR) for _ in range(250)]
    for job in damaged:
        await cell.redis.hset(keyspace.job(cell.tenant, job.id), "record", b"{}")
    await record(cell, cell.tenant, old=True, id_=damaged[0].id)
    lost = await cell.accepted(ago=RESCUE_AFTER)
    assert await go_round(cell) == Round(rescued=1)
    assert await cell.queued() == [lost.id]
    assert len(cell.recordings()) == 1
