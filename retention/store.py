"""Job records in Redis: one hash per job, which lives and dies as one.

Reads and conditional writes, no rules: whether a write lands is decided by the revision it was made
from (`lua/write.lua`). Moments are unix milliseconds only here; `now` is Redis's clock and comes with every read.
"""

from collections.abc import Mapping, Sequence
from datetime import UTC, datetime, timedelta
from typing import Literal

import msgspec
from msgspec import Struct
from redis.asyncio import Redis

from retention import keyspace
from retention.cell_settings import HOME
from retention.connection import alone, at_once, reaching_redis, script
from retention.delivery import delivery
from retention.entries import Due, Entry, entry_of, everywhere, lists, member, parse, places_of
from retention.errors import CustomerErased, LimitReached, Superseded, TenantGone, Unavailable, WrapRefused
from retention.job import Completed, CustomerTag, Failed, Job, JobId, Processing, TenantId, Unfinished
from retention.limits import QUOTAS, Limits
from retention.notification import Pending, event_of
from retention.tenant import Credential

LISTED = 100
"""The most jobs that a list shows (spec 1.4)."""

_PAGE = 100
_TENANT_GONE, _ERASED, _WRAP_REFUSED, _KEY_LACKS = -1, -2, -5, -6
_QUOTAS = {-3: QUOTAS[0], -4: QUOTAS[1]}
_AGAIN = timedelta(seconds=10)
_WAS_THERE = 2
_SLACK = timedelta(minutes=1)

Field = Literal["key", "submission", "result", "user_token", "started", "ended", "dead.started", "dead.ended"]
"""What a job's hash holds beside its revision and record. The last four are notifications, see `retention.telling`."""

_READ: tuple[Field, ...] = ("key", "submission", "result", "user_token", "started", "ended")

_decode = msgspec.json.Decoder(Job).decode
_encode = msgspec.json.Encoder().encode


class Stored(Struct, frozen=True, kw_only=True):
    """A job as read at `now`: its record, its wrapped data key, what is sealed under that, and what is to be told."""

    job: Job
    now: datetime
    key: bytes = b""
    submission: bytes = b""
    result: bytes = b""
    user_token: bytes = b""
    started: bytes = b""
    ended: bytes = b""


class Damaged(Struct, frozen=True, kw_only=True):
    """Stands for a record that cannot be read."""

    error: str


def dropped_by_failure(job: Job) -> dict[Field, bytes]:
    """Return the fields that a job has no use for once it has failed, as `write` takes them.

    It then holds nothing that a key would open, unless there is a token to be told.
    """
    return {"submission": b""} if job.callback else {"submission": b"", "key": b""}


