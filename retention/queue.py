"""The queue between front and workers: arq's format, put in by one script that is safe to repeat.

arq delivers, it decides nothing: a delivery holds a tenant and a job id, and what becomes of it is
decided on the record. JSON on both sides, because arq's default, pickle, would let whoever can write
to Redis run code in the workers.
"""

from datetime import timedelta
from typing import Any

import msgspec
from arq.jobs import serialize_job
from redis.asyncio import Redis

from retention import keyspace
from retention.connection import reaching_redis, script
from retention.job import JobId, TenantId

QUEUE = keyspace.QUEUE

RECOGNIZE = "recognize"
"""The name of the workers' function."""


def dumps(value: dict[str, Any]) -> bytes:
    """Serialise a delivery (arq's `job_serializer`)."""
    return msgspec.json.encode(value)


def loads(body: bytes) -> dict[str, Any]:
    """Deserialise a delivery (arq's `job_deserializer`)."""
    return msgspec.json.decode(body, type=dict[str, Any])


class JobQueue:
    """The producing side. Raises Unavailable when Redis cannot be reached."""

    def __init__(self, redis: Redis, *, patience: timedelta) -> None:
        self._redis = redis
        # A delivery must not end before the job's own deadline, or it would vanish unheard.
        self._life = patience * 2
        self._enqueue = script(redis, "enqueue")

    async def put(self, tenant: TenantId, job: JobId) -> bool:
        """Put a job behind all that wait. Returns False when the queue holds it already."""
        body = serialize_job(RECOGNIZE, (tenant, job), {}, None, 0, serializer=dumps)
        keys = [keyspace.QUEUE, keyspace.DELIVERY_PREFIX + job, keyspace.WAKE, keyspace.SEQUENCE]
        with reaching_redis():
            return bool(await self._enqueue(keys=keys, args=[job, body, self._life // timedelta(milliseconds=1)]))

    async def lacking(self, jobs: list[JobId]) -> set[JobId]:
        """Return those of the jobs that the queue does not hold, or not whole."""
        if not jobs:
            return set()
        with reaching_redis():
            async with self._redis.pipeline(transaction=False) as pipe:
                pipe.zmscore(keyspace.QUEUE, jobs)
                for job in jobs:
                    pipe.exists(keyspace.DELIVERY_PREFIX + job)
                places, *deliveries = await pipe.execute()
        held = zip(jobs, places, deliveries, strict=True)
        return {job for job, place, delivery in held if place is None or not delivery}

    async def discard(self, *jobs: JobId) -> None:
        """Take removed jobs out. Who holds a lease on one loses it with the next renewal."""
        with reaching_redis():
            async with self._redis.pipeline(transaction=True) as pipe:
                pipe.zrem(keyspace.QUEUE, *jobs)
                pipe.delete(
                    *(prefix + job for prefix in (keyspace.DELIVERY_PREFIX, keyspace.RETRY_PREFIX) for job in jobs)
                )
                await pipe.execute()
