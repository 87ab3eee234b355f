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
from retention.entries import Entry
from retention.errors import (
    CustomerErased,
    JobProcessing,
    KeyUnavailable,
    NotFound,
    Superseded,
    TenantGone,
    Unavailable,
    Unsealable,
)
from retention.job import (
    Callback,
    Completed,
    CustomerTag,
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
from retention.registrations import Registrations
from retention.request_log import RequestLog
from retention.seal import Context, Key, Kind, seal, seal_stream
from retention.store import Field, JobStore, Stored
from retention.tenants import Tenants

ACCEPT_WITHIN = 15.0
"""Seconds for writing the record of audio that is stored. Shorter than what makes audio an orphan."""

CLOSE_WITHIN = 10.0
"""Seconds that a stop waits for records that are being taken back."""

_REMOVALS = 2
_FENCE_SLACK = timedelta(minutes=5)

_log = structlog.get_logger()


class JobService:
    """The jobs of one cell, as the front sees them. Raises Unavailable when the store cannot be reached."""

    def __init__(
        self,
        *,
        store: JobStore,
        audio: AudioDirectory,
        log: RequestLog,
        keyring: Keyring,
        queue: JobQueue,
        tenants: Tenants,
        registrations: Registrations,
        readiness: Readiness,
        patience: timedelta,
        upload_within: timedelta,
    ) -> None:
        self._store = store
        self._audio = audio
        self._log = log
        self._keyring = keyring
        self._queue = queue
        self._tenants = tenants
        self._registrations = registrations
        self._readiness = readiness
        self._patience = patience
        self._upload_within = upload_within
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
        began: datetime,
        results_ttl: timedelta,
        customer: str | None = None,
        callback: Callback | None = None,
        user_token: str = "",
    ) -> Waiting:
        """Accept a job. When this returns, audio and parameters are on stable storage (promise P1).

        `began` is the time by `now` before anything of the upload was read. Whatever `audio` raises is passed on,
        and then nothing is left. Raises Unavailable when the job could not be kept, TenantGone when its tenant was
        deleted meanwhile, CustomerErased when its customer was erased since it began.
        """
        id_ = new_job_id()
        key = Key.random()
        await self._audio.write(tenant, id_, seal_stream(key, Context(kind=Kind.AUDIO, tenant=tenant, job=id_), audio))
        # Shielded: a client that hangs up now must find the job whole or not at all.
        return await asyncio.shield(
            self._record(
                tenant,
                id_,
                key,
                submission,
                began=began,
                results_ttl=results_ttl,
                customer=self._keyring.tag(tenant, customer) if customer is not None else None,
                callback=callback,
                user_token=user_token,
            )
        )

    async def look_up(self, tenant: TenantId, job: JobId) -> tuple[Job, bytes | None]:
        """Return the job's record and, of a completed one, the results object as JSON. Raises NotFound."""
        stored = await self._store.read(tenant, job)
        if stored is None:
            raise NotFound(job)
        if not isinstance(stored.job, Completed):
            return stored.job, None
        try:
            return stored.job, self._keyring.unseal(stored.result, stored.key, Kind.RESULT, tenant, job)
        except (KeyUnavailable, Unsealable) as error:
            _log.error("result does not open", tenant=tenant, job=job, **failure(error))
            raise NotFound(job) from error

    async def latest(self, tenant: TenantId) -> list[tuple[Job, str]]:
        """Return the tenant's newest jobs, at most 100, newest first, each with its user token or "" (spec 1.4)."""
        return [(stored.job, self._user_token(stored)) for stored in await self._store.latest(tenant)]

    async def delete(self, tenant: TenantId, job: JobId) -> None:
        """Remove a job for good, also from the request log. Raises NotFound; JobProcessing when a worker holds it.

        What the request log has of a job that has expired goes, too, though there is no such job any more.
        """
        tried = False
        while stored := await self._store.read(tenant, job):
            if isinstance(stored.job, Processing):
                raise JobProcessing(job)
            tried = True
            # Superseded: claimed, finished or deleted since it was read, or removed by a try whose reply was lost.
            with contextlib.suppress(Superseded):
                await self._store.remove(stored.job)
        if not tried:
            await self._log.erase(tenant, job)
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
        await self._registrations.remove_all(tenant)
        await self._audio.remove_tenant(tenant)
        await self._log.erase_tenant(tenant)
        if known is None and not erased:
            raise NotFound(tenant)
        return erased

    async def erase_customer(
        self, tenant: TenantId, customer: str, *, labels: frozenset[CustomerTag] = frozenset()
    ) -> int:
        """Erase all that bears a customer's label, in any state; return how many jobs went (spec 6.2, promise P3).

        `labels` are the tags that other cells have for the customer: a callback URL that came from there bears them.
        From the first step on no upload that has begun is accepted any more, and what comes later is another
        matter: it stays. May be repeated until it succeeds: the customer's list names a job until all of it is gone.
        """
        tag = self._keyring.tag(tenant, customer)
        moment = await self._store.fence(tenant, tag, during=self._upload_within + _FENCE_SLACK)
        await self._registrations.remove_customer(tenant, labels | {tag})
        erased = 0
        while entries := await self._store.all_of_customer(tenant, tag, until=moment):
            ids = [entry.job for entry in entries]
            erased += await self._store.erase(*entries, but_listed=True)
            await self._queue.discard(*ids)
            await self._remove_audio(tenant, *ids)
            await self._store.strike(tenant, tag, entries)
        await self._log.erase_customer(tenant, tag, until=moment)
        _log.info("customer erased", tenant=tenant, jobs=erased)
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

    def _user_token(self, stored: Stored) -> str:
        if not stored.user_token:
            return ""
        job = stored.job
        try:
            return self._keyring.unseal(stored.user_token, stored.key, Kind.USER_TOKEN, job.tenant, job.id).decode()
        except (KeyUnavailable, Unsealable) as error:
            _log.error("user token does not open", tenant=job.tenant, job=job.id, **failure(error))
            return ""

    async def _record(
        self,
        tenant: TenantId,
        id_: JobId,
        key: Key,
        submission: Submission,
        *,
        began: datetime,
        results_ttl: timedelta,
        customer: CustomerTag | None,
        callback: Callback | None,
        user_token: str,
    ) -> Waiting:
        sealed: dict[Field, bytes] = {
            "key": self._keyring.wrap(key, tenant, id_),
            "submission": seal(
                key, msgspec.json.encode(submission), Context(kind=Kind.SUBMISSION, tenant=tenant, job=id_)
            ),
        }
        if callback and user_token:
            context = Context(kind=Kind.USER_TOKEN, tenant=tenant, job=id_)
            sealed["user_token"] = seal(key, user_token.encode(), context)
        try:
            async with asyncio.timeout(ACCEPT_WITHIN):
                now = await self._store.now()
                if customer and now - began > self._upload_within + _FENCE_SLACK / 2:
                    raise Unavailable("this process was away: a fence may have come and gone")
                job = accept(
                    id_,
                    tenant,
                    now=now,
                    results_ttl=results_ttl,
                    patience=self._patience,
                    customer=customer,
                    callback=callback,
                )
                await self._store.write(job, now=now, sealed=sealed, began=began)
            if not await self._audio.holds(tenant, id_):
                # This process was away for so long between the two that the sweep took the audio for an orphan.
                raise Unavailable("the audio was swept before it had a record")
        except (TenantGone, CustomerErased):
            await self._audio.remove(tenant, id_)
            raise
        except (Unavailable, TimeoutError) as error:
            task = asyncio.create_task(self._withdraw(Entry(tenant=tenant, job=id_, customer=customer)))
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
        await self._remove_audio(tenant, job)

    async def _remove_audio(self, tenant: TenantId, *jobs: JobId) -> None:
        await self._audio.remove(tenant, *jobs)
        # In this order: a worker on its way to keep it in the log finds nothing to keep once this is done.
        await self._log.remove_audio(tenant, *jobs)
