"""Job records in Redis: one hash per job, which lives and dies as one.

Reads and conditional writes, no rules: whether a write lands is decided by the revision it was made
from (`lua/write.lua`). Moments are unix milliseconds only here; `now` is Redis's clock and comes with every read.
"""

from datetime import UTC, datetime, timedelta
from typing import Any, Literal

import msgspec
from msgspec import Struct
from redis.asyncio import Redis

from retention import keyspace
from retention.connection import reaching_redis, script
from retention.errors import Superseded, TenantGone
from retention.job import Completed, CustomerTag, Failed, Job, JobId, TenantId, Unfinished

LISTED = 100
"""The most jobs that a list shows (spec 1.4)."""

_PAGE = 100

Field = Literal["key", "submission", "result"]

_decode = msgspec.json.Decoder(Job).decode
_encode = msgspec.json.Encoder().encode


class Stored(Struct, frozen=True, kw_only=True):
    """A job as read at `now`: its record, its wrapped data key, and what is sealed under that key."""

    job: Job
    now: datetime
    key: bytes
    submission: bytes
    result: bytes


class Entry(Struct, frozen=True, kw_only=True):
    """What a set says of a job, whose record may be gone."""

    tenant: TenantId
    job: JobId
    customer: CustomerTag | None


class Damaged(Struct, frozen=True, kw_only=True):
    """Stands for a record that cannot be read."""

    error: str


def entry_of(job: Job) -> Entry:
    """Return the entry that stands for a job."""
    return Entry(tenant=job.tenant, job=job.id, customer=job.customer)


