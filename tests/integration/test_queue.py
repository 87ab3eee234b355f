"""The queue: what is put in, in which order it comes out, and what never comes out."""

import msgspec

from retention import keyspace
from retention.delivery import RECOGNIZE, loads
from retention.entries import entry_of
from tests.integration.cell import Cell


async def test_a_job_is_put_once(cell: Cell) -> None:
    """Putting a job again changes nothing, so that whoever doubts may repeat it."""
    id_ = (await cell.accepted()).id
    assert await cell.queue.put(cell.tenant, id_)
    place = await cell.redis.zscore(keyspace.RECOGNITION.name, id_)
    assert not await cell.queue.put(cell.tenant, id_)
    assert await cell.redis.zscore(keyspace.RECOGNITION.name, id_) == place
    assert await cell.redis.zcard(keyspace.RECOGNITION.name) == 1


async def test_a_running_job_is_not_put_again(cell: Cell) -> None:
    """The queue holds a leased job: its lease is not cut short."""
    id_ = (await cell.accepted()).id
    await cell.queue.put(cell.tenant, id_)
    worker = cell.worker()
    assert await worker.claim(1, lapsed=True) == [id_]
    lease = await cell.redis.zscore(keyspace.RECOGNITION.name, id_)
    assert not await cell.queue.put(cell.tenant, id_)
    assert await cell.redis.zscore(keyspace.RECOGNITION.name, id_) == lease


async def test_half_a_queue_entry_is_made_whole(cell: Cell) -> None:
    """A place without a delivery, and a delivery without a place, are both put right."""
    for lost in (keyspace.DELIVERY_PREFIX, None):
        id_ = (await cell.accepted()).id
        await cell.queue.put(cell.tenant, id_)
        await (cell.redis.delete(lost + id_) if lost else cell.redis.zrem(keyspace.RECOGNITION.name, id_))
        place = await cell.redis.zscore(keyspace.RECOGNITION.name, id_)
        assert await cell.queue.put(cell.tenant, id_)
        assert place is None or await cell.redis.zscore(keyspace.RECOGNITION.name, id_) == place
        assert await cell.worker().claim(1, lapsed=True) == [id_]


async def test_a_delivery_names_the_job_and_nothing_else(cell: Cell) -> None:
    """JSON with a tenant and a job id: nothing that would run, nothing that would tell."""
    id_ = (await cell.accepted()).id
    await cell.queue.put(cell.tenant, id_)
    body = await cell.redis.get(keyspace.DELIVERY_PREFIX + id_)
    delivery = loads(body)
    assert (delivery["f"], delivery["a"], delivery["k"]) == (RECOGNIZE, [cell.tenant, id_], {})
    assert msgspec.json.decode(body) == delivery


async def test_a_delivery_outlives_the_jobs_deadline(cell: Cell) -> None:
    """A job that waits for its whole patience is still delivered."""
    id_ = (await cell.accepted()).id
    await cell.queue.put(cell.tenant, id_)
    assert await cell.redis.ttl(keyspace.DELIVERY_PREFIX + id_) > 8 * 86_400


async def test_a_discarded_job_is_gone_from_the_queue(cell: Cell) -> None:
    """Neither its place nor its delivery remain, and others keep theirs."""
    first, second, third = [(await cell.accepted()).id for _ in range(3)]
    for id_ in (first, second, third):
        await cell.queue.put(cell.tenant, id_)
    await cell.queue.discard(first, second)
    assert await cell.queued() == [third]
    assert await cell.redis.exists(keyspace.DELIVERY_PREFIX + first, keyspace.DELIVERY_PREFIX + second) == 0
    assert await cell.worker().claim(3, lapsed=True) == [third]


async def test_a_job_that_is_gone_is_not_put(cell: Cell) -> None:
    """Erased between its record and its queueing: nothing names it again."""
    job = await cell.accepted()
    await cell.store.erase(entry_of(job))
    assert not await cell.queue.put(cell.tenant, job.id)
    assert await cell.naming(job) == []


async def test_ghosts_are_dropped_by_the_next_claim(cell: Cell) -> None:
    """A place without a delivery costs nobody a slot, and goes."""
    ghosts = [(await cell.accepted()).id for _ in range(5)]
    for id_ in ghosts:
        await cell.queue.put(cell.tenant, id_)
        await cell.redis.delete(keyspace.DELIVERY_PREFIX + id_)
    real = (await cell.accepted()).id
    await cell.queue.put(cell.tenant, real)
    assert await cell.worker().claim(2, lapsed=True) == [real]
    assert await cell.queued() == [real]
