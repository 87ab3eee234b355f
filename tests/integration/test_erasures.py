"""What Redis's files show of what was erased: what notes it, and what is left after a rewrite."""

from collections.abc import Awaitable, Callable
from datetime import timedelta
from pathlib import Path

import msgspec
import pytest
from redis.asyncio import Redis

from retention import keyspace
from retention.job import TenantId
from tests.integration.cell import HOUR, SUBMISSION, Cell, open_cell
from tests.integration.shown import Files, horizon, rewritten, vanished, wrapped_key
from tests.stack import wait_until


async def test_no_file_shows_the_key_of_an_erased_job_after_the_horizon(
    files: Files,
) -> None:
    """Before the rewrite one does, and says so; the key of a job that is not erased stays."""
    cell = files.cell
    erased, kept = await cell.submit(), await cell.submit()
    keys = {job.id: await wrapped_key(cell, job) for job in (erased, kept)}
    began = await cell.store.now()
    await cell.jobs.delete(cell.tenant, erased.id)
    found = horizon(cell.redis)
    status = await found.status()
    assert status.oldest is not None
    assert began <= status.oldest <= await cell.store.now()
    assert files.show(keys[erased.id])
    await rewritten(found)
    status = await found.status()
    assert status.clean_until is not None
    assert began <= status.clean_until
    await vanished(files, keys[erased.id])
    assert files.show(keys[kept.id])


async def test_a_rewrite_that_broke_off_with_redis_covers_nothing(files: Files) -> None:
    """The erasure still waits, as old as it was."""
    server, cell = files.server, files.cell
    job = await cell.submit()
    await cell.jobs.delete(cell.tenant, job.id)
    found = horizon(cell.redis)
    oldest = (await found.status()).oldest
    await found.tend()
    server.restart()
    await cell.redis.connection_pool.disconnect()
    assert (await found.status()).oldest == oldest
    await horizon(cell.redis, every=HOUR).tend()
    assert (await found.status()).oldest == oldest
    assert (await found.status()).clean_until is None
    await rewritten(found)


async def test_a_rewrite_that_nobody_asked_redis_for_covers_nothing(files: Files) -> None:
    """Whoever was about to ask was killed."""
    cell = files.cell
    job = await cell.submit()
    await cell.jobs.delete(cell.tenant, job.id)
    found = horizon(cell.redis)
    oldest = (await found.status()).oldest
    assert await found._due(str((await cell.redis.info())["run_id"]))
    await horizon(cell.redis, every=HOUR).tend()
    assert (await found.status()).oldest == oldest
    assert await cell.redis.hget(keyspace.ERASURES, "since") is not None


async def test_the_file_is_rewritten_no_more_often_than_the_setting_says(
    files: Files,
) -> None:
    """What is erased soon after a rewrite waits; without an erasure there is none."""
    cell = files.cell
    await rewritten(horizon(cell.redis))
    before = await cell.redis.hgetall(keyspace.ERASURES)
    await horizon(cell.redis).tend()
    assert await cell.redis.hgetall(keyspace.ERASURES) == before
    found = horizon(cell.redis, every=HOUR)
    job = await cell.submit()
    await cell.jobs.delete(cell.tenant, job.id)
    before = await cell.redis.hgetall(keyspace.ERASURES)
    assert b"since" in before
    await found.tend()
    assert await cell.redis.hgetall(keyspace.ERASURES) == before


async def test_what_is_erased_while_a_file_is_rewritten_waits_for_the_next(
    files: Files,
) -> None:
    """The rewrite began before."""
    cell = files.cell
    first, second = await cell.submit(), await cell.submit()
    found = horizon(cell.redis)
    await cell.jobs.delete(cell.tenant, first.id)
    await found.tend()
    between = await cell.store.now()
    await cell.jobs.delete(cell.tenant, second.id)
    oldest = (await found.status()).oldest
    assert oldest is not None
    assert oldest <= between

    async def the_first_ended() -> bool:
        await horizon(cell.redis, every=HOUR).tend()
        oldest = (await found.status()).oldest
        return oldest is not None and oldest >= between

    await wait_until(the_first_ended)


