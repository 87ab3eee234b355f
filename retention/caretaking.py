"""What nobody else would do: rescue unfinished jobs, fail those past their deadline, sweep what is over.

Works from `due` and from the audio store alone, under a short lock, so that one caretaker of a cell
is at work at a time. Every step is an ordinary conditional write or a removal that may be repeated.
"""

from datetime import timedelta

import msgspec
import structlog
from msgspec import Struct

from retention.audio import AudioDirectory
from retention.errors import Superseded
from retention.job import Completed, Failed, Processing, Waiting, fail
from retention.log import failure
from retention.queue import JobQueue
from retention.store import Entry, JobStore

_BATCH = 200

_log = structlog.get_logger()


class Round(Struct, kw_only=True):
    """What one round of the caretaker did."""

    rescued: int = 0
    expired: int = 0
    orphans: int = 0


class Caretaker:
    """Looks after one cell. Raises Unavailable when the store cannot be reached."""

    def __init__(self, *, store: JobStore, audio: AudioDirectory, queue: JobQueue, orphan_after: timedelta) -> None:
        self._store = store
        self._audio = audio
        self._queue = queue
        self._orphan_after = orphan_after

    async def round(self, token: str, *, during: timedelta) -> Round | None:
        """Do what is due now; None when another caretaker is at work. `during` is how long the lock is held."""
        if not await self._store.alone(token, during):
            return None
        done = Round()
        attended: set[Entry] = set()
        while entries := [entry for entry in await self._store.due(_BATCH) if entry not in attended]:
            for entry in entries:
                attended.add(entry)
                try:
                    await self._attend(entry, done)
                except (msgspec.MsgspecError, ValueError) as error:  # a damaged record must not end all rounds
                    _log.error("record cannot be read", tenant=entry.tenant, job=entry.job, **failure(error))
        done.orphans = await self._sweep_audio()
        return done

    async def _attend(self, entry: Entry, done: Round) -> None:
        stored = await self._store.read(entry.tenant, entry.job)
        if stored is None:
            await self._store.erase(entry)
            await self._queue.discard(entry.job)
            await self._audio.remove(entry.tenant, entry.job)
            done.expired += 1
            return
        match stored.job:
            case (Waiting() | Processing()) as job if job.deadline <= stored.now:
                try:
                    await self._store.write(
                        fail(job, "deadline", now=stored.now), now=stored.now, sealed={"submission": b"", "key": b""}
                    )
                except Superseded:
                    return  # it moved by itself; the next round sees where to
                await self._queue.discard(job.id)
                await self._audio.remove(job.tenant, job.id)
                _log.warning("job failed", tenant=job.tenant, job=job.id, reason="deadline")
            case Waiting() | Processing() as job:
                done.rescued += await self._queue.put(job.tenant, job.id)
                await self._store.look_again(job, now=stored.now)
            case Completed() | Failed() as job:
                await self._store.look_again(job, now=stored.now)

    async def _sweep_audio(self) -> int:
        """Remove audio that no unfinished job needs: of finished jobs, and of records never written."""
        aged = await self._audio.older_than(self._orphan_after)
        orphans = await self._store.without_unfinished_job(aged)
        for tenant, job in orphans:
            await self._audio.remove(tenant, job)
        return len(orphans)
