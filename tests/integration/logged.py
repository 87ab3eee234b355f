"""What the tests of the request log need: jobs that were worked on, and all that the log has of anything."""

import contextlib
from collections.abc import AsyncIterator
from datetime import timedelta
from pathlib import Path

import msgspec

from retention import keyspace
from retention.errors import Superseded
from retention.job import Completed, JobId, Waiting
from tests.integration.cell import HOUR, RESULTS, SUBMISSION, Cell, spoken

MONTH = timedelta(days=30)
WILLING = msgspec.structs.replace(SUBMISSION, learning_opt_out=False)
UNWILLING = msgspec.structs.replace(SUBMISSION, learning_opt_out=True)


async def accepted(cell: Cell, *, customer: str | None = None, results_ttl: timedelta = HOUR) -> Waiting:
    """Return a new job of a client that has not opted out."""
    return await cell.submit(submission=WILLING, customer=customer, results_ttl=results_ttl)


async def worked_on(cell: Cell, job: Waiting) -> Completed:
    """Return the job, completed by a worker."""
    async with cell.holding.hold(job.tenant, job.id) as held:
        assert held is not None
        return await cell.holding.finish(held, RESULTS)


async def run_out(cell: Cell, job: Completed) -> None:
    """Have the job's time be over now; a time so short that it ends by itself may end before the log is written."""
    await cell.redis.delete(keyspace.job(job.tenant, job.id))
    await cell.redis.zadd(keyspace.DUE, {keyspace.entry(job.tenant, job.id, job.customer): 0})


@contextlib.asynccontextmanager
async def late_worker(cell: Cell, job: Waiting) -> AsyncIterator[None]:
    """Hold the job while something is done to it; to complete it is then too late."""
    async with cell.holding.hold(job.tenant, job.id) as held:
        assert held is not None
        yield
        try:
            await cell.holding.finish(held, RESULTS)
        except Superseded:
            return
        raise AssertionError("it was not too late")


async def logged(cell: Cell) -> list[JobId]:
    """Return the jobs in the log, which are whole: what they say can be read."""
    for entry in (found := await cell.log.all()):
        opened = await cell.log.open(entry.tenant, entry.job)
        assert b"".join([piece async for piece in opened.audio])
        assert opened.results == RESULTS
    return [entry.job for entry in found]


async def everything_logged(cell: Cell) -> list[str]:
    """Return every key of the log, whatever it holds, and every file."""
    keys = [key.decode() async for key in cell.redis.scan_iter("volant:log*", count=1000)]
    return sorted([*keys, *map(str, files(cell))])


def files(cell: Cell) -> list[Path]:
    """Return the recordings in the log."""
    return [path for path in cell.recordings() if ".log" in path.parts]


async def orphan(cell: Cell) -> JobId:
    """Keep audio that has no entry, as a worker does that dies midway."""
    job = JobId("6a1d6e52-0b8f-4c4f-9f0a-3f6f0d0a7c11")
    await cell.audio.write(cell.tenant, job, spoken(b"sealed"))
    await cell.log._audio.keep(cell.tenant, job)
    await cell.audio.remove(cell.tenant, job)
    return job
