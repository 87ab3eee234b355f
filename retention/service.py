"""What the front may do with jobs that there are: look up, list, delete; and what an operator may: erase a tenant.

A delete is decided first, by the script that removes the record with its key; then the bytes go; then the reply.
"""

import contextlib
from datetime import datetime, timedelta

import structlog

from retention.audio import AudioStore
from retention.audit import Audit, Doing
from retention.errors import (
    JobProcessing,
    KeyUnavailable,
    NotFound,
    Superseded,
    Unavailable,
    Unsealable,
)
from retention.job import (
    Completed,
    CustomerTag,
    Job,
    JobId,
    Processing,
    TenantId,
)
from retention.keyring import Keyring
from retention.log import failure
from retention.queue import JobQueue
from retention.quotas import Quotas
from retention.readiness import Readiness
from retention.registrations import Registrations
from retention.request_log import RequestLog
from retention.seal import Kind
from retention.store import JobStore, Stored
from retention.tenant import is_tenant_id
from retention.tenants import Tenants

FENCE_SLACK = timedelta(minutes=5)
"""How much longer than the longest upload a fence stands."""

_log = structlog.get_logger()


class JobService:
    """The jobs in one cell, as the front sees them. Raises Unavailable when the store cannot be reached."""

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
        self._upload_within = upload_within

    async def now(self) -> datetime:
        """Return the time by the store's clock."""
        return await self._store.now()

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
        """Remove a job for good, also from the request log. Raises NotFound; JobProcessing while it is worked on.

        What the request log has of a job that has expired goes, too, though there is no such job any more.
        """
        stored = await self._store.read(tenant, job)
        if stored is None and not await self._log.holds(tenant, job):
            raise NotFound(job)
        if stored is not None:
            await self._check_idle(stored)  # as often as it is asked for: only what is begun is recorded
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
        was_told = await self._registrations.remove_all(tenant)
        await self._audio.remove_tenant(tenant)
        logged = await self._log.erase_tenant(tenant)
        await self._quotas.forget(tenant)
        if known is None and not (erased or was_told or logged):
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
            moment = await self._store.fence(tenant, tag, during=self._upload_within + FENCE_SLACK)
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

    async def clear(self, tenant: TenantId, job: JobId) -> None:
        """Remove what there is of a job outside its record, which is gone: its place in the queue, and its audio."""
        try:
            await self._queue.discard(job)
        except Unavailable as error:
            _log.warning("left to the next claim", tenant=tenant, job=job, **failure(error))
        await self._remove_audio(tenant, job)

    async def _delete(self, tenant: TenantId, job: JobId, stored: Stored | None) -> None:
        if stored is None:
            await self._log.erase(tenant, job)
            return
        while stored is not None:
            await self._check_idle(stored)
            # Superseded: claimed, finished or deleted since it was read, or removed by a try whose reply was lost.
            with contextlib.suppress(Superseded):
                await self._store.remove(stored.job)
            stored = await self._store.read(tenant, job)
        await self.clear(tenant, job)

    async def _check_idle(self, stored: Stored) -> None:
        """Raise JobProcessing while a worker has the job in hand, and its key lets the work go on (spec 1.6).

        One that is parked, or whose worker is gone, stays in that state until another begins, which may be long.
        """
        job = stored.job
        if (
            isinstance(job, Processing)
            and await self._queue.is_leased(job.id)
            and await self._keyring.may_unwrap(job.tenant, stored.key, job.id)
        ):
            raise JobProcessing(job.id)

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

    async def _remove_audio(self, tenant: TenantId, *jobs: JobId) -> None:
        await self._audio.remove(tenant, *jobs)
        # In this order: a worker on its way to keep it in the log finds nothing to keep once this is done.
        await self._log.remove_audio(tenant, *jobs)
