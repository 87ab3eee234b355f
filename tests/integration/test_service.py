"""Submitting, looking up and deleting, as the front sees it; and what is left when something goes wrong midway."""

import asyncio
import contextlib
from collections import Counter
from collections.abc import AsyncIterator
from datetime import timedelta
from typing import Any

import pytest
from redis.asyncio import Redis

from deploy.processes import RedisServer, temporary_directory
from retention import keyspace
from retention.audit import Doing
from retention.errors import JobProcessing, NotFound, Superseded, TenantGone, Unavailable
from retention.holding import Held
from retention.job import Completed, JobId, TenantId, Waiting, new_job_id
from tests.integration.cell import AUDIO, HOUR, RESULTS, SUBMISSION, Cell, open_cell, spoken
from tests.stack import wait_until


async def everything(redis: Redis) -> bytes:
    """Return all that Redis holds, one value after the other."""
    held = []
    async for key in redis.scan_iter(count=1000):
        held += [key, await redis.dump(key)]
        if await redis.type(key) == b"hash":
            held += [part for pair in (await redis.hgetall(key)).items() for part in pair]
    return b"\n".join(held)


async def test_a_job_goes_from_submission_to_deletion(cell: Cell) -> None:
    """Submitted, held, finished, looked up, deleted; and then there is nothing."""
    job = await cell.submit(customer="somebody")
    assert await cell.jobs.look_up(cell.tenant, job.id) == (job, None)
    assert await cell.queued() == [job.id]
    async with cell.holding.hold(cell.tenant, job.id) as held:
        assert held is not None
        assert held.submission == SUBMISSION
        assert b"".join([piece async for piece in cell.holding.audio(held)]) == AUDIO
        completed = await cell.holding.finish(held, RESULTS)
    assert completed.expires == completed.updated + HOUR
    assert await cell.jobs.look_up(cell.tenant, job.id) == (completed, RESULTS)
    assert await cell.listed() == [completed]
    assert cell.recordings() == []
    await cell.jobs.delete(cell.tenant, job.id)
    assert await cell.naming(job) == []
    with pytest.raises(NotFound):
        await cell.jobs.look_up(cell.tenant, job.id)
    with pytest.raises(NotFound):
        await cell.jobs.delete(cell.tenant, job.id)


async def test_nothing_is_stored_in_clear(cell: Cell) -> None:
    """Audio, parameters, results and customer are in neither store; the record has a tag of the customer."""
    job = await cell.submit(customer="a-person@example.com")
    sealed = cell.recordings()[0].read_bytes() + await everything(cell.redis)
    async with cell.holding.hold(cell.tenant, job.id) as held:
        assert held is not None
        await cell.holding.finish(held, b'{"results":["whispered words"]}')
    sealed += await everything(cell.redis)
    for secret in (AUDIO, b"whispered", b"a-person", SUBMISSION.model.encode()):
        assert secret not in sealed
    assert job.customer is not None
    assert job.customer != cell.keyring.tag(TenantId("another"), "a-person@example.com")


async def test_each_job_has_a_data_key_of_its_own(cell: Cell) -> None:
    """Whoever has learned one opens one job; so it is also with equal jobs of one tenant and customer."""
    keys = []
    for job in [await cell.submit(customer="c") for _ in range(3)]:
        async with cell.holding.hold(cell.tenant, job.id) as held:
            assert held is not None
            keys.append(held.key.raw())
    assert len(set(keys)) == 3


async def test_a_job_that_a_worker_holds_is_not_deleted(cell: Cell) -> None:
    """The delete is refused, and the job stays whole (spec 1.6)."""
    job = await cell.submit()
    async with cell.holding.hold(cell.tenant, job.id) as held:
        assert held is not None
        await cell.lease(job)
        with pytest.raises(JobProcessing):
            await cell.jobs.delete(cell.tenant, job.id)
        await cell.holding.finish(held, RESULTS)
    assert (await cell.jobs.look_up(cell.tenant, job.id))[1] == RESULTS


async def test_a_deleted_waiting_job_never_runs(cell: Cell) -> None:
    """It is gone from the queue, and a delivery that is under way finds nothing to do."""
    job = await cell.submit()
    await cell.jobs.delete(cell.tenant, job.id)
    assert await cell.worker().claim(1, lapsed=True) == []
    async with cell.holding.hold(cell.tenant, job.id) as held:
        assert held is None


