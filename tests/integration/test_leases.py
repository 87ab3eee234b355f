"""Leases: who gets which job, who may renew, retake and end a lease, and who is woken."""

from datetime import timedelta

from retention import keyspace
from retention.job import JobId, Processing, claim, reclaim
from tests.integration.cell import Cell
from tests.stack import wait_until

LONG = timedelta(minutes=5)
SHORT = timedelta(milliseconds=1)


async def put(cell: Cell, count: int) -> list[JobId]:
    ids = [(await cell.accepted()).id for _ in range(count)]
    for id_ in ids:
        await cell.queue.put(cell.tenant, id_)
    return ids


async def lapsed(cell: Cell, *ids: JobId) -> None:
    """Return when the leases on these jobs have lapsed."""

    async def over() -> bool:
        return not await cell.redis.exists(*(keyspace.IN_PROGRESS_PREFIX + id_ for id_ in ids))

    await wait_until(over)


async def held(cell: Cell) -> Processing:
    """Put a job with a record that is being processed."""
    waiting = await cell.accepted()
    job = claim(waiting, now=waiting.created, holder="h1")
    await cell.store.write(job, now=waiting.created)
    await cell.queue.put(cell.tenant, job.id)
    return job


async def test_jobs_are_leased_in_the_order_of_their_arrival(cell: Cell) -> None:
    """First come, first served, over several claims."""
    ids = await put(cell, 5)
    worker = cell.worker(lease=LONG)
    assert await worker.claim(2, lapsed=True) == ids[:2]
    assert await worker.claim(2, lapsed=True) == ids[2:4]
    assert await worker.claim(2, lapsed=True) == ids[4:]
    assert await worker.claim(2, lapsed=True) == []


async def test_a_leased_job_is_nobody_elses(cell: Cell) -> None:
    """While a lease lasts the job is not given out again, whoever asks."""
    ids = await put(cell, 1)
    assert await cell.worker(lease=LONG).claim(1, lapsed=True) == ids
    assert await cell.worker(lease=LONG).claim(1, lapsed=True) == []


async def test_running_jobs_do_not_hide_waiting_ones(cell: Cell) -> None:
    """However many jobs run, the next claim finds the waiting ones at once."""
    ids = await put(cell, 155)
    assert await cell.worker(lease=LONG).claim(150, lapsed=True) == ids[:150]
    assert await cell.worker(lease=LONG).claim(5, lapsed=True) == ids[150:]


async def test_lapsed_leases_come_before_the_backlog(cell: Cell) -> None:
    """The job of a worker that died keeps its place before all that wait."""
    ids = await put(cell, 3)
    assert await cell.worker(lease=SHORT).claim(1, lapsed=True) == ids[:1]
    await lapsed(cell, ids[0])
    assert await cell.worker(lease=LONG).claim(2, lapsed=True) == ids[:2]


async def test_lapsed_leases_are_left_alone_on_request(cell: Cell) -> None:
    """After an outage their owners come back for them; waiting jobs are given out all the same."""
    ids = await put(cell, 2)
    await cell.worker(lease=SHORT).claim(1, lapsed=True)
    await lapsed(cell, ids[0])
    patient = cell.worker(lease=LONG)
    assert await patient.claim(2, lapsed=False) == ids[1:]
    assert await patient.claim(2, lapsed=True) == ids[:1]


async def test_an_owner_renews_its_leases(cell: Cell) -> None:
    """A renewed lease ends later, in its key and in the queue."""
    (id_,) = await put(cell, 1)
    worker = cell.worker(lease=LONG)
    await worker.claim(1, lapsed=True)
    await cell.redis.pexpire(keyspace.IN_PROGRESS_PREFIX + id_, 1000)
    place = await cell.redis.zscore(keyspace.RECOGNITION.name, id_)
    assert await worker.renew({id_: None}) == set()
    assert await cell.redis.pttl(keyspace.IN_PROGRESS_PREFIX + id_) > 200_000
    assert await cell.redis.zscore(keyspace.RECOGNITION.name, id_) >= place


async def test_nobody_renews_anothers_lease(cell: Cell) -> None:
    """A worker learns that another has the job, even when it knows the current revision."""
    job = await held(cell)
    owner, other = cell.worker(lease=LONG), cell.worker(lease=LONG)
    await owner.claim(1, lapsed=True)
    assert await other.renew({job.id: job}) == {job.id}
    assert await owner.renew({job.id: job}) == set()