class JobStore:
    """The records of one cell. Raises Unavailable from every method when Redis cannot be reached."""

    def __init__(self, redis: Redis, *, cell: str = HOME, rescue_after: timedelta) -> None:
        self._redis = redis
        self._cell = cell
        self._rescue_after = rescue_after
        self._write = script(redis, "wrap", "full", "noted", "write")
        self._remove = script(redis, "full", "noted", "remove")
        self._fence = script(redis, "full", "fence")
        self._at_once = at_once(redis)

    async def now(self) -> datetime:
        """Return the time by Redis's clock, in whole milliseconds."""
        with reaching_redis():
            return _moment(await self._redis.time())

    async def read(self, tenant: TenantId, job: JobId) -> Stored | None:
        """Return the job with everything in it, or None when it is unknown, deleted or expired."""
        with reaching_redis():
            async with self._redis.pipeline(transaction=False) as pipe:
                pipe.time()
                pipe.hmget(keyspace.job(tenant, job), ["record", *_READ])
                time, (record, *values) = await pipe.execute()
        now = _moment(time)
        if record is None or _is_over(found := _decode(record), now):
            return None
        return Stored(job=found, now=now, **{name: value or b"" for name, value in zip(_READ, values, strict=True)})

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

    async def wrapped(self, entries: Sequence[Entry]) -> list[bytes]:
        """Return the wrapped data keys of jobs, empty ones of those that are gone or have none."""
        with reaching_redis():
            async with self._redis.pipeline(transaction=False) as pipe:
                for entry in entries:
                    pipe.hget(keyspace.job(entry.tenant, entry.job), "key")
                return [key or b"" for key in await pipe.execute()]

    async def write(
        self,
        job: Job,
        *,
        now: datetime,
        sealed: Mapping[Field, bytes] | None = None,
        began: datetime | None = None,
        credential: Credential | None = None,
        size: int = 0,
        heard: timedelta = timedelta(0),
    ) -> None:
        """Write the record onto the revision before its own; an empty sealed field is dropped.

        The event that this move is, if it is one, is kept and queued in the same step. `began` is when the upload
        of a first revision did; it is counted as waiting, with its `size` in bytes, against whoever asked for it.
        `heard` is how much audio was decoded for a final one. Raises Superseded when another revision, or none, is
        stored; of a first revision TenantGone when its tenant was deleted, CustomerErased when its customer was
        erased since it began, LimitReached when too much waits, and WrapRefused when its data key
        is wrapped by a key that may not wrap any more.
        """
        expires, due = self._moments(job, now)
        fields = dict(sealed or {})
        tells = b""
        if event := event_of(job):
            fields["started" if isinstance(job, Processing) else "ended"] = msgspec.json.encode(
                Pending(event=event, since=_ms(now))
            )
            tells = delivery(keyspace.NOTIFICATION, job.tenant, job.id)
        queue = keyspace.NOTIFICATION
        with reaching_redis():
            landed = await self._write(
                keys=[
                    keyspace.job(job.tenant, job.id),
                    keyspace.DUE,
                    keyspace.TENANTS,
                    keyspace.erased(job.tenant, job.customer),
                    queue.name,
                    queue.delivery(job.id),
                    queue.wake,
                    queue.sequence,
                    keyspace.waiting_of(job.tenant),
                    keyspace.audio_of(job.tenant),
                    keyspace.TENANT_KEYS,
                    keyspace.ERASURES,
                    *lists(entry_of(job)),
                ],
                args=[
                    job.revision,
                    _encode(job),
                    member(entry_of(job)),
                    job.tenant,
                    _ms(job.created),
                    _ms(expires),
                    due,
                    _ms(began or job.created),
                    queue.entry(job.id),
                    tells,
                    _life_ms(expires - now),
                    size,
                    credential.key if credential else "",
                    *_most(credential),
                    heard // timedelta(milliseconds=1) if isinstance(job, Completed | Failed) else "",
                    fields.get("key", b""),
                    self._cell,
                    *(item for pair in fields.items() for item in pair),
                ],
            )
        if landed == _TENANT_GONE:
            raise TenantGone(job.tenant)
        if landed == _ERASED:
            raise CustomerErased(job.id)
        if landed == _WRAP_REFUSED:
            raise WrapRefused(job.id)
        if landed == _KEY_LACKS:
            raise Unavailable(f"the tenant {job.tenant} has no key of its own in this cell yet")
        if landed in _QUOTAS:
            raise LimitReached(_QUOTAS[landed], _AGAIN)
        if not landed:
            raise Superseded(job.id)

    async def remove(self, job: Job) -> None:
        """Remove a job, with its key and every entry, if its revision still stands. Raises Superseded."""
        entry = entry_of(job)
        places = [*everywhere(entry), keyspace.ERASURES, keyspace.waiting_of(entry.tenant)]
        with reaching_redis():
            removed = await self._remove(keys=places, args=[str(job.revision), member(entry), 2])
        if not removed:
            raise Superseded(job.id)

    async def erase(self, *entries: Entry, but_listed: bool = False) -> int:
        """Remove whatever there is of these jobs, in any state and of any revision, also from the request log.

        Returns how many there were. With `but_listed`, their customers' lists name them until they are struck.
        """
        with reaching_redis():
            async with self._redis.pipeline(transaction=False) as pipe:
                for entry in entries:
                    kept = (
                        keyspace.jobs_of_customer(entry.tenant, entry.customer) if but_listed and entry.customer else ""
                    )
                    places = [place for place in everywhere(entry) if place != kept]
                    places += [keyspace.ERASURES, keyspace.waiting_of(entry.tenant)]
                    await self._remove(keys=places, args=["", member(entry), 2], client=pipe)
                return sum(removed == _WAS_THERE for removed in await pipe.execute())

    async def clear(self, *entries: Entry) -> None:
        """Remove what is left of jobs that are over. What the request log has of them stays: it has its own time."""
        with reaching_redis():
            async with self._redis.pipeline(transaction=False) as pipe:
                for entry in entries:
                    places = [*places_of(entry), keyspace.ERASURES, keyspace.waiting_of(entry.tenant)]
                    await self._remove(keys=places, args=["", member(entry), 1], client=pipe)
                await pipe.execute()

    async def strike(self, tenant: TenantId, customer: CustomerTag, entries: list[Entry]) -> None:
        """Take entries off a customer's list."""
        with reaching_redis():
            await self._redis.zrem(keyspace.jobs_of_customer(tenant, customer), *map(member, entries))

    async def latest(self, tenant: TenantId) -> list[Stored]:
        """Return the tenant's newest jobs, at most LISTED of them, newest first, without what is not listed."""
        found: dict[JobId, Stored] = {}  # a job that is added between two pages moves others onto the next
        start = 0
        while len(found) < LISTED:
            with reaching_redis():
                entries = await self._redis.zrevrange(keyspace.jobs_of(tenant), start, start + _PAGE - 1)
                if not entries:
                    break
                async with self._redis.pipeline(transaction=False) as pipe:
                    pipe.time()
                    for entry in map(parse, entries):
                        pipe.hmget(keyspace.job(tenant, entry.job), ["record", "key", "user_token"])
                    time, *rows = await pipe.execute()
            now = _moment(time)
            for record, key, user_token in rows:
                if record is not None and not _is_over(job := _decode(record), now):
                    found[job.id] = Stored(job=job, now=now, key=key or b"", user_token=user_token or b"")
            start += _PAGE
        return list(found.values())[:LISTED]

    async def all_of(self, tenant: TenantId, *, until: datetime | None = None, after: int = 0) -> list[Entry]:
        """Return up to a thousand entries of the tenant's list, of what was accepted until then, oldest first.

        `after` is how many of the oldest are left out.
        """
        upper = "+inf" if until is None else _ms(until)
        with reaching_redis():
            found = await self._redis.zrangebyscore(keyspace.jobs_of(tenant), "-inf", upper, start=after, num=1000)
        return list(map(parse, found))

    async def all_of_customer(self, tenant: TenantId, customer: CustomerTag, *, until: datetime) -> list[Entry]:
        """Return up to a hundred entries of a customer's jobs that were accepted until then, oldest first."""
        key = keyspace.jobs_of_customer(tenant, customer)
        with reaching_redis():
            return list(map(parse, await self._redis.zrangebyscore(key, "-inf", _ms(until), start=0, num=_PAGE)))

    async def fence(self, tenant: TenantId, customer: CustomerTag, *, during: timedelta) -> datetime:
        """Refuse from now on, for so long, every first revision whose upload has begun before, or begins right now.

        Returns that moment: what was accepted is as old, and what is accepted from now on is younger.
        """
        with reaching_redis():
            moment = await self._fence(
                keys=[keyspace.erased(tenant, customer)], args=[during // timedelta(milliseconds=1)]
            )
        return datetime.fromtimestamp(moment // 1000, UTC).replace(microsecond=moment % 1000 * 1000)

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

    async def due(self, limit: int) -> Due:
        """Return up to so many entries, those of jobs that are over before all others."""
        with reaching_redis():
            now = _ms(_moment(await self._redis.time()))
            over = await self._redis.zrangebyscore(keyspace.DUE, 0, now, start=0, num=limit)
            left = limit - len(over)
            looks = await self._redis.zrangebyscore(keyspace.DUE, "-inf", now - keyspace.LOOK, start=0, num=left)
        return Due(list(map(parse, over)), list(map(parse, looks)))

    async def look_again(self, looked: list[tuple[Entry, Job | Damaged]], *, now: datetime) -> None:
        """Move entries in `due` to the next moment at which somebody must look."""
        look = _ms(now + self._rescue_after) - keyspace.LOOK
        scores = {
            member(entry): look if isinstance(job, Damaged) else self._moments(job, now)[1] for entry, job in looked
        }
        if scores:
            with reaching_redis():
                await self._at_once(
                    ("ZADD", keyspace.DUE, "XX", *(word for name, score in scores.items() for word in (score, name)))
                )

    async def alone(self, token: str, during: timedelta) -> bool:
        """Take the caretaker's lock for so long, or have it already; False while another holds it."""
        return await alone(self._at_once, keyspace.CARETAKER, token, during=during)

    def _moments(self, job: Job, now: datetime) -> tuple[datetime, int]:
        """Return when the key expires, and the score in `due`."""
        match job:
            case Completed() | Failed():
                return job.expires, _ms(job.expires)
            case _:
                # An unfinished job fails at its deadline. Its key outlives that by as long again, for
                # the case that no caretaker ran: a job must not vanish before it has failed.
                expires = job.deadline + (job.deadline - job.created)
                look = now + self._rescue_after
                return expires, _ms(job.deadline) if now < job.deadline <= look else _ms(look) - keyspace.LOOK


def _most(credential: Credential | None) -> list[float | str]:
    """Return the most jobs and the most bytes that may wait, of the tenant and then of the key; empty: no limit."""
    whose = (credential.limits, credential.limits_of_key) if credential else (Limits(), Limits())
    return [limits.of(quota) or "" for limits in whose for quota in ("waiting", "bytes")]


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


def _life_ms(left: timedelta) -> int:
    """Return the life of a delivery: that of its job, and a little longer, so that it never ends unheard."""
    return (max(left, timedelta(0)) + _SLACK) // timedelta(milliseconds=1)


def _ms(moment: datetime) -> int:
    return round(moment.timestamp() * 1000)


def _moment(time: tuple[int, int]) -> datetime:
    seconds, microseconds = time
    return datetime.fromtimestamp(seconds, UTC).replace(microsecond=microseconds // 1000 * 1000)