async def test_a_delete_that_races_a_claim_is_one_or_the_other(cell: Cell, monkeypatch: pytest.MonkeyPatch) -> None:
    """A thousand times: the worker holds a whole job and the delete was refused, or there is nothing."""
    monkeypatch.setattr(cell.audit, "recording", unrecorded)  # which takes so long that the worker would always win
    outcomes: Counter[type] = Counter()

    async def take(job: Waiting) -> Held | None:
        async with cell.holding.hold(cell.tenant, job.id) as held:
            return held

    async def delete(job: Waiting, *, late: int) -> JobProcessing | None:
        for _ in range(late):  # a claim takes one step more: it also reads whether the key may be used
            await cell.redis.ping()
        try:
            await cell.jobs.delete(cell.tenant, job.id)
        except JobProcessing as refusal:
            return refusal
        return None

    for turn in range(1000):
        job = await cell.deliverable()
        await cell.lease(job)
        if turn % 2:
            held, refused = await asyncio.gather(take(job), delete(job, late=turn % 3))
        else:
            refused, held = await asyncio.gather(delete(job, late=turn % 3), take(job))
        stored = await cell.stored(job)
        outcomes[type(stored)] += 1
        if stored is None:
            assert (refused, held) == (None, None)
            assert await cell.fields(job) == set()
        else:
            assert isinstance(refused, JobProcessing)
            assert held is not None
            assert held.job == stored
            assert await cell.fields(job) == {b"revision", b"record", b"key", b"submission"}
    assert sorted(outcome.__name__ for outcome in outcomes) == ["NoneType", "Processing"]


async def test_foreign_jobs_do_not_exist(cell: Cell) -> None:
    """Another tenant neither reads nor deletes nor holds a job."""
    job = await cell.submit()
    stranger = (await cell.tenants.create("stranger", now=job.created)).id
    with pytest.raises(NotFound):
        await cell.jobs.look_up(stranger, job.id)
    with pytest.raises(NotFound):
        await cell.jobs.delete(stranger, job.id)
    async with cell.holding.hold(stranger, job.id) as held:
        assert held is None
    assert await cell.stored(job) == job


@pytest.mark.parametrize("field", ["key", "result"])
@pytest.mark.parametrize("damage", [b"", b"x", b"common@2:x", b"common@1:" + bytes(100)])
async def test_a_result_that_does_not_open_reads_as_gone(cell: Cell, field: str, damage: bytes) -> None:
    """Damage in the store is never another's plaintext and never an internal error."""
    job = await cell.submit()
    async with cell.holding.hold(cell.tenant, job.id) as held:
        assert held is not None
        await cell.holding.finish(held, RESULTS)
    await cell.redis.hset(keyspace.job(cell.tenant, job.id), field, damage)
    with pytest.raises(NotFound):
        await cell.jobs.look_up(cell.tenant, job.id)


async def test_a_result_of_another_job_does_not_open(cell: Cell) -> None:
    """Key and result moved together to another job's place open nothing there."""
    jobs = [await cell.submit() for _ in range(2)]
    for job in jobs:
        async with cell.holding.hold(cell.tenant, job.id) as held:
            assert held is not None
            await cell.holding.finish(held, RESULTS)
    names = [keyspace.job(cell.tenant, job.id) for job in jobs]
    key, result = await cell.redis.hmget(names[0], "key", "result")
    await cell.redis.hset(names[1], mapping={"key": key, "result": result})
    with pytest.raises(NotFound):
        await cell.jobs.look_up(cell.tenant, jobs[1].id)


async def test_deleting_a_tenant_leaves_nothing(cell: Cell) -> None:
    """Its jobs in every state go, with audio, keys and entries; a late worker brings nothing back."""
    jobs = [await cell.submit(customer="c") for _ in range(4)]
    key = await cell.tenants.create_key(cell.tenant, now=jobs[0].created)
    async with cell.holding.hold(cell.tenant, jobs[0].id) as done, cell.holding.hold(cell.tenant, jobs[1].id) as late:
        assert done is not None
        assert late is not None
        await cell.holding.finish(done, RESULTS)
        assert await cell.jobs.delete_tenant(cell.tenant) == 4
        with pytest.raises(Superseded):
            await cell.holding.finish(late, RESULTS)
        with pytest.raises(Superseded):
            await cell.holding.fail(late, "engine")
    assert cell.recordings() == []
    await cell.redis.delete(keyspace.AUDIT)  # it keeps whose deletion it was
    assert cell.tenant.encode() not in await everything(cell.redis)
    for job in jobs:
        assert await cell.naming(job) == []
    assert await cell.authenticated(key) is None
    with pytest.raises(NotFound):
        await cell.jobs.delete_tenant(cell.tenant)


async def test_a_tenants_deletion_that_broke_off_can_be_repeated(cell: Cell) -> None:
    """Dismissed is not yet erased: the next try finds what is left of a tenant that is not there any more."""
    job = await cell.submit()
    await cell.tenants.dismiss(cell.tenant)
    assert await cell.jobs.delete_tenant(cell.tenant) == 1
    assert cell.recordings() == []
    assert await cell.naming(job) == []


async def test_deleting_a_tenant_takes_what_names_an_expired_job(cell: Cell) -> None:
    """Redis has dropped the record by itself, and with it the customer's tag that its entries bear."""
    job = await cell.submit(customer="c")
    await cell.redis.delete(keyspace.job(cell.tenant, job.id))
    assert await cell.jobs.delete_tenant(cell.tenant) == 1
    assert await cell.naming(job) == []


