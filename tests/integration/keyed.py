"""What the tests of tenant keys need: one of everything that has a data key, and whether all of it opens."""

from typing import NamedTuple

import pytest

from retention import keyspace
from retention.errors import KeyDisabled, NotFound
from retention.job import Callback, Completed, JobId, TenantId
from retention.keyring import name_of
from tests.integration.cell import AUDIO, RESULTS, Cell
from tests.integration.logged import WILLING, worked_on

URL = "https://receiver.example/results?key=secret"


class Everything(NamedTuple):
    """A tenant's jobs, one of each status; the completed one is in the request log, too."""

    waiting: JobId
    processing: JobId
    completed: JobId
    failed: JobId


async def one_of_everything(cell: Cell) -> Everything:
    """Give the cell's tenant a registered URL and a job of each status, all of which have something to tell."""
    registered = await cell.registrations.keep(cell.tenant, URL, "s3cret", customer="c", began=await cell.jobs.now())
    callback = Callback(registration=registered.id, events=("recognitions.failed", "recognitions.completed"))

    async def submit() -> JobId:
        job = await cell.submit(submission=WILLING, callback=callback, user_token="job25", customer="c")
        return job.id

    everything = Everything(*[await submit() for _ in Everything._fields])
    completed = await cell.store.read(cell.tenant, everything.completed)
    assert completed is not None
    await worked_on(cell, completed.job)  # type: ignore[arg-type] # it waits
    async with cell.holding.hold(cell.tenant, everything.failed) as held:
        assert held is not None
        await cell.holding.fail(held, "undecodable")
    async with cell.holding.hold(cell.tenant, everything.processing):
        pass
    return everything


async def all_opens(cell: Cell, everything: Everything) -> None:
    """Fail unless all of it can be read, and worked on, as before."""
    job, results = await cell.jobs.look_up(cell.tenant, everything.completed)
    assert (type(job), results) == (Completed, RESULTS)
    listed = await cell.jobs.latest(cell.tenant)
    assert {job.id: token for job, token in listed} == dict.fromkeys(everything, "job25")
    (registration,) = await cell.registrations.all(cell.tenant)
    assert (registration.url, registration.secret) == (URL, "s3cret")
    logged = await cell.log.open(cell.tenant, everything.completed)
    assert (logged.results, b"".join([piece async for piece in logged.audio])) == (RESULTS, AUDIO)
    for unfinished in (everything.waiting, everything.processing):
        async with cell.holding.hold(cell.tenant, unfinished) as held:
            assert held is not None
            assert (held.submission, b"".join([piece async for piece in cell.holding.audio(held)])) == (WILLING, AUDIO)


async def all_is_denied(cell: Cell, everything: Everything) -> None:
    """Fail if anything of it can be read, or worked on; nobody says that it is gone."""
    for job in everything:
        with pytest.raises(KeyDisabled):
            await cell.jobs.look_up(cell.tenant, job)
    with pytest.raises(KeyDisabled):
        await cell.jobs.latest(cell.tenant)
    with pytest.raises(KeyDisabled):
        await cell.registrations.find(cell.tenant, URL)
    with pytest.raises(KeyDisabled):
        await cell.log.open(cell.tenant, everything.completed)
    with pytest.raises(KeyDisabled):
        await cell.submit()
    async with cell.holding.hold(cell.tenant, everything.waiting) as held:
        assert held is None
    parked = await cell.store.read(cell.tenant, everything.waiting)
    assert parked is not None
    assert getattr(parked.job, "attempts", 0) <= 1


async def all_is_gone(cell: Cell, everything: Everything) -> None:
    """Fail if anything is left of it, or says that it is there."""
    for job in everything:
        with pytest.raises(NotFound):
            await cell.jobs.look_up(cell.tenant, job)
    assert await cell.jobs.latest(cell.tenant) == []
    assert await cell.registrations.all(cell.tenant) == []
    assert cell.recordings() == []
    left = [key.decode() async for key in cell.redis.scan_iter(f"*{cell.tenant}*", count=1000)]
    assert [key for key in left if not key.startswith(("volant:challenges:", "volant:customer:"))] == []
    for job in everything:
        assert [key async for key in cell.redis.scan_iter(f"*{job}*", count=1000)] == []
        assert await cell.redis.zscore(keyspace.RECOGNITION.name, job) is None


async def names(cell: Cell, tenant: TenantId | None = None) -> set[tuple[str, int]]:
    """Return the keys and versions under which a tenant's data keys are."""
    found: set[tuple[str, int]] = set()
    async for page in cell.custody._wrapped.of(tenant or cell.tenant):
        found |= {name_of(each.key, each.subject) for each in page}
    return found
