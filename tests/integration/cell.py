"""A cell with everything that keeps jobs, on a real Redis and a real directory, in the test's own process."""

from collections.abc import AsyncIterable, AsyncIterator
from dataclasses import dataclass, replace
from datetime import datetime, timedelta
from pathlib import Path
from typing import Self

import msgspec
from redis.asyncio import Redis

from retention import keyspace
from retention.accepting import JobAcceptance
from retention.audio_directory import AudioDirectory
from retention.audit import Audit
from retention.caretaking import Caretaker
from retention.custody import Custody
from retention.erasures import ErasureHorizon
from retention.holding import JobHolding
from retention.imports import KeyImports
from retention.job import Callback, Job, JobId, Media, Submission, TenantId, Waiting, accept, new_job_id
from retention.keyring import Keyring
from retention.keystore import TenantKeys
from retention.leases import Leases
from retention.logged_directory import LoggedDirectory
from retention.outbox import Outbox
from retention.queue import JobQueue
from retention.quotas import Quotas
from retention.readiness import Readiness
from retention.registrations import Registrations
from retention.request_log import RequestLog
from retention.roots.file import FileRoot
from retention.seal import Context, Key, Kind, seal
from retention.service import JobService
from retention.store import JobStore
from retention.telling import Telling
from retention.tenant import Credential, Tenant
from retention.tenants import Tenants
from retention.tokens import Tokens
from retention.wrapped import WrappedKeys

HOUR = timedelta(hours=1)
WEEK = timedelta(days=7)
YEAR = timedelta(days=365)
RESCUE_AFTER = timedelta(seconds=30)
SUBMISSION = Submission(media=Media(type="audio/wav", rate=16000), model="en-US_Multimedia")
AUDIO = b"RIFF of a whispered secret"
_ROUNDING = timedelta(milliseconds=1)
RESULTS = b'{"results":[],"result_index":0}'


@dataclass(frozen=True, kw_only=True)
class Cell:
    """The parts of a cell, and one tenant in it."""

    redis: Redis
    directory: Path
    store: JobStore
    queue: JobQueue
    audio: AudioDirectory
    log: RequestLog
    audit: Audit
    keyring: Keyring
    tenants: Tenants
    registrations: Registrations
    outbox: Outbox
    tokens: Tokens
    acceptance: JobAcceptance
    jobs: JobService
    holding: JobHolding
    caretaker: Caretaker
    erasures: ErasureHorizon
    custody: Custody
    imports: KeyImports
    tenant: TenantId

    def of(self, tenant: TenantId) -> Self:
        """Return the same cell as another tenant's."""
        return replace(self, tenant=tenant)

    async def submit(
        self,
        audio: AsyncIterable[bytes] | None = None,
        *,
        results_ttl: timedelta = HOUR,
        customer: str | None = None,
        callback: Callback | None = None,
        user_token: str = "",
        began: datetime | None = None,
        submission: Submission = SUBMISSION,
        credential: Credential | None = None,
    ) -> Waiting:
        return await self.acceptance.submit(
            credential or Credential(tenant=self.tenant),
            submission,
            audio or spoken(AUDIO),
            began=began or await self.jobs.now(),
            results_ttl=results_ttl,
            customer=customer,
            callback=callback,
            user_token=user_token,
        )

    async def listed(self) -> list[Job]:
        """Return the jobs that the list shows."""
        return [job for job, _ in await self.jobs.latest(self.tenant)]

    async def authenticated(self, key: str) -> TenantId | None:
        """Return whose key this is."""
        credential = await self.tenants.authenticate(key)
        return credential.tenant if credential else None

    async def accepted(self, **changes: timedelta) -> Waiting:
        """Write the record of a new job: no audio, no key, not queued."""
        job = await self.begun(**changes)
        await self.store.write(job, now=job.created)
        return job

    async def deliverable(self, *, ago: timedelta = timedelta(0)) -> Waiting:
        """Write a new job that a worker can take, accepted so long ago: no audio, not queued."""
        job = await self.begun(ago=ago)
        key = Key.random()
        context = Context(kind=Kind.SUBMISSION, tenant=self.tenant, job=job.id)
        submission = seal(key, msgspec.json.encode(SUBMISSION), context)
        wrapped = await self.keyring.wrap(key, self.tenant, job.id)
        await self.store.write(job, now=job.created, sealed={"key": wrapped, "submission": submission})
        return job

    async def begun(self, *, results_ttl: timedelta = HOUR, ago: timedelta = timedelta(0)) -> Waiting:
        """Return the record of a new job, unwritten; accepted so long ago."""
        now = await self.store.now() - ago
        return accept(new_job_id(), self.tenant, now=now, results_ttl=results_ttl, patience=WEEK)

    async def stored(self, job: Job) -> Job | None:
        found = await self.store.read(job.tenant, job.id)
        return found.job if found else None

    async def fields(self, job: Job) -> set[bytes]:
        return set(await self.redis.hkeys(keyspace.job(job.tenant, job.id)))

    async def expires(self, key: str) -> tuple[datetime, datetime]:
        """Return the least and the greatest moment at which a key expires, by what Redis says."""
        before = await self.store.now()
        left = timedelta(milliseconds=await self.redis.pttl(key))
        return before + left - _ROUNDING, await self.store.now() + left + _ROUNDING

    async def due(self, job: Job) -> int | None:
        """Return when somebody must look at the job, in unix milliseconds."""
        score = await self.redis.zscore(keyspace.DUE, keyspace.entry(job.tenant, job.id, job.customer))
        return None if score is None else moment_of(score)

    async def queued(self) -> list[JobId]:
        return [JobId(id_.decode()) for id_ in await self.redis.zrange(keyspace.RECOGNITION.name, 0, -1)]

    async def naming(self, job: Job) -> list[str]:
        """Return every place in Redis and in the audio store that still names the job."""
        found = [key.decode() async for key in self.redis.scan_iter(f"*{job.id}*", count=1000)]
        for key in [key async for key in self.redis.scan_iter(count=1000)]:
            if await self.redis.type(key) == b"zset":
                members = await self.redis.zrange(key, 0, -1)
                found += [f"{key.decode()} names it" for member in members if job.id.encode() in member]
        return found + [str(path) for path in self.recordings() if path.name == job.id]

    def recordings(self) -> list[Path]:
        return [path for path in self.directory.rglob("*") if path.is_file()]

    def worker(self, *, lease: timedelta = timedelta(seconds=10)) -> Leases:
        """Return the leases of another worker."""
        return Leases(self.redis, lease=lease)

    async def lease(self, job: Job) -> None:
        """Have another worker have the lease on a job."""
        await self.redis.set(keyspace.RECOGNITION.lease(job.id), "another worker", px=HOUR)

    async def end_lease(self, job: Job) -> None:
        """Let the lease on a job lapse."""
        await self.redis.delete(keyspace.RECOGNITION.lease(job.id))

    def telling(self) -> Telling:
        """Return what another notifier may do."""
        leases = Leases(self.redis, lease=HOUR, queue=keyspace.NOTIFICATION)
        return Telling(
            store=self.store,
            keyring=self.keyring,
            tenants=self.tenants,
            registrations=self.registrations,
            leases=leases,
            hash_="sha256",
        )

    def holding_of(self, leases: Leases) -> JobHolding:
        """Return what the worker with these leases may do with jobs."""
        return JobHolding(store=self.store, audio=self.audio, log=self.log, keyring=self.keyring, leases=leases)