async def test_a_job_whose_audio_was_swept_is_not_accepted(cell: Cell, monkeypatch: pytest.MonkeyPatch) -> None:
    """A process that was away between audio and record does not say 201, and takes the record back."""
    write = cell.store.write

    async def late(job: Waiting, **sealed: Any) -> None:
        await cell.audio.remove(job.tenant, job.id)
        await write(job, **sealed)

    monkeypatch.setattr(cell.store, "write", late)
    with pytest.raises(Unavailable):
        await cell.submit()
    await cell.acceptance.close()
    assert await cell.listed() == []


async def test_a_record_that_lands_after_it_was_taken_back_is_removed_again(
    cell: Cell, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A Redis that was frozen may execute a write after the removal that followed it."""
    erase, write = cell.store.erase, cell.store.write
    refused: list[tuple[Waiting, dict[str, Any]]] = []

    async def frozen(job: Waiting, **sealed: Any) -> None:
        refused.append((job, sealed))
        raise Unavailable

    async def overtaken(*job: Any) -> None:
        await erase(*job)
        while refused:
            record, sealed = refused.pop()
            await write(record, **sealed)

    monkeypatch.setattr(cell.store, "write", frozen)
    monkeypatch.setattr(cell.store, "erase", overtaken)
    with pytest.raises(Unavailable):
        await cell.submit()
    await cell.acceptance.close()
    assert await cell.listed() == []


async def test_an_upload_that_breaks_off_leaves_nothing(cell: Cell) -> None:
    """Whatever the body raises is passed on; neither audio nor record remain."""

    async def broken() -> AsyncIterator[bytes]:
        yield AUDIO * 100_000
        raise ConnectionResetError

    with pytest.raises(ConnectionResetError):
        await cell.submit(broken())
    assert cell.recordings() == []
    assert await cell.listed() == []
    assert await cell.queued() == []


async def test_an_upload_of_a_tenant_that_is_deleted_meanwhile_leaves_nothing(cell: Cell) -> None:
    """The record is refused, and the audio goes with it."""

    async def interrupted() -> AsyncIterator[bytes]:
        yield AUDIO
        await cell.jobs.delete_tenant(cell.tenant)
        yield AUDIO

    with pytest.raises(TenantGone):
        await cell.submit(interrupted())
    assert cell.recordings() == []
    assert await cell.redis.keys(keyspace.job(cell.tenant, JobId("*"))) == []


async def test_a_record_that_cannot_be_written_is_taken_back() -> None:
    """The client is told that there is no job, and when Redis is back there is none: no record and no audio."""
    with temporary_directory() as directory:
        server = RedisServer(directory / "redis")
        try:
            async with Redis.from_url(server.url) as redis:
                cell = await open_cell(redis, directory / "audio")

                async def interrupted() -> AsyncIterator[bytes]:
                    yield AUDIO
                    await asyncio.to_thread(server.stop)

                with pytest.raises(Unavailable):
                    await cell.submit(interrupted())
                assert len(cell.recordings()) == 1
                await asyncio.to_thread(server.restart)
                await cell.acceptance.close()
                assert cell.recordings() == []
                assert await cell.listed() == []
        finally:
            server.stop()


async def test_a_store_that_cannot_be_reached_refuses_before_the_body() -> None:
    """No byte is read of an upload that cannot be kept."""
    with temporary_directory() as directory:
        server = RedisServer(directory / "redis")
        async with Redis.from_url(server.url) as redis:
            cell = await open_cell(redis, directory / "audio")
            server.stop()
            body = spoken(AUDIO)
            with pytest.raises(Unavailable):
                await cell.submit(body)
            assert await anext(body) == AUDIO


async def test_an_expired_result_is_gone_on_time(cell: Cell) -> None:
    """It can be read until its moment, and not after it."""
    job = await cell.submit(results_ttl=timedelta(milliseconds=300))
    async with cell.holding.hold(cell.tenant, job.id) as held:
        assert held is not None
        completed: Completed = await cell.holding.finish(held, RESULTS)

    async def gone() -> bool:
        began = await cell.store.now()
        try:
            await cell.jobs.look_up(cell.tenant, job.id)
        except NotFound:
            return True
        assert began < completed.expires
        return False

    await wait_until(gone)
    assert await cell.store.now() >= completed.expires


async def test_an_unknown_job_is_not_found(cell: Cell) -> None:
    """Ids that never were are the same miss as those that are gone."""
    with pytest.raises(NotFound):
        await cell.jobs.look_up(cell.tenant, new_job_id())


async def test_a_job_waits_when_it_was_submitted(cell: Cell) -> None:
    """Acceptance does not wait for a worker."""
    assert isinstance(await cell.submit(), Waiting)


@contextlib.asynccontextmanager
async def unrecorded(*_: object, **__: object) -> AsyncIterator[Doing]:
    yield Doing()
