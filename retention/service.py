"""What the front may do with jobs: submit, look up, list, delete; and what an operator may: erase a tenant.

A job is accepted when its audio and then its record are on stable storage; being queued comes after
and is repaired by the caretaker. A delete is decided first, by the script that removes the record
with its key; then the bytes go; then the reply.
"""

import asyncio
import contextlib
import random
from collections.abc import AsyncIterable
from datetime import datetime, timedelta

import msgspec
import structlog

from retention.audio import AudioDirectory
from retention.errors import JobProcessing, KeyUnavailable, NotFound, Superseded, TenantGone, Unavailable, Unsealable
from retention.job import (
    Completed,
    Job,
    JobId,
    Processing,
    Submission,
    TenantId,
    Waiting,
    accept,
    new_job_id,
)
from retention.keyring import Keyring
from retention.log import failure
from retention.queue import JobQueue
from retention.readiness import Readiness
from retention.seal import Context, Key, Kind, seal, seal_stream, unseal
from retention.store import Entry, JobStore
from retention.tenants import Tenants

ACCEPT_WITHIN = 15.0
"""Seconds for writing the record of audio that is stored. Shorter than what makes audio an orphan."""

CLOSE_WITHIN = 10.0
"""Seconds that a stop waits for records that are being taken back."""

_REMOVALS = 2

_log = structlog.get_logger()