class JobStore:
    """The records of one cell. Raises Unavailable from every method when Redis cannot be reached."""

    def __init__(self, redis: Redis, *, rescue_after: timedelta) -> None:
        self._redis = redis
        self._rescue_after = rescue_after
        self._write = script(redis, "write")
        self._remove = script(redis, "remove")

    async def now(self) -> datetime:
        """Return the time by Redis's clock, in whole milliseconds."""
        with reaching_redis():
            return _moment(await self._redis.time())

    async def read(self, tenant: TenantId, job: JobId) -> Stored | None:
        """Return the job with everything in it, or None when it is unknown, deleted or expired."""
        with reaching_redis():
            async with self._redis.pipeline(transaction=False) as pipe:
                pipe.time()
                pipe.hmget(keyspace.job(tenant, job), ["record", "key", "submission", "result"])
                time, (record, key, submission, result) = await pipe.execute()
        now = _moment(time)
        if record is None or _is_over(found := _decode(record), now):
            return None
        return Stored(job=found, now=now, key=key or b"", submission=submission or b"", result=result or b"")

    async def look_at(self, entries: list[Entry]) -> tuple[datetime, list[Job | Damaged | None]]:
        """Return the records alone of many jobs at once: None for one that is gone or over."""
        with reaching_redis():
            async with self._redis.pipeline(transaction=False) as pipe:
                pipe.time()
                for entry in entries:
                    pipe.hget(keyspace.job(entry.tenant, entry.job), "record")
                time, *records = await pipe.execute()
        now = _moment(time)
        return now, [_found(record, now) for record in records]

    async def write(self, job: Job, *, now: datetime, sealed: dict[Field, bytes] | None = None) -> None:
        """Write the record onto the revision before its own; an empty sealed field is dropped.

        Raises Superseded when another revision, or none, is stored; TenantGone for the first revision
        of a job whose tenant was deleted.
        """
        expires, look = self._moments(job, now)
        pairs = [item for pair in (sealed or {}).items() for item in pair]
        with reaching_redis():
            landed = await self._write(
                keys=[*_keys(job.tenant, job.id), keyspace.TENANTS],
                args=[
                    job.revision,
                    _encode(job),
                    keyspace.entry(job.tenant, job.id, job.customer),
                    job.tenant,
                    _ms(job.created),
                    _ms(expires),
                    _ms(look),
                    *pairs,
                ],
            )
        if landed == -1:
            raise TenantGone(job.tenant)
        if not landed:
            raise Superseded(job.id)

    async def remove(self, job: Job) -> None:
        """Remove a job, with its key and every entry, if its revision still stands. Raises Superseded."""
        with reaching_redis():
            if not await self._take_out(entry_of(job), str(job.revision), self._redis):
                raise Superseded(job.id)

    async def erase(self, *entries: Entry) -> None:
        """Remove whatever there is of these jobs, in any state and of any revision."""
        with reaching_redis():
            async with self._redis.pipeline(transaction=False) as pipe:
                for entry in entries:
                    await self._take_out(entry, "", pipe)
                await pipe.execute()

    async def latest(self, tenant: TenantId) -> list[Job]:
        """Return the tenant's newest jobs, at most LISTED of them, newest first."""
        found: dict[JobId, Job] = {}  # a job that is added between two pages moves others onto the next
        start = 0
        while len(found) < LISTED:
            with reaching_redis():
                entries = await self._redis.zrevrange(keyspace.jobs_of(tenant), start, start + _PAGE - 1)
                if not entries:
                    break
                async with self._redis.pipeline(transaction=False) as pipe:
                    pipe.time()
                    for entry in map(_entry, entries):
                        pipe.hget(keyspace.job(tenant, entry.job), "record")
                    time, *records = await pipe.execute()
            now = _moment(time)
            jobs = (_decode(record) for record in records if record is not None)
            found.update((job.id, job) for job in jobs if not _is_over(job, now))
            start += _PAGE
        return list(found.values())[:LISTED]

    async def all_of(self, tenant: TenantId) -> list[Entry]:
        """Return up to a thousand entries of the tenant's list, oldest first."""
        with reaching_redis():
            return list(map(_entry, await self._redis.zrange(keyspace.jobs_of(tenant), 0, 999)))

    async def without_unfinished_job(self, named: list[tuple[TenantId, JobId]]) -> list[tuple[TenantId, JobId]]:
        """Return those of the named that are gone or final. One whose record cannot be read may be neither."""
        found: list[tuple[TenantId, JobId]] = []
        for batch in (named[start : start + _PAGE] for start in range(0, len(named), _PAGE)):
            with reaching_redis():
                async with self._redis.pipeline(transaction=False) as pipe:
                    for name in batch:
                        pipe.hget(keyspace.job(*name), "record")
                    pipe.time()
                    *records, time = await pipe.execute()
            now = _moment(time)
            found.extend(
                name
                for name, record in zip(batch, records, strict=True)
                if not isinstance(_found(record, now), Unfinished | Damaged)
            )
        return found

    async def due(self, limit: int) -> list[Entry]:
        """Return entries at which somebody must look now, the most overdue first."""
        with reaching_redis():
            now = _ms(_moment(await self._redis.time()))
            members = await self._redis.zrangebyscore(keyspace.DUE, "-inf", now, start=0, num=limit)
        return list(map(_entry, members))

    async def look_again(self, looked: list[tuple[Entry, Job | Damaged]], *, now: datetime) -> None:
        """Move entries in `due` to the next moment at which somebody must look."""
        moments = {
            keyspace.entry(entry.tenant, entry.job, entry.customer): _ms(
                now + self._rescue_after if isinstance(job, Damaged) else self._moments(job, now)[1]
            )
            for entry, job in looked
        }
        if moments:
            with reaching_redis():
                await self._redis.zadd(keyspace.DUE, moments, xx=True)

    async def alone(self, token: str, during: timedelta) -> bool:
        """Take the caretaker's lock for so long, unless another holds it."""
        with reaching_redis():
            return bool(await self._redis.set(keyspace.CARETAKER, token, nx=True, px=during))

    async def _take_out(self, entry: Entry, revision: str, client: Redis) -> Any:
        member = keyspace.entry(entry.tenant, entry.job, entry.customer)
        return await self._remove(keys=_keys(entry.tenant, entry.job), args=[revision, member], client=client)

    def _moments(self, job: Job, now: datetime) -> tuple[datetime, datetime]:
        """When the key expires, and when somebody must look at the job next."""
        match job:
            case Completed() | Failed():
                return job.expires, job.expires
            case _:
                # An unfinished job fails at its deadline. Its key outlives that by as long again, for
                # the case that no caretaker ran: a job must not vanish before it has failed.
                patience = job.deadline - job.created
                look = now + self._rescue_after
                return job.deadline + patience, min(look, job.deadline) if job.deadline > now else look


def _found(record: bytes | None, now: datetime) -> Job | Damaged | None:
    if record is None:
        return None
    try:
        job = _decode(record)
    except msgspec.MsgspecError as error:
        return Damaged(error=type(error).__name__)
    return None if _is_over(job, now) else job


def _is_over(job: Job, now: datetime) -> bool:
    return not isinstance(job, Unfinished) and job.expires <= now


def _entry(member: bytes) -> Entry:
    tenant, job, customer = keyspace.parse_entry(member)
    return Entry(tenant=tenant, job=job, customer=customer)


def _keys(tenant: TenantId, job: JobId) -> list[str]:
    return [keyspace.job(tenant, job), keyspace.jobs_of(tenant), keyspace.DUE]


def _ms(moment: datetime) -> int:
    return round(moment.timestamp() * 1000)


def _moment(time: tuple[int, int]) -> datetime:
    seconds, microseconds = time
    return datetime.fromtimestamp(seconds, UTC).replace(microsecond=microseconds // 1000 * 1000)
