"""The caretaker: rescues, deadlines and sweeps, by one caretaker at a time."""

import os
import time
from datetime import timedelta

from retention import keyspace
from retention.caretaking import Round
from retention.job import Failed, JobId, Processing, TenantId, claim, complete, new_job_id
from tests.integration.cell import AUDIO, HOUR, RESCUE_AFTER, WEEK, Cell, milliseconds, spoken

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
    """While one holds the lock, another's round does nothing; the lock goes by itself."""
    assert await cell.caretaker.round("a", during=LOCK) is not None
    assert await cell.caretaker.round("b", during=LOCK) is None
    assert 0 < await cell.redis.pttl(keyspace.CARETAKER) <= 5000


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
    for number in range(500):
        waiting = keyspace.entry(cell.tenant, (await cell.accepted(ago=HOUR)).id, None)
        await cell.redis.zadd(keyspace.DUE, {waiting: number})
    over = keyspace.entry(cell.tenant, new_job_id(), None)
    await cell.redis.zadd(keyspace.DUE, {over: 500})
    await record(cell, cell.tenant, old=True)
    assert await go_round(cell, during=NO_TIME) == Round(rescued=200, orphans=1)
    assert await go_round(cell, during=NO_TIME) == Round(rescued=200)
    assert await go_round(cell, during=NO_TIME) == Round(rescued=100, expired=1)
    assert await cell.redis.zcount(keyspace.DUE, 0, 500) == 0


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
