"""The leased worker on a real Redis: it runs what it leases, and survives what Redis does."""

import asyncio
import gc
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import AbstractAsyncContextManager, asynccontextmanager
from datetime import timedelta
from pathlib import Path
from typing import Any

import pytest
from arq.worker import func
from redis.asyncio import Redis

from deploy.processes import RedisServer, temporary_directory
from retention import keyspace
from retention.delivery import RECOGNIZE
from retention.entries import entry_of
from retention.errors import Unavailable
from retention.job import Completed, JobId, Processing, TenantId
from retention.keys import COMMON
from retention.leases import Leases
from retention.readiness import Readiness
from retention.roots.file import FileRoot
from retention.seal import Key
from tests.integration.cell import RESULTS, Cell, open_cell
from tests.stack import wait_until
from worker.leases import LeasedWorker, Retry

LEASE = timedelta(seconds=3)


class Work:
    """A workers' function that ends a job when the test says so, and counts."""

    def __init__(self, cell: Cell, *, go: bool = True) -> None:
        self.cell = cell
        self.go = asyncio.Event()
        if go:
            self.go.set()
        self.at_once = 0
        self.most_at_once = 0
        self.begun: list[JobId] = []

    async def __call__(self, ctx: dict[str, Any], tenant: TenantId, id_: JobId) -> None:
        self.at_once += 1
        self.most_at_once = max(self.most_at_once, self.at_once)
        try:
            async with self.cell.holding.hold(tenant, id_) as held:
                if held is not None:
                    self.begun.append(id_)
                    ctx["worker"].hold(held.job)
                    await self.go.wait()
                    await self.cell.holding.finish(held, RESULTS)
        finally:
            self.at_once -= 1

    def has_begun(self, count: int) -> Callable[[], Any]:
        async def enough() -> bool:
            return len(self.begun) >= count

        return enough


def working(work: Work, **options: Any) -> AbstractAsyncContextManager[LeasedWorker]:
    """Run a worker for as long as the block lasts, and stop it in good order."""
    return serving(work.cell.redis, work.__call__, **options)


@asynccontextmanager
async def serving(
    redis: Redis,
    function: Callable[..., Any],
    *,
    jobs_at_once: int = 2,
    lease: timedelta = LEASE,
    drain: float = 0.1,
    denied: Callable[[list[Processing]], Awaitable[set[JobId]]] | None = None,
) -> AsyncIterator[LeasedWorker]:
    """Run a worker with this function."""
    worker = LeasedWorker(
        [func(function, name=RECOGNIZE)],
        leases=Leases(redis, lease=lease),
        readiness=Readiness(redis, FileRoot(Key.random())),
        redis=redis,
        jobs_at_once=jobs_at_once,
        lease=lease,
        drain=timedelta(seconds=drain),
        denied=denied,
    )
    worker.ctx["worker"] = worker
    running = asyncio.create_task(worker.main())
    try:
        yield worker
    finally:
        worker.stop()
        await running


def all_completed(cell: Cell, *ids: JobId) -> Callable[[], Any]:
    async def completed() -> bool:
        found = [await cell.store.read(cell.tenant, id_) for id_ in ids]
        return all(stored is not None and isinstance(stored.job, Completed) for stored in found)

    return completed


def queue_is_empty(cell: Cell) -> Callable[[], Any]:
    async def empty() -> bool:
        return await cell.queued() == []

    return empty


async def test_jobs_are_run_in_order_and_leave_the_queue(cell: Cell) -> None:
    """Every job is run once, and arq leaves nothing of it behind."""
    jobs = [await cell.submit() for _ in range(5)]
    work = Work(cell)
    async with working(work, jobs_at_once=1):
        await wait_until(all_completed(cell, *(job.id for job in jobs)))
        await wait_until(queue_is_empty(cell))
    assert work.begun == [job.id for job in jobs]
    assert [key async for key in cell.redis.scan_iter("arq:*")] == []


async def test_no_more_jobs_run_at_once_than_allowed(cell: Cell) -> None:
    """A worker leases what it can work on, and leaves the rest to others."""
    jobs = [await cell.submit() for _ in range(6)]
    work = Work(cell, go=False)
    async with working(work, jobs_at_once=3):
        await wait_until(work.has_begun(3))
        assert len([key async for key in cell.redis.scan_iter("arq:in-progress:*")]) == 3
        work.go.set()
        await wait_until(all_completed(cell, *(job.id for job in jobs)))
    assert work.most_at_once == 3


