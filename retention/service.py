"""What the front may do with jobs: submit, look up, list, delete; and what an operator may: erase a tenant.

A job is accepted when its audio and then its record are on stable storage; being queued comes after
and is repaired by the caretaker. A delete is decided first, by the script that removes the record
with its key; then the bytes go; then the reply.
"""

import asyncio
import contextlib
import random
from collections.abc import AsyncIterable, AsyncIterator
from datetime import datetime, timedelta
from typing import Any

import msgspec
import structlog

from retention.audio import AudioStore
from retention.audit import Audit, Doing
from retention.entries import Entry
from retention.errors import (
    CustomerErased,
    JobProcessing,
    KeyDisabled,
    KeyUnavailable,
    LimitReached,
    NotFound,
    Superseded,
    TenantGone,
    Unavailable,
    Unsealable,
    WrapRefused,
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
from retention.quotas import Quotas
from retention.readiness import Readiness
from retention.registrations import Registrations
from retention.request_log import RequestLog
from retention.seal import Context, Key, Kind, seal, seal_stream
from retention.store import Field, JobStore, Stored
from retention.tenant import Credential, is_tenant_id
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
        audio: AudioStore,
        log: RequestLog,
        audit: Audit,
        keyring: Keyring,
        queue: JobQueue,
        tenants: Tenants,
        registrations: Registrations,
        quotas: Quotas,
        readiness: Readiness,
        patience: timedelta,
        upload_within: timedelta,
    ) -> None:
        self._store = store
        self._audio = audio
        self._log = log
        self._audit = audit
        self._keyring = keyring
        self._queue = queue
        self._tenants = tenants
        self._registrations = registrations
        self._quotas = quotas
        self._readiness = readiness
        self._patience = patience
        self._upload_within = upload_within
        self._withdrawals: set[asyncio.Task[None]] = set()

    async def now(self) -> datetime:
        """Return the time by the store's clock."""
        return await self._store.now()

    @contextlib.asynccontextmanager
    async def upload(self, credential: Credential, *, size: int) -> AsyncIterator[datetime]:
        """Admit an upload of so many bytes, 0: it is not known how many; it is under way while the block lasts.

        Gives the time by `now`. Raises KeyDisabled, LimitReached.
        """
        await self._keyring.admit_wrap(credential.tenant)
        async with self._quotas.upload(credential, size=size) as began:
            yield began

    async def submit(
        self,
        credential: Credential,
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
        deleted meanwhile, CustomerErased when its customer was erased since it began, LimitReached when too much waits,
        KeyDisabled when its key is, or was meanwhile.
        """
        tenant, id_ = credential.tenant, new_job_id()
        key = Key.random()
        wrapped = await self._keyring.wrap(key, tenant, id_)  # before anything of the body is read
        size = 0

        async def counted() -> AsyncIterator[bytes]:
            nonlocal size
            async for piece in audio:
                size += len(piece)
                yield piece

        context = Context(kind=Kind.AUDIO, tenant=tenant, job=id_)
        await self._audio.write(tenant, id_, seal_stream(key, context, counted()))
        # Shielded: a client that hangs up now must find the job whole or not at all.
        return await asyncio.shield(
            self._record(
                credential,
                id_,
                key,
                wrapped,
                submission,
                size=size,
                began=began,
                results_ttl=results_ttl,
                customer=self._keyring.tag(tenant, customer) if customer is not None else None,
                callback=callback,
                user_token=user_token,
            )
        )

    async def look_up(self, tenant: TenantId, job: JobId) -> tuple[Job, bytes | None]:
        """Return the job's record and, of a completed one, the results object as JSON.

        Raises NotFound, and KeyDisabled while the key that opens it is.
        """
        stored = await self._store.read(tenant, job)
        if stored is None:
            raise NotFound(job)
        try:
            if not isinstance(stored.job, Completed):
                await self._keyring.admit(tenant, stored.key, job)
                return stored.job, None
            return stored.job, await self._keyring.unseal(stored.result, stored.key, Kind.RESULT, tenant, job)
        except (KeyUnavailable, Unsealable) as error:
            _log.error("job does not open", tenant=tenant, job=job, **failure(error))
            raise NotFound(job) from error

    async def latest(self, tenant: TenantId) -> list[tuple[Job, str]]:
        """Return the tenant's newest jobs, at most 100, newest first, each with its user token or "" (spec 1.4).

        Raises KeyDisabled while the tenant's key is.
        """
        listed: list[tuple[Job, str]] = []
        with contextlib.suppress(KeyUnavailable):  # then there are no jobs
            await self._keyring.admit(tenant)
        for stored in await self._store.latest(tenant):
            with contextlib.suppress(KeyUnavailable):
                await self._keyring.admit(tenant, stored.key, stored.job.id)
                listed.append((stored.job, await self._user_token(stored)))
        return listed

    async def delete(self, tenant: TenantId, job: JobId) -> None:
        """Remove a job for good, also from the request log. Raises NotFound; JobProcessing when a worker holds it.

        What the request log has of a job that has expired goes, too, though there is no such job any more.
        """
        stored = await self._store.read(tenant, job)
        if stored is None and not await self._log.holds(tenant, job):
            raise NotFound(job)
        if stored is not None and isinstance(stored.job, Processing):
            raise JobProcessing(job)  # as often as it is asked for: only what is begun is recorded
        async with self._audit.recording("speech-to-text.async-recognition-job.delete", tenant=tenant, target=job):
            await self._delete(tenant, job, stored)
        if stored is None:
            raise NotFound(job)

    async def delete_tenant(self, tenant: TenantId) -> int:
        """Take away a tenant, its keys and everything it has, in any state. Returns how many jobs went.

        Nothing is accepted for the tenant from the first step on, so what an upload that began before
        leaves is taken back by the upload itself. May be repeated until it succeeds. Raises NotFound when
        there was neither such a tenant nor anything of it.
        """
        if not is_tenant_id(tenant):
            raise NotFound(tenant)  # a typing error: there never was such an id
        async with self._audit.recording("volant.tenant.delete", tenant=tenant) as doing:
            await self.clear_tenant(tenant, doing)
        return doing.count

    async def clear_tenant(self, tenant: TenantId, doing: Doing) -> None:
        """Do what `delete_tenant` does as a part of what is recorded already, and count the jobs there."""
        known = await self._tenants.dismiss(tenant)
        await self._keyring.remove(tenant)
        erased = 0
        while entries := await self._store.all_of(tenant):
            # The queue first: while the list names a job, a repetition finds it, whatever broke off.
            await self._queue.discard(*(entry.job for entry in entries))
            await self._store.erase(*entries)
            erased += len(entries)
            doing.count += len(entries)
        await self._registrations.remove_all(tenant)
        await self._audio.remove_tenant(tenant)
        await self._log.erase_tenant(tenant)
        await self._quotas.forget(tenant)
        if known is None and not erased:
            raise NotFound(tenant)

    async def erase_customer(
        self, tenant: TenantId, customer: str, *, labels: frozenset[CustomerTag] = frozenset()
    ) -> int:
        """Erase all that bears a customer's label, in any state; return how many jobs went (spec 6.2, promise P3).

        `labels` are the tags that other cells have for the customer: a callback URL that came from there bears them.
        From the first step on no upload that has begun is accepted any more, and what comes later is another
        matter: it stays. May be repeated until it succeeds: the customer's list names a job until all of it is gone.
        """
        tag = self._keyring.tag(tenant, customer)
        async with self._audit.recording("speech-to-text.gdpr-user-data.delete", tenant=tenant) as doing:
            moment = await self._store.fence(tenant, tag, during=self._upload_within + _FENCE_SLACK)
            await self._registrations.remove_customer(tenant, labels | {tag})
            while entries := await self._store.all_of_customer(tenant, tag, until=moment):
                ids = [entry.job for entry in entries]
                doing.count += await self._store.erase(*entries, but_listed=True)
                await self._queue.discard(*ids)
                await self._remove_audio(tenant, *ids)
                await self._store.strike(tenant, tag, entries)
            await self._log.erase_customer(tenant, tag, until=moment)
        _log.info("customer erased", tenant=tenant, jobs=doing.count)
        return doing.count

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

    async def _delete(self, tenant: TenantId, job: JobId, stored: Stored | None) -> None:
        if stored is None:
            await self._log.erase(tenant, job)
            return
        while stored is not None:
            if isinstance(stored.job, Processing):
                raise JobProcessing(job)
            # Superseded: claimed, finished or deleted since it was read, or removed by a try whose reply was lost.
            with contextlib.suppress(Superseded):
                await self._store.remove(stored.job)
            stored = await self._store.read(tenant, job)
        await self._clear(tenant, job)

    async def _user_token(self, stored: Stored) -> str:
        if not stored.user_token:
            return ""
        job = stored.job
        try:
            token = await self._keyring.unseal(stored.user_token, stored.key, Kind.USER_TOKEN, job.tenant, job.id)
            return token.decode()
        except (KeyUnavailable, Unsealable) as error:
            _log.error("user token does not open", tenant=job.tenant, job=job.id, **failure(error))
            return ""

    async def _record(
        self,
        credential: Credential,
        id_: JobId,
        key: Key,
        wrapped: bytes,
        submission: Submission,
        *,
        size: int,
        began: datetime,
        results_ttl: timedelta,
        customer: CustomerTag | None,
        callback: Callback | None,
        user_token: str,
    ) -> Waiting:
        tenant = credential.tenant
        sealed: dict[Field, bytes] = {
            "key": wrapped,
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
                await self._write(job, key, sealed, now=now, began=began, credential=credential, size=size)
            if not await self._audio.holds(tenant, id_):
                # This process was away for so long between the two that the sweep took the audio for an orphan.
                raise Unavailable("the audio was swept before it had a record")
        except (TenantGone, CustomerErased, LimitReached, KeyDisabled):
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

    async def _write(self, job: Waiting, key: Key, sealed: dict[Field, bytes], **how: Any) -> None:
        while True:
            try:
                return await self._store.write(job, sealed=sealed, **how)
            except WrapRefused:  # the tenant's key was rotated, replaced or disabled while the upload came in
                sealed["key"] = await self._keyring.wrap(key, job.tenant, job.id)

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
