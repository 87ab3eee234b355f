"""What nobody else would do: rescue unfinished jobs, fail those past their deadline, sweep what is over.

Works from `due` and from the audio store alone, under a short lock, so that one caretaker of a cell
is at work at a time. Every step is an ordinary conditional write or a removal that may be repeated.
"""

import time
from datetime import datetime, timedelta

import structlog
from msgspec import Struct

from retention.audio import AudioStore
from retention.audit import Audit
from retention.entries import Entry, entry_of
from retention.erasures import ErasureHorizon
from retention.errors import Superseded
from retention.job import Completed, Failed, Job, Processing, TenantId, Unfinished, Waiting, fail
from retention.keyring import Keyring
from retention.keyspace import RECOGNITION
from retention.queue import JobQueue
from retention.request_log import RequestLog
from retention.store import Damaged, JobStore, dropped_by_failure

_BATCH = 200

_log = structlog.get_logger()


class Round(Struct, kw_only=True):
    """What one round of the caretaker did."""

    rescued: int = 0
    expired: int = 0
    orphans: int = 0
    hurried: bool = False
    """Whether its time was up before all was cleared up that is over: then the next round is not to wait."""


class Caretaker:
    """Looks after one cell. Raises Unavailable when the store cannot be reached."""

    def __init__(
        self,
        *,
        store: JobStore,
        audio: AudioStore,
        log: RequestLog,
        audit: Audit,
        keyring: Keyring,
        queue: JobQueue,
        erasures: ErasureHorizon,
        orphan_after: timedelta,
    ) -> None:
        self._store = store
        self._audio = audio
        self._log = log
        self._keyring = keyring
        self._audit = audit
        self._queue = queue
        self._erasures = erasures
        self._orphan_after = orphan_after

    async def round(self, token: str, *, during: timedelta) -> Round | None:
        """Do what is due now; None when another caretaker is at work.

        `during` is how long the lock is held. Entries are attended to for half of it, what is over before what may
        have been lost, the most overdue first, and the next round goes on from there: however many jobs wait, audio is
        swept in every round.
        """
        if not await self._store.alone(token, during):
            return None
        enough = time.monotonic() + during.total_seconds() / 2
        done = Round()
        while any(due := await self._store.due(_BATCH)):
            await self._attend(due.over + due.looks, done)
            if time.monotonic() >= enough:
                done.hurried = len(due.over) == _BATCH
                break
        done.orphans = await self._sweep_audio()
        await self._erasures.tend()
        done.orphans += await self._log.sweep(self._orphan_after)
        await self._audit.trim()
        return done

    async def _attend(self, entries: list[Entry], done: Round) -> None:
        now, found = await self._store.look_at(entries)
        looked: list[tuple[Entry, Job | Damaged]] = []
        unfinished: list[Unfinished] = []
        over: list[Entry] = []
        for entry, job in zip(entries, found, strict=True):
            match job:
                case None:
                    over.append(entry)
                    continue
                case Damaged():
                    _log.error("record cannot be read", tenant=entry.tenant, job=entry.job, error=job.error)
                case Waiting() | Processing() if job.deadline <= now:
                    await self._fail(job, now)
                    continue
                case Waiting() | Processing():
                    unfinished.append(job)
                case Completed() | Failed():
                    pass  # it ended since it was found due
            looked.append((entry, job))
        lacking = await self._queue.lacking([job.id for job in unfinished])
        await self._rescue([job for job in unfinished if job.id in lacking], done)
        await self._store.look_again(looked, now=now)
        done.expired += await self._clear(over)

    async def _rescue(self, missed: list[Unfinished], done: Round) -> None:
        """Queue what may be worked on. Very much of one tenant's may be parked: each key is looked at once."""
        may: dict[tuple[TenantId, bytes], bool] = {}
        for job, wrapped in zip(missed, await self._store.wrapped(list(map(entry_of, missed))), strict=True):
            under = job.tenant, wrapped.partition(b":")[0]
            if under not in may:
                may[under] = await self._keyring.may_unwrap(job.tenant, wrapped, job.id)
            if may[under]:
                done.rescued += await self._queue.put(job.tenant, job.id)

    async def _clear(self, over: list[Entry]) -> int:
        if over:
            await self._store.clear(*over)
            await self._queue.discard(*(entry.job for entry in over))
        for entry in over:
            await self._audio.remove(entry.tenant, entry.job)
        return len(over)

    async def _fail(self, job: Unfinished, now: datetime) -> None:
        try:
            await self._store.write(fail(job, "deadline", now=now), now=now, sealed=dropped_by_failure(job))
        except Superseded:
            return  # it moved by itself; the next round sees where to
        await self._queue.discard(job.id, queues=(RECOGNITION,))
        await self._audio.remove(job.tenant, job.id)
        _log.warning("job failed", tenant=job.tenant, job=job.id, reason="deadline")

    async def _sweep_audio(self) -> int:
        """Remove audio that no unfinished job needs: of finished jobs, and of records never written.

        Of a backlog of more than 10,000 recordings a part is looked at, another one in each round.
        """
        aged = await self._audio.older_than(self._orphan_after)
        orphans = await self._store.without_unfinished_job(aged)
        for tenant, job in orphans:
            await self._audio.remove(tenant, job)
        return len(orphans)