async def test_an_idle_worker_is_woken(cell: Cell) -> None:
    """A job that comes to an idle worker is begun without waiting for a poll."""
    work = Work(cell)
    async with working(work):
        job = await cell.submit()
        await wait_until(all_completed(cell, job.id))


async def test_a_stop_hands_back_what_cannot_be_finished(cell: Cell) -> None:
    """Uncounted, at once, and before all that wait; another worker finishes it."""
    first, second = await cell.submit(), await cell.submit()
    work = Work(cell, go=False)
    async with working(work, jobs_at_once=1):
        await wait_until(work.has_begun(1))
    found = await cell.stored(first)
    assert isinstance(found, Processing)
    assert (found.attempts, found.holder) == (0, "")
    assert await cell.worker().claim(1, lapsed=True) == [first.id]
    assert await cell.stored(second) == second


async def test_a_stop_lets_finish_what_can_be_finished(cell: Cell) -> None:
    """Within the drain a job ends as usual."""
    job = await cell.submit()
    work = Work(cell, go=False)
    async with working(work, drain=30) as worker:
        await wait_until(work.has_begun(1))
        worker.stop()
        work.go.set()
    assert isinstance(await cell.stored(job), Completed)


async def test_an_erased_job_is_stopped(cell: Cell) -> None:
    """Its lease is lost with the next renewal, and the worker takes other work."""
    job = await cell.submit()
    work = Work(cell, go=False)
    async with working(work, jobs_at_once=1):
        await wait_until(work.has_begun(1))
        await cell.store.erase(entry_of(job))
        await cell.queue.discard(job.id)
        await wait_until(_nothing_runs(work))
        work.go.set()
        other = await cell.submit()
        await wait_until(all_completed(cell, other.id))
    assert await cell.stored(job) is None


async def test_however_long_its_lease_a_job_whose_key_is_disabled_is_stopped(cell: Cell) -> None:
    """Soon: the lease says how long others leave it alone, not how long a worker may go on unasked."""
    job = await cell.submit()
    work = Work(cell, go=False)
    async with working(work, lease=timedelta(hours=1), denied=cell.holding.denied):
        await wait_until(work.has_begun(1))
        await cell.custody.disable(COMMON)
        await wait_until(_nothing_runs(work))
    found = await cell.stored(job)
    assert isinstance(found, Processing)
    assert (found.attempts, found.holder) == (0, "")


async def test_an_erased_job_is_stopped_though_nobody_can_be_asked_for_keys(cell: Cell) -> None:
    """What the renewal found counts, whatever becomes of the next question."""

    async def away(_: list[Processing]) -> set[JobId]:
        raise Unavailable

    job = await cell.submit()
    work = Work(cell, go=False)
    async with working(work, denied=away):
        await wait_until(work.has_begun(1))
        await cell.store.erase(entry_of(job))
        await cell.queue.discard(job.id)
        await wait_until(_nothing_runs(work))


def _nothing_runs(work: Work) -> Callable[[], Any]:
    async def nothing() -> bool:
        return work.at_once == 0

    return nothing


async def test_a_worker_survives_broken_connections(cell: Cell) -> None:
    """Whatever it was doing, it goes on, and no attempt is lost."""
    jobs = [await cell.submit() for _ in range(3)]
    work = Work(cell, go=False)
    async with working(work, jobs_at_once=5):
        await wait_until(work.has_begun(3))
        await cell.redis.execute_command("CLIENT", "KILL", "TYPE", "normal")
        work.go.set()
        await wait_until(all_completed(cell, *(job.id for job in jobs)))


@pytest.fixture
def own_server() -> Any:
    """Give a Redis of the test's own, to be stopped."""
    with temporary_directory() as directory:
        server = RedisServer(directory)
        yield server
        server.stop()


async def test_a_worker_survives_a_restart_of_redis(own_server: RedisServer, tmp_path: Path) -> None:
    """What it works on meanwhile is its own still, and is finished at its first attempt; idle, it waits."""
    async with Redis.from_url(own_server.url) as redis:
        cell = await open_cell(redis, tmp_path / "audio")
        held, waiting = await cell.submit(), await cell.submit()
        work = Work(cell, go=False)
        async with working(work, jobs_at_once=5):
            await wait_until(work.has_begun(2))
            await asyncio.to_thread(own_server.restart)
            work.go.set()
            await wait_until(all_completed(cell, held.id, waiting.id))
        assert sorted(work.begun) == sorted([held.id, waiting.id])
        found = await cell.stored(held)
        assert found is not None
        assert found.revision == 3
        assert await redis.keys(keyspace.IN_PROGRESS_PREFIX + "*") == []


