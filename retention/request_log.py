"""The request log: audio and transcripts that are kept to improve the service, when the operator wants that.

An entry is a hash of its own, with its own time, and the job's sealed audio under a second name; all of it stays
sealed under the job's own data key. It is written once the job has completed, in one step that asks whether the job
still stands: a job that was deleted, and a customer or a tenant that was erased, leave nothing to write from.
"""

import asyncio
from collections.abc import AsyncIterator
from datetime import datetime, timedelta

import msgspec
import structlog
from msgspec import Struct
from redis.asyncio import Redis

from retention import keyspace
from retention.audio import LoggedAudio
from retention.connection import reaching_redis, script
from retention.entries import Entry, entry_of, logged_lists, member, parse
from retention.erasures import erasing
from retention.errors import AudioMissing, NotFound
from retention.job import Completed, CustomerTag, JobId, Submission, TenantId
from retention.keyring import Keyring
from retention.log import failure
from retention.seal import Context, Key, Kind, seal, unseal, unseal_stream
from retention.store import JobStore
from retention.tenant import Tenant

WRITE_WITHIN = 15.0
"""Seconds for writing an entry. Shorter than what makes its audio an orphan."""

_PAGE = 100

_log = structlog.get_logger()


class Logged(Struct, frozen=True, kw_only=True):
    """What is kept of an entry in clear. `size` is that of its sealed audio, in bytes."""

    tenant: TenantId
    job: JobId
    customer: CustomerTag | None
    created: datetime
    completed: datetime
    size: int


class Opened(Struct, frozen=True, kw_only=True):
    """An entry in clear: submission and results as JSON, audio as it was uploaded, authenticated piece by piece."""

    logged: Logged
    submission: bytes
    results: bytes
    audio: AsyncIterator[bytes]


_decode = msgspec.json.Decoder(Logged).decode
_tenant = msgspec.json.Decoder(Tenant).decode


