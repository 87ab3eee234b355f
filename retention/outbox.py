"""Dead notifications, which nobody took for a day: found, and made pending again.

Pending ones are fields of their jobs, written with the moves that they are (`retention.store`) and ended with the
leases on their deliveries (`retention.leases`).
"""

from collections.abc import AsyncIterator

import msgspec
from msgspec import Struct
from redis.asyncio import Redis

from retention import keyspace
from retention.connection import reaching_redis, script
from retention.delivery import delivery
from retention.job import JobId, TenantId
from retention.notification import Pending

PLACES = ("started", "ended")
"""The fields of a job that hold what is to be told of it, in this order."""

BURIED = "dead."
"""What comes before the name of such a field when nobody is told any more."""

_SLACK_MS = 60_000


class Dead(Struct, frozen=True, kw_only=True):
    """A notification that is not tried any more."""

    tenant: TenantId
    job: JobId
    pending: Pending


class Outbox:
    """The dead notifications of one cell. Raises Unavailable when Redis cannot be reached."""

    def __init__(self, redis: Redis) -> None:
        self._redis = redis
        self._revive = script(redis, "revive")

    async def dead(self) -> AsyncIterator[Dead]:
        """Give them all. Looks at every job of the cell: not for every day."""
        with reaching_redis():
            async for key in self._redis.scan_iter(keyspace.job(TenantId("*"), JobId("*")), count=1000):
                tenant, job = keyspace.parse_job(key)
                for pending in (await self._buried(key)).values():
                    yield Dead(tenant=tenant, job=job, pending=pending)

    async def revive(self, tenant: TenantId, job: JobId) -> int:
        """Have a job's dead notifications told again, for a day from now. Returns how many they are."""
        key, queue = keyspace.job(tenant, job), keyspace.NOTIFICATION
        with reaching_redis():
            seconds, microseconds = await self._redis.time()
            now = seconds * 1000 + microseconds // 1000
            pending = [
                part
                for place, dead in (await self._buried(key)).items()
                for part in (place, msgspec.json.encode(msgspec.structs.replace(dead, since=now, tries=0)))
            ]
            life = max(await self._redis.pttl(key), 0) + _SLACK_MS
            return int(
                await self._revive(
                    keys=[
                        key,
                        queue.name,
                        queue.delivery(job),
                        queue.wake,
                        queue.sequence,
                        keyspace.IN_PROGRESS_PREFIX + queue.entry(job),
                    ],
                    args=[queue.entry(job), delivery(queue, tenant, job), life, *pending],
                )
            )

    async def _buried(self, key: str | bytes) -> dict[str, Pending]:
        values = await self._redis.hmget(key, *(BURIED + place for place in PLACES))
        return {
            place: msgspec.json.decode(value, type=Pending)
            for place, value in zip(PLACES, values, strict=True)
            if value is not None
        }