async def test_a_lease_that_lapsed_unnoticed_is_not_worked_on_twice(
    cell: Cell, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Redis's clock jumped, as when a machine wakes up: the worker's own claim finds its own job, which goes on."""
    job = await cell.submit()
    work = Work(cell, go=False)
    async with working(work, jobs_at_once=3) as worker:
        await wait_until(work.has_begun(1))
        claimed = watched(worker, monkeypatch)
        worker._patient_until = 0.0  # this Redis may have just been started

        async def claimed_again() -> bool:
            async with cell.redis.pipeline(transaction=True) as pipe:
                pipe.delete(keyspace.IN_PROGRESS_PREFIX + job.id)
                pipe.zadd(keyspace.RECOGNITION.name, {job.id: 10**12 + 1})
                pipe.lpush(keyspace.RECOGNITION.wake, "1")  # so that a claim comes before the next renewal
                await pipe.execute()
            return job.id in claimed

        await wait_until(claimed_again)
        later = await cell.submit()
        await wait_until(work.has_begun(2))
        work.go.set()
        await wait_until(all_completed(cell, job.id, later.id))
    assert work.begun == [job.id, later.id]
    found = await cell.stored(job)
    assert found is not None
    assert found.revision == 3


async def test_a_job_that_comes_again_before_its_release_is_answered_is_begun(
    cell: Cell, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The reply to the release is late, and the job is this worker's again by then: a new delivery, and no lapse."""
    job = await cell.submit()
    begun: list[JobId] = []

    async def superseded_once(_: dict[str, Any], __: TenantId, id_: JobId) -> None:
        begun.append(id_)
        if len(begun) == 1:
            raise Retry

    async def begun_again() -> bool:
        return len(begun) == 2

    async with serving(cell.redis, superseded_once) as worker:
        settle = worker._leases.settle

        async def late(id_: JobId, *, done: bool) -> None:
            await settle(id_, done=done)
            if not done:
                await wait_until(begun_again)

        monkeypatch.setattr(worker._leases, "settle", late)
        await wait_until(begun_again)
        await wait_until(queue_is_empty(cell))

        async def all_ended() -> bool:
            return worker.tasks == {}

        await wait_until(all_ended)
    assert begun == [job.id] * 2


async def test_a_worker_that_cannot_renew_hands_back_and_ends_with_the_error(
    cell: Cell, monkeypatch: pytest.MonkeyPatch
) -> None:
    """No outage but an error of its own: it must not go on claiming what it cannot keep, and a supervisor sees it."""
    job = await cell.submit()
    work = Work(cell, go=False)

    async def broken(_: object) -> None:
        raise ZeroDivisionError

    async def work_until_it_breaks() -> None:
        async with working(work) as worker:
            await wait_until(work.has_begun(1))
            monkeypatch.setattr(worker._leases, "renew", broken)
            await wait_until(_nothing_runs(work))

    with pytest.raises(ZeroDivisionError):
        await work_until_it_breaks()
    found = await cell.stored(job)
    assert isinstance(found, Processing)
    assert (found.attempts, found.holder) == (0, "")


async def test_a_cancelled_job_that_ends_otherwise_is_no_error_of_asyncio(cell: Cell) -> None:
    """Its cancellation got lost, and it found itself superseded: arq waits for it, and asks for nothing."""
    complaints: list[dict[str, Any]] = []
    asyncio.get_running_loop().set_exception_handler(lambda _, complaint: complaints.append(complaint))
    begun, ended = asyncio.Event(), asyncio.Event()

    async def superseded(_: dict[str, Any], __: TenantId, ___: JobId) -> None:
        begun.set()
        try:
            await asyncio.Event().wait()
        finally:
            ended.set()
            raise Retry

    async def nothing_runs() -> bool:
        return not worker.tasks

    job = await cell.submit()
    async with serving(cell.redis, superseded) as worker:
        await begun.wait()
        await cell.store.erase(entry_of(job))
        await cell.queue.discard(job.id)
        await ended.wait()
        await wait_until(nothing_runs)
    gc.collect()
    assert complaints == []


def watched(worker: LeasedWorker, monkeypatch: pytest.MonkeyPatch) -> list[JobId]:
    """Return a list to which every job that the worker claims is added."""
    claimed: list[JobId] = []
    claim = worker._leases.claim

    async def counted(most: int, *, lapsed: bool) -> list[JobId]:
        ids = await claim(most, lapsed=lapsed)
        claimed.extend(ids)
        return ids

    monkeypatch.setattr(worker._leases, "claim", counted)
    return claimed