async def delete(cell: Cell) -> None:
    job = await cell.submit()
    await cell.redis.delete(keyspace.ERASURES)
    await cell.jobs.delete(cell.tenant, job.id)


async def erase(cell: Cell) -> None:
    await cell.submit(customer="c")
    await cell.redis.delete(keyspace.ERASURES)
    await cell.jobs.erase_customer(cell.tenant, "c")


async def delete_tenant(cell: Cell) -> None:
    await cell.submit()
    await cell.redis.delete(keyspace.ERASURES)
    await cell.jobs.delete_tenant(cell.tenant)


async def fail(cell: Cell) -> None:
    job = await cell.submit()
    async with cell.holding.hold(cell.tenant, job.id) as held:
        assert held
        await cell.redis.delete(keyspace.ERASURES)
        await cell.holding.fail(held, "undecodable")


async def expire(cell: Cell) -> None:
    job = await cell.submit(results_ttl=timedelta(milliseconds=20))
    async with cell.holding.hold(cell.tenant, job.id) as held:
        assert held
        await cell.holding.finish(held, b"{}")
    await cell.redis.delete(keyspace.ERASURES)

    async def swept() -> bool:
        await cell.caretaker.round("", during=timedelta(milliseconds=10))
        return bool(await cell.redis.exists(keyspace.ERASURES))

    await wait_until(swept)


async def take_a_registration_back(cell: Cell) -> None:
    await register(cell)
    await cell.redis.delete(keyspace.ERASURES)
    await cell.registrations.remove(cell.tenant, "https://a.example/")


async def register_anew(cell: Cell) -> None:
    await register(cell)
    await cell.redis.delete(keyspace.ERASURES)
    await register(cell)


async def register(cell: Cell) -> None:
    began = await cell.store.now()
    await cell.registrations.keep(cell.tenant, "https://a.example/", "s", customer=None, began=began)


async def purge_the_request_log(cell: Cell) -> None:
    await logged(cell)
    await cell.redis.delete(keyspace.ERASURES)
    assert await cell.log.erase_tenant(cell.tenant)


async def logged(cell: Cell) -> None:
    job = await cell.submit(submission=msgspec.structs.replace(SUBMISSION, learning_opt_out=False))
    async with cell.holding.hold(cell.tenant, job.id) as held:
        assert held
        await cell.holding.finish(held, b"{}")


async def rotate_a_key(cell: Cell) -> None:
    await cell.submit()
    key = await cell.custody.create(TenantId(cell.tenant))
    await cell.redis.delete(keyspace.ERASURES)
    await cell.custody.rotation.rewrap(key.id)


async def destroy_a_key(cell: Cell) -> None:
    key = await cell.custody.create(TenantId(cell.tenant))
    await cell.redis.delete(keyspace.ERASURES)
    await cell.custody.destroy(key.id, grace=None)


WAYS: list[Callable[[Cell], Awaitable[None]]] = [
    delete,
    erase,
    delete_tenant,
    fail,
    expire,
    take_a_registration_back,
    register_anew,
    purge_the_request_log,
    rotate_a_key,
    destroy_a_key,
]


@pytest.mark.parametrize("way", WAYS, ids=[way.__name__ for way in WAYS])
async def test_every_way_to_erase_is_noted(
    redis: Redis, tmp_path: Path, way: Callable[[Cell], Awaitable[None]]
) -> None:
    """With the moment of the first one."""
    cell = await open_cell(redis, tmp_path / "audio", request_log=HOUR)
    await way(cell)
    first = (await horizon(cell.redis).status()).oldest
    assert first is not None
    await delete_another(cell)
    assert (await horizon(cell.redis).status()).oldest == first


async def delete_another(cell: Cell) -> None:
    other = cell.of((await cell.tenants.create("another", now=await cell.store.now())).id)
    job = await other.submit()
    await other.jobs.delete(other.tenant, job.id)
