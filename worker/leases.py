"""arq's Worker, made safe: leased jobs, a wake-up instead of polling, outages waited out.

Stock arq keeps its in-progress key for the whole time limit of a job, without an owner, exits when
Redis goes away, and starves when many jobs run elsewhere. Here a job is leased for seconds and the
lease is renewed while the worker lives; a lease that lapses is taken before the backlog. arq's own
`run_job` still runs the job; only what touches Redis around it is replaced.
"""

import asyncio
import contextlib
import functools
import random
import time
from collections.abc import Awaitable, Callable
from datetime import timedelta
from typing import Any

import structlog
from arq.worker import Function, Retry, Worker, func

from retention.delivery import dumps, loads
from retention.ending import end
from retention.errors import Unavailable
from retention.holding import HAND_BACK_WITHIN
from retention.job import JobId, Processing
from retention.leases import Leases
from retention.log import failure
from retention.readiness import Readiness

__all__ = ["LeasedWorker", "Retry", "func"]

LOOK_EVERY = 5.0
"""Seconds after which a worker asks again, at the latest, whether it may go on with what it holds.

However long its leases are: a key that was disabled must stop the work soon, and a deletion what is on the wire.
"""

_FOREVER = timedelta(days=365)

_log = structlog.get_logger()


class LeasedWorker(Worker):
    """Runs jobs while it holds their leases, and gives back at a stop what it could not end."""

    def __init__(
        self,
        functions: list[Function],
        *,
        leases: Leases,
        readiness: Readiness,
        redis: Any,
        jobs_at_once: int,
        lease: timedelta,
        drain: timedelta,
        denied: Callable[[list[Processing]], Awaitable[set[JobId]]] | None = None,
    ) -> None:
        super().__init__(
            functions,
            queue_name=leases.queue.name,
            redis_pool=redis,
            handle_signals=False,
            max_jobs=jobs_at_once,
            job_timeout=_FOREVER,  # a job's limits are its stall and its length, not its time
            max_tries=2**31,  # attempts are counted in the record
            keep_result=0,
            log_results=False,
            job_serializer=dumps,
            job_deserializer=loads,
        )
        self._leases = leases
        self._readiness = readiness
        self._lease = lease.total_seconds()
        self._drain = drain.total_seconds()
        self._denied = denied
        self._held: dict[JobId, Processing | None] = {}
        self._patient_until = 0.0
        self._freed = asyncio.Event()
        self._stopping = asyncio.Event()

    def hold(self, job: Processing) -> None:
        """Learn the record of a leased job: with it, the lease can be retaken after an outage."""
        self._held[job.id] = job

    def stop(self) -> None:
        """Begin an orderly stop: claim no more, finish what can be finished, hand back the rest."""
        self._stopping.set()

    async def main(self) -> None:
        """Claim and run jobs until stopped. Raises what renewing leases met, but for an outage."""
        renewing = asyncio.create_task(self._keep_leases())
        await self._notice_restart()
        try:
            while not self._stopping.is_set():
                try:
                    await self._claim()
                except Unavailable as error:
                    await self._sit_out(error)
            await self._wind_up()
        finally:
            await end(renewing)
        if not renewing.cancelled():
            await renewing  # it ends by itself only with an error

    async def finish_job(self, job_id: str, finish: bool, *_: Any) -> None:  # noqa: FBT001  arq's signature
        """End the lease; arq's own way would not ask whose it is."""
        await self._settle(JobId(job_id), done=finish)

    async def finish_failed_job(self, job_id: str, result_data: bytes | None) -> None:
        """Drop a delivery that arq could not run; the caretaker puts it back if the job is unfinished."""
        del result_data
        await self._settle(JobId(job_id), done=True)

    async def _claim(self) -> None:
        self._freed.clear()
        free = self.max_jobs - len(self.tasks)
        if not free:
            await self._first(self._freed.wait())
            return
        claimed = await self._leases.claim(free, lapsed=time.monotonic() >= self._patient_until)
        for id_ in claimed:
            if id_ in self._held:
                continue  # our own lease had lapsed unnoticed, and is ours again: the work goes on
            self._held[id_] = None
            task = self.loop.create_task(self._run(id_))
            self.tasks[id_] = task
            task.add_done_callback(functools.partial(self._let_go, id_))
        if not claimed:
            await self._first(self._leases.wait(await self._idle_for()))

    async def _idle_for(self) -> float:
        """Return for how many seconds to wait for a wake-up, and then look again."""
        return 1.0

    async def _run(self, id_: JobId) -> None:
        try:
            await self.run_job(id_, 0)
        except asyncio.CancelledError:
            raise
        except Exception as error:  # noqa: BLE001  whatever it is, the lease lapses and the job comes back
            _log.warning("delivery broke off", job=id_, **failure(error))

    def _let_go(self, id_: JobId, task: asyncio.Task[None]) -> None:
        if self.tasks.get(id_) is task:  # else the job came again before this one had ended
            del self.tasks[id_]
            self._held.pop(id_, None)
        self._freed.set()

    async def _keep_leases(self) -> None:
        while True:
            await asyncio.sleep(min(self._lease / 3, LOOK_EVERY))
            if not self._held:
                continue
            try:
                held = dict(self._held)
                self._stop_work(await self._leases.renew(held), "lease lost")
                if self._denied:
                    self._stop_work(await self._denied([job for job in held.values() if job]), "key disabled")
            except Unavailable as error:
                _log.warning("leases not renewed", **failure(error))
                self._be_patient()
            except Exception as error:
                # Without renewals every job would be worked on twice: hand back, and leave the rest to the supervisor.
                _log.error("leases cannot be renewed", **failure(error))
                self.stop()
                raise

    def _stop_work(self, ids: set[JobId], why: str) -> None:
        for id_ in ids & self._held.keys():
            _log.info(why, job=id_)
            self._cancel(id_)

    def _cancel(self, id_: JobId) -> None:
        if work := self.job_tasks.get(id_):  # arq waits for its end, but does not ask how it ended
            work.add_done_callback(_asked)
        self.tasks[id_].cancel()

    def _let_come(self, id_: JobId) -> None:
        """Learn that the work is over: from here on a claim that brings the job is a new delivery."""
        self._held.pop(id_, None)

    async def _settle(self, id_: JobId, *, done: bool) -> None:
        self._let_come(id_)  # before the lease ends, though our reply be late
        try:
            await self._leases.settle(id_, done=done)
        except Unavailable as error:
            # The lease lapses by itself, and the record tells the next holder that there is nothing to do.
            _log.warning("lease left to lapse", job=id_, **failure(error))

    async def _wind_up(self) -> None:
        running = list(self.tasks.values())
        if running:
            _, late = await asyncio.wait(running, timeout=self._drain)
            if late:
                for id_ in map(JobId, list(self.tasks)):
                    self._cancel(id_)
                await asyncio.wait(late, timeout=2 * HAND_BACK_WITHIN)
            for task in late:
                await end(task)

    async def _sit_out(self, error: Unavailable) -> None:
        _log.warning("waiting for Redis", **failure(error))
        self._be_patient()
        await self._first(asyncio.sleep(random.uniform(0.2, 1.0)))

    def _be_patient(self) -> None:
        """Leave lapsed leases alone for a while: after an outage their owners come back for them."""
        self._patient_until = time.monotonic() + self._lease

    async def _notice_restart(self) -> None:
        with contextlib.suppress(Unavailable):
            if await self._readiness.uptime() < 2 * self._lease:
                self._be_patient()

    async def _first(self, happening: Any) -> None:
        """Wait for something to happen, or for the stop."""
        tasks = {asyncio.ensure_future(happening), asyncio.ensure_future(self._stopping.wait())}
        try:
            done, _ = await asyncio.wait(tasks, return_when=asyncio.FIRST_COMPLETED)
            for task in done:
                task.result()
        finally:
            for task in tasks:
                task.cancel()
            await asyncio.gather(*tasks, return_exceptions=True)


def _asked(work: asyncio.Task[Any]) -> None:
    """Ask a cancelled piece of work how it ended, or asyncio would log its error, as one that nobody asked for."""
    if not work.cancelled() and (error := work.exception()) and not isinstance(error, Retry):
        _log.warning("delivery broke off", **failure(error))