async def test_a_lapsed_lease_is_retaken_with_ones_own_revision(cell: Cell) -> None:
    """Nobody took the job during the outage: its worker goes on."""
    job = await held(cell)
    worker = cell.worker(lease=SHORT)
    await worker.claim(1, lapsed=True)
    await lapsed(cell, job.id)
    worker._lease_ms = 300_000
    assert await worker.renew({job.id: job}) == set()
    assert await cell.redis.get(keyspace.IN_PROGRESS_PREFIX + job.id) == worker.token.encode()
    assert await cell.worker().claim(1, lapsed=True) == []


async def test_a_lapsed_lease_is_lost_with_a_revision_that_changed(cell: Cell) -> None:
    """The job was reclaimed and is between two leases: its former worker does not get it back."""
    job = await held(cell)
    worker = cell.worker(lease=SHORT)
    await worker.claim(1, lapsed=True)
    await lapsed(cell, job.id)
    await cell.store.write(reclaim(job, holder="h2"), now=await cell.store.now())
    assert await worker.renew({job.id: job}) == {job.id}


async def test_a_lapsed_lease_is_lost_before_the_record_was_claimed(cell: Cell) -> None:
    """Without a revision of its own a worker has nothing to come back for."""
    (id_,) = await put(cell, 1)
    worker = cell.worker(lease=SHORT)
    await worker.claim(1, lapsed=True)
    await lapsed(cell, id_)
    assert await worker.renew({id_: None}) == {id_}


async def test_the_lease_on_a_discarded_job_is_lost(cell: Cell) -> None:
    """An erased job is taken out of the queue, and its worker stops at the next renewal."""
    kept, gone = await put(cell, 2)
    worker = cell.worker(lease=LONG)
    await worker.claim(2, lapsed=True)
    await cell.queue.discard(gone)
    assert await worker.renew({kept: None, gone: None}) == {gone}
    assert await cell.queued() == [kept]


async def test_a_job_that_is_done_leaves_nothing_in_the_queue(cell: Cell) -> None:
    """Its place, its delivery and its lease go together."""
    (id_,) = await put(cell, 1)
    worker = cell.worker(lease=LONG)
    await worker.claim(1, lapsed=True)
    await worker.settle(id_, done=True)
    assert await cell.queued() == []
    assert [key async for key in cell.redis.scan_iter(f"arq:*{id_}*")] == []


async def test_a_job_that_goes_back_is_due_at_once_and_first(cell: Cell) -> None:
    """It keeps its place before all that wait, for the next worker."""
    ids = await put(cell, 3)
    worker = cell.worker(lease=LONG)
    await worker.claim(1, lapsed=True)
    await worker.settle(ids[0], done=False)
    assert await cell.worker(lease=LONG).claim(3, lapsed=True) == ids


async def test_nobody_ends_anothers_lease(cell: Cell) -> None:
    """A worker that lost its job neither drops it from the queue nor gives it away."""
    (id_,) = await put(cell, 1)
    owner = cell.worker(lease=LONG)
    await owner.claim(1, lapsed=True)
    for done in (True, False):
        await cell.worker().settle(id_, done=done)
        assert await owner.renew({id_: None}) == set()
        assert await cell.redis.exists(keyspace.DELIVERY_PREFIX + id_)


async def test_one_wake_up_token_is_kept_while_there_is_work(cell: Cell) -> None:
    """Putting many jobs leaves one token; whoever takes it and leaves work behind puts it back."""
    await put(cell, 5)
    assert await cell.redis.llen(keyspace.RECOGNITION.wake) == 1
    worker = cell.worker(lease=LONG)
    await worker.wait(5)
    assert await cell.redis.llen(keyspace.RECOGNITION.wake) == 0
    await worker.claim(2, lapsed=True)
    assert await cell.redis.llen(keyspace.RECOGNITION.wake) == 1
    await worker.claim(2, lapsed=True)
    assert await cell.redis.llen(keyspace.RECOGNITION.wake) == 1
    await worker.wait(5)
    await worker.claim(1, lapsed=True)
    assert await cell.redis.llen(keyspace.RECOGNITION.wake) == 0


async def test_a_job_that_goes_back_wakes_somebody(cell: Cell) -> None:
    """An idle worker hears of it without polling."""
    (id_,) = await put(cell, 1)
    worker = cell.worker(lease=LONG)
    await worker.wait(5)
    await worker.claim(1, lapsed=True)
    await worker.settle(id_, done=False)
    assert await cell.redis.llen(keyspace.RECOGNITION.wake) == 1
