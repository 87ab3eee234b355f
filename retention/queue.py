"""The queues between front, workers and notifier: put in by one script that is safe to repeat.

arq delivers, it decides nothing: a delivery holds a tenant and a job id, see `retention.delivery`.
"""

from collections.abc import Collection
from datetime import timedelta

from redis.asyncio import Redis

from retention import keyspace
from retention.connection import at_once, reaching_redis, script
from retention.delivery import delivery
from retention.job import JobId, TenantId

QUEUES = (keyspace.RECOGNITION, keyspace.NOTIFICATION)


class JobQueue:
    """The producing side. Raises Unavailable when Redis cannot be reached."""

    def __init__(self, redis: Redis, *, patience: timedelta) -> None:
        self._redis = redis
        # A delivery must not end before the job's own deadline, or it would vanish unheard.
        self._life_ms = patience * 2 // timedelta(milliseconds=1)
        self._enqueue = script(redis, "full", "enqueue")
        self._at_once = at_once(redis)

    async def put(self, tenant: TenantId, job: JobId, queue: keyspace.Queue = keyspace.RECOGNITION) -> bool:
        """Put a job behind all that wait. Returns False when the queue holds it already or it is gone."""
        with reaching_redis():
            return bool(
                await self._enqueue(
                    keys=[queue.name, queue.delivery(job), queue.wake, queue.sequence, keyspace.job(tenant, job)],
                    args=[queue.entry(job), delivery(queue, tenant, job), self._life_ms],
                )
            )

    async def lacking(self, jobs: list[JobId]) -> set[JobId]:
        """Return those of the jobs that the queue of recognition does not hold, or not whole."""
        if not jobs:
            return set()
        queue = keyspace.RECOGNITION
        with reaching_redis():
            async with self._redis.pipeline(transaction=False) as pipe:
                pipe.zmscore(queue.name, [queue.entry(job) for job in jobs])
                for job in jobs:
                    pipe.exists(queue.delivery(job))
                places, *deliveries = await pipe.execute()
        held = zip(jobs, places, deliveries, strict=True)
        return {job for job, place, delivered in held if place is None or not delivered}

    async def is_leased(self, job: JobId) -> bool:
        """Tell whether a worker has a job in hand at this moment."""
        with reaching_redis():
            return bool(await self._redis.exists(keyspace.RECOGNITION.lease(job)))

    async def discard(self, *jobs: JobId, queues: Collection[keyspace.Queue] = QUEUES) -> None:
        """Take jobs out of the queues, leases and all: who holds one learns of it with the next renewal."""
        with reaching_redis():
            await self._at_once(
                *(("ZREM", queue.name, *map(queue.entry, jobs)) for queue in queues),
                *(("DEL", *queue.leftovers(job), queue.lease(job)) for queue in queues for job in jobs),
            )