class ByHand(Leases):
    """The leases of workers to whom a test delivers by hand: whoever is asked has the job."""

    async def owns(self, job: JobId) -> bool:
        del job
        return True


async def open_cell(
    redis: Redis,
    directory: Path,
    *,
    root: Key | None = None,
    request_log: timedelta | None = None,
    audio: AudioDirectory | None = None,
    logged: LoggedDirectory | None = None,
    tenant: TenantId | None = None,
) -> Cell:
    """Put a cell together, as `retention.bootstrap` does, and add a tenant, unless one is given.

    `request_log`: for how long, if at all. Another process of a cell is given the root and the tenant of the first.
    """
    store = JobStore(redis, rescue_after=RESCUE_AFTER)
    queue = JobQueue(redis, patience=WEEK)
    audio = audio or AudioDirectory(directory)
    logged = logged or LoggedDirectory(directory)
    await audio.prepare()
    provider = FileRoot(root or Key.random())
    keyring = await Keyring.open(redis, provider, trust_for=0)
    await keyring.make_common()
    audit = Audit(redis, keyring.audit, retention=YEAR)
    log = RequestLog(redis, store=store, audio=logged, keyring=keyring, retention=request_log)
    if request_log:
        await logged.prepare()
    tenants = Tenants(redis, audit)
    registrations = Registrations(redis, keyring, audit)
    erasures = ErasureHorizon(redis, rewrite_every=HOUR)
    jobs = JobService(
        store=store,
        audio=audio,
        log=log,
        audit=audit,
        keyring=keyring,
        queue=queue,
        tenants=tenants,
        registrations=registrations,
        quotas=Quotas(redis),
        readiness=Readiness(redis, provider),
        upload_within=HOUR,
    )
    return Cell(
        redis=redis,
        directory=directory,
        store=store,
        queue=queue,
        audio=audio,
        log=log,
        audit=audit,
        keyring=keyring,
        tenants=tenants,
        registrations=registrations,
        outbox=Outbox(redis),
        tokens=Tokens(keyring=keyring, tenants=tenants, store=store, life=HOUR),
        acceptance=JobAcceptance(
            store=store,
            audio=audio,
            keyring=keyring,
            queue=queue,
            quotas=Quotas(redis),
            jobs=jobs,
            patience=WEEK,
            upload_within=HOUR,
        ),
        jobs=jobs,
        holding=JobHolding(store=store, audio=audio, log=log, keyring=keyring, leases=ByHand(redis, lease=HOUR)),
        caretaker=Caretaker(
            store=store,
            audio=audio,
            log=log,
            audit=audit,
            keyring=keyring,
            queue=queue,
            erasures=erasures,
            orphan_after=timedelta(seconds=20),
        ),
        erasures=erasures,
        custody=Custody(
            keys=TenantKeys(redis),
            keyring=keyring,
            wrapped=WrappedKeys(redis),
            tenants=tenants,
            store=store,
            audio=audio,
            log=log,
            queue=queue,
            audit=audit,
        ),
        imports=KeyImports(redis, root=provider, keys=TenantKeys(redis), tenants=tenants, audit=audit),
        tenant=tenant or (await tenants.create("test", now=await store.now())).id,
    )


def id_of(tenant: Tenant | None) -> TenantId | None:
    """Return the tenant's id, if there is one."""
    return tenant.id if tenant else None


async def spoken(*pieces: bytes) -> AsyncIterator[bytes]:
    """Give audio as an upload does."""
    for piece in pieces:
        yield piece


def moment_of(score: float) -> int:
    """Return the moment of a score in `due`, in unix milliseconds."""
    return int(score if score >= 0 else score + keyspace.LOOK)


def milliseconds(moment: datetime) -> int:
    return round(moment.timestamp() * 1000)
