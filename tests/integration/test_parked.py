"""What is deleted of jobs that have begun and that nobody works on: those that are parked, or whose worker is gone."""

import asyncio
from typing import Any

import pytest

from retention.errors import JobProcessing, Superseded
from retention.job import Processing, Waiting
from retention.keys import COMMON
from tests.integration.cell import RESULTS, Cell


async def handed_back(cell: Cell) -> Waiting:
    """Return a job on which work began and was stopped, as it is when its key is disabled."""
    job = await cell.submit()
    taken = asyncio.Event()

    async def work() -> None:
        async with cell.holding.hold(cell.tenant, job.id):
            taken.set()
            await asyncio.Event().wait()

    working = asyncio.create_task(work())
    await taken.wait()
    working.cancel()
    await asyncio.gather(working, return_exceptions=True)
    stored = await cell.stored(job)
    assert isinstance(stored, Processing)
    assert (stored.attempts, stored.holder) == (0, "")
    return job


async def test_a_parked_job_is_deleted(cell: Cell) -> None:
    """Its key need not be enabled for that."""
    job = await handed_back(cell)
    await cell.custody.disable(COMMON)
    async with cell.holding.hold(cell.tenant, job.id) as held:
        assert held is None
    await cell.jobs.delete(cell.tenant, job.id)
    assert await cell.naming(job) == []
    await cell.custody.enable(COMMON)
    assert await cell.queued() == []


async def test_a_disabled_key_lets_a_job_be_deleted_while_the_work_is_still_to_be_stopped(cell: Cell) -> None:
    """The worker learns of it by its next write, or as it renews its lease."""
    job = await cell.submit()
    async with cell.holding.hold(cell.tenant, job.id) as held:
        assert held is not None
        await cell.lease(job)
        await cell.custody.disable(COMMON)
        await cell.jobs.delete(cell.tenant, job.id)
        with pytest.raises(Superseded):
            await cell.holding.finish(held, RESULTS)
    assert await cell.naming(job) == []


async def test_a_job_whose_worker_is_gone_is_deleted(cell: Cell) -> None:
    """A worker that was killed, or failed at it, has not handed it back, and there may be none to take it."""
    job = await cell.submit()
    async with cell.holding.hold(cell.tenant, job.id) as held:
        assert held is not None
        await cell.lease(job)
        with pytest.raises(JobProcessing):
            await cell.jobs.delete(cell.tenant, job.id)
    await cell.end_lease(job)
    await cell.jobs.delete(cell.tenant, job.id)
    assert await cell.naming(job) == []


async def test_a_worker_that_takes_a_job_before_it_goes_keeps_it(cell: Cell, monkeypatch: pytest.MonkeyPatch) -> None:
    """Nobody worked on it when the delete looked; when it acts the record is another, and it looks again."""
    job = await handed_back(cell)
    holding, remove = cell.holding.hold(cell.tenant, job.id), cell.store.remove

    async def forestalled(*args: Any) -> None:
        monkeypatch.setattr(cell.store, "remove", remove)
        await cell.lease(job)
        assert await holding.__aenter__() is not None
        await remove(*args)

    monkeypatch.setattr(cell.store, "remove", forestalled)
    with pytest.raises(JobProcessing):
        await cell.jobs.delete(cell.tenant, job.id)
    stored = await cell.stored(job)
    assert isinstance(stored, Processing)
    assert (stored.attempts, len(cell.recordings())) == (1, 1)
    await holding.__aexit__(None, None, None)


async def test_a_worker_that_takes_a_job_after_it_went_has_nothing(cell: Cell, monkeypatch: pytest.MonkeyPatch) -> None:
    """It went between the worker's look and its claim."""
    job = await handed_back(cell)
    write = cell.store.write

    async def forestalled(*args: Any, **options: Any) -> None:
        monkeypatch.setattr(cell.store, "write", write)
        await cell.jobs.delete(cell.tenant, job.id)
        await write(*args, **options)

    monkeypatch.setattr(cell.store, "write", forestalled)
    async with cell.holding.hold(cell.tenant, job.id) as held:
        assert held is None
    assert await cell.naming(job) == []