class RequestLog:
    """The request log of one cell. Raises Unavailable when Redis cannot be reached.

    `retention` is how long an entry is kept, from completion; None: the log is off, and nothing is written.
    """

    def __init__(
        self, redis: Redis, *, store: JobStore, audio: LoggedAudio, keyring: Keyring, retention: timedelta | None
    ) -> None:
        self._redis = redis
        self._store = store
        self._audio = audio
        self._keyring = keyring
        self._retention = retention
        self._erasing = erasing(redis)
        self._script = script(redis, "log")

    async def write(self, job: Completed, submission: Submission, key: Key) -> None:
        """Keep a completed job whose audio is still there, unless client or tenant has opted out (spec 6.3).

        Raises nothing: the job has its result, whatever becomes of the log.
        """
        if self._retention is None or submission.learning_opt_out:
            return
        try:
            async with asyncio.timeout(WRITE_WITHIN):
                await self._write(job, submission, key, expires=job.updated + self._retention)
        except AudioMissing:
            return  # deleted or erased since it completed
        except Exception as error:  # noqa: BLE001 - see above
            _log.warning("not kept in the request log", tenant=job.tenant, job=job.id, **failure(error))

    async def all(self, tenant: TenantId | None = None) -> list[Logged]:
        """Return all that is in the log, or a tenant's part of it, oldest first."""
        found: list[Logged] = []
        with reaching_redis():
            members = await self._redis.zrange(keyspace.logged_of(tenant) if tenant else keyspace.LOG, 0, -1)
            for start in range(0, len(members), _PAGE):
                async with self._redis.pipeline(transaction=False) as pipe:
                    for entry in map(parse, members[start : start + _PAGE]):
                        pipe.hget(keyspace.logged(entry.tenant, entry.job), "record")
                    found += [_decode(record) for record in await pipe.execute() if record is not None]
        return found

    async def open(self, tenant: TenantId, job: JobId) -> Opened:
        """Return an entry in clear.

        Raises NotFound, KeyDisabled, KeyUnavailable, Unsealable; its audio the same on the way, and AudioMissing.
        """
        with reaching_redis():
            hash_ = keyspace.logged(tenant, job)
            record, wrapped, submission, results = await self._redis.hmget(
                hash_, ["record", "key", "submission", "result"]
            )
        if record is None:
            raise NotFound(job)
        key = await self._keyring.unwrap(wrapped, tenant, job)

        def bound(kind: Kind) -> Context:
            return Context(kind=kind, tenant=tenant, job=job)

        return Opened(
            logged=_decode(record),
            submission=unseal(key, submission, bound(Kind.SUBMISSION)),
            results=unseal(key, results, bound(Kind.RESULT)),
            audio=self._while_admitted(
                unseal_stream(key, bound(Kind.AUDIO), self._audio.read(tenant, job)), wrapped, tenant, job
            ),
        )

    async def holds(self, tenant: TenantId, job: JobId) -> bool:
        """Tell whether there is an entry of this job."""
        with reaching_redis():
            return bool(await self._redis.exists(keyspace.logged(tenant, job)))

    async def erase(self, tenant: TenantId, job: JobId) -> None:
        """Remove the entry of a job, if there is one."""
        with reaching_redis():
            record = await self._redis.hget(keyspace.logged(tenant, job), "record")
        if record is not None:
            await self._forget([Entry(tenant=tenant, job=job, customer=_decode(record).customer)])

    async def erase_customer(self, tenant: TenantId, customer: CustomerTag, *, until: datetime) -> None:
        """Remove the entries of a customer's jobs that were accepted until then (spec 6.2)."""
        await self._erase(keyspace.logged_of_customer(tenant, customer), until=_ms(until))

    async def erase_tenant(self, tenant: TenantId, *, until: datetime | None = None) -> int:
        """Remove all entries of a tenant, or those of jobs that were accepted until then; return how many went."""
        erased = await self._erase(keyspace.logged_of(tenant), until=_ms(until) if until else None)
        if until is None:
            await self._audio.remove_tenant(tenant)
        return erased

    async def erase_all(self) -> int:
        """Remove all that is in the log; return how many entries went."""
        return await self._erase(keyspace.LOG)

    async def remove_audio(self, tenant: TenantId, *jobs: JobId) -> None:
        """Remove the recordings of entries that are gone."""
        await self._audio.remove(tenant, *jobs)

    async def sweep(self, orphan_after: timedelta) -> int:
        """Remove what is left of expired entries, and audio so old without an entry; return how many of that there was.

        Of more than 10,000 recordings as many are looked at, others in each round.
        """
        await self._erase(keyspace.LOG, until=_ms(await self._store.now()))
        orphans = 0
        aged = await self._audio.older_than(orphan_after)
        for batch in (aged[start : start + _PAGE] for start in range(0, len(aged), _PAGE)):
            with reaching_redis():
                async with self._redis.pipeline(transaction=False) as pipe:
                    for name in batch:
                        pipe.exists(keyspace.logged(*name))
                    kept = await pipe.execute()
            for name in (name for name, is_kept in zip(batch, kept, strict=True) if not is_kept):
                await self._audio.remove(*name)
                orphans += 1
        return orphans

    async def _while_admitted(
        self, pieces: AsyncIterator[bytes], wrapped: bytes, tenant: TenantId, job: JobId
    ) -> AsyncIterator[bytes]:
        async for piece in pieces:
            await self._keyring.admit(tenant, wrapped, job)  # an export may take longer than a disabled key may be read
            yield piece

    async def _write(self, job: Completed, submission: Submission, key: Key, *, expires: datetime) -> None:
        with reaching_redis():
            tenant = await self._redis.hget(keyspace.TENANTS, job.tenant)
        if tenant is None or _tenant(tenant).learning_opt_out:
            return
        # The audio first: an entry always has some. If this process ends here, the sweep finds it without an entry.
        size = await self._audio.keep(job.tenant, job.id)
        entry = entry_of(job)
        sealed = seal(
            key, msgspec.json.encode(submission), Context(kind=Kind.SUBMISSION, tenant=job.tenant, job=job.id)
        )
        logged = Logged(
            tenant=job.tenant,
            job=job.id,
            customer=job.customer,
            created=job.created,
            completed=job.updated,
            size=size,
        )
        with reaching_redis():
            kept = await self._script(
                keys=[
                    keyspace.job(job.tenant, job.id),
                    keyspace.logged(job.tenant, job.id),
                    keyspace.TENANTS,
                    keyspace.erased(job.tenant, job.customer),
                    *logged_lists(entry),
                ],
                args=[
                    str(job.revision),
                    job.tenant,
                    tenant,
                    member(entry),
                    _ms(job.created),
                    _ms(expires),
                    msgspec.json.encode(logged),
                    sealed,
                ],
            )
        if not kept:
            await self._audio.remove(job.tenant, job.id)
        elif not await self._audio.holds(job.tenant, job.id):
            # This process was away for so long between the two that the audio was swept.
            await self._forget([entry])

    async def _erase(self, list_: str, *, until: int | None = None) -> int:
        erased = 0
        while True:
            with reaching_redis():
                upper = "+inf" if until is None else until
                members = await self._redis.zrangebyscore(list_, "-inf", upper, start=0, num=_PAGE)
            if not members:
                return erased
            await self._forget(list(map(parse, members)))
            erased += len(members)

    async def _forget(self, entries: list[Entry]) -> None:
        """Remove entries with their keys, in one step; then the bytes of their audio."""
        with reaching_redis():
            await self._erasing(
                ("DEL", *(keyspace.logged(entry.tenant, entry.job) for entry in entries)),
                *(("ZREM", list_, member(entry)) for entry in entries for list_ in logged_lists(entry)),
                moments=keyspace.LOG,
                members=list(map(member, entries)),
            )
        for tenant in {entry.tenant for entry in entries}:
            await self._audio.remove(tenant, *(entry.job for entry in entries if entry.tenant == tenant))


def _ms(moment: datetime) -> int:
    return round(moment.timestamp() * 1000)