class JobService:
    """The jobs of one cell, as the front sees them. Raises Unavailable when the store cannot be reached."""

    def __init__(
        self,
        *,
        store: JobStore,
        audio: AudioDirectory,
        keyring: Keyring,
        queue: JobQueue,
        tenants: Tenants,
        readiness: Readiness,
        patience: timedelta,
    ) -> None:
        self._store = store
        self._audio = audio
        self._keyring = keyring
        self._queue = queue
        self._tenants = tenants
        self._readiness = readiness
        self._patience = patience
        self._withdrawals: set[asyncio.Task[None]] = set()

    async def now(self) -> datetime:
        """Return the time by the store's clock."""
        return await self._store.now()

    async def submit(
        self,
        tenant: TenantId,
        submission: Submission,
        audio: AsyncIterable[bytes],
        *,
        results_ttl: timedelta,
        customer: str | None = None,
    ) -> Waiting:
        """Accept a job. When this returns, audio and parameters are on stable storage (promise P1).

        Whatever `audio` raises is passed on, and then nothing is left. Raises Unavailable when the job
        could not be kept, TenantGone when its tenant was deleted meanwhile.
        """
        await self._store.now()  # a store that cannot be reached refuses before the body, not after it
        id_ = new_job_id()
        key = Key.random()
        await self._audio.write(tenant, id_, seal_stream(key, Context(kind=Kind.AUDIO, tenant=tenant, job=id_), audio))
        # Shielded: a client that hangs up now must find the job whole or not at all.
        return await asyncio.shield(
            self._record(tenant, id_, key, submission, results_ttl=results_ttl, customer=customer)
        )

    async def look_up(self, tenant: TenantId, job: JobId) -> tuple[Job, bytes | None]:
        """Return the job's record and, of a completed one, the results object as JSON. Raises NotFound."""
        stored = await self._store.read(tenant, job)
        if stored is None:
            raise NotFound(job)
        if not isinstance(stored.job, Completed):
            return stored.job, None
        try:
            key = self._keyring.unwrap(stored.key, tenant, job)
            return stored.job, unseal(key, stored.result, Context(kind=Kind.RESULT, tenant=tenant, job=job))
        except (KeyUnavailable, Unsealable) as error:
            _log.error("result does not open", tenant=tenant, job=job, **failure(error))
            raise NotFound(job) from error

    async def latest(self, tenant: TenantId) -> list[Job]:
        """Return the tenant's newest jobs, at most 100, newest first (spec 1.4)."""
        return await self._store.latest(tenant)

    async def delete(self, tenant: TenantId, job: JobId) -> None:
        """Remove a job for good. Raises NotFound; JobProcessing when a worker holds it."""
        tried = False
        while stored := await self._store.read(tenant, job):
            if isinstance(stored.job, Processing):
                raise JobProcessing(job)
            tried = True
            # Superseded: claimed, finished or deleted since it was read, or removed by a try whose reply was lost.
            with contextlib.suppress(Superseded):
                await self._store.remove(stored.job)
        if not tried:
            raise NotFound(job)
        await self._clear(tenant, job)

    async def delete_tenant(self, tenant: TenantId) -> int:
        """Take away a tenant, its keys and everything it has, in any state. Returns how many jobs went.

        Nothing is accepted for the tenant from the first step on, so what an upload that began before
        leaves is taken back by the upload itself. May be repeated until it succeeds. Raises NotFound when
        there was neither such a tenant nor anything of it.
        """
        known = await self._tenants.dismiss(tenant)
        erased = 0
        while entries := await self._store.all_of(tenant):
            # The queue first: while the list names a job, a repetition finds it, whatever broke off.
            await self._queue.discard(*(entry.job for entry in entries))
            await self._store.erase(*entries)
            erased += len(entries)
        await self._audio.remove_tenant(tenant)
        if not known and not erased:
            raise NotFound(tenant)
        return erased

    async def check(self) -> None:
        """Return when the store is reachable and fit to keep promises. Raises Unavailable."""
        await self._readiness.check()
        await self._audio.check()

    async def close(self) -> None:
        """Wait a little for what is being taken back."""
        if self._withdrawals:
            _, late = await asyncio.wait(self._withdrawals, timeout=CLOSE_WITHIN)
            for task in late:
                task.cancel()

    async def _record(
        self,
        tenant: TenantId,
        id_: JobId,
        key: Key,
        submission: Submission,
        *,
        results_ttl: timedelta,
        customer: str | None,
    ) -> Waiting:
        context = Context(kind=Kind.SUBMISSION, tenant=tenant, job=id_)
        tag = self._keyring.tag(tenant, customer) if customer is not None else None
        try:
            async with asyncio.timeout(ACCEPT_WITHIN):
                now = await self._store.now()
                job = accept(id_, tenant, now=now, results_ttl=results_ttl, patience=self._patience, customer=tag)
                await self._store.write(
                    job,
                    now=now,
                    sealed={
                        "key": self._keyring.wrap(key, tenant, id_),
                        "submission": seal(key, msgspec.json.encode(submission), context),
                    },
                )
            if not await self._audio.holds(tenant, id_):
                # This process was away for so long between the two that the sweep took the audio for an orphan.
                raise Unavailable("the audio was swept before it had a record")
        except TenantGone:
            await self._audio.remove(tenant, id_)
            raise
        except (Unavailable, TimeoutError) as error:
            task = asyncio.create_task(self._withdraw(Entry(tenant=tenant, job=id_, customer=tag)))
            self._withdrawals.add(task)
            task.add_done_callback(self._withdrawals.discard)
            raise Unavailable("the record could not be written") from error
        try:
            await self._queue.put(tenant, id_)
        except Unavailable as error:
            _log.warning("accepted but not queued", tenant=tenant, job=id_, **failure(error))
        return job

    async def _withdraw(self, entry: Entry) -> None:
        """Take back a job whose client is told that there is none: the record may have been written.

        The audio goes after the record: without it a job that was written would fail rather than be gone.
        Twice: a Redis that was frozen may read the write after the first removal, from a connection long closed.
        """
        done = 0
        while done < _REMOVALS:
            try:
                await self._store.erase(entry)
                await self._clear(entry.tenant, entry.job)
                done += 1
            except Unavailable:
                done = 0
            except asyncio.CancelledError:
                _log.error("could not be taken back", tenant=entry.tenant, job=entry.job)
                raise
            await asyncio.sleep(random.uniform(0.2, 1.0))

    async def _clear(self, tenant: TenantId, job: JobId) -> None:
        try:
            await self._queue.discard(job)
        except Unavailable as error:
            _log.warning("left to the next claim", tenant=tenant, job=job, **failure(error))
        await self._audio.remove(tenant, job)
