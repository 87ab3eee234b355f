"""Leases on queued jobs: taken, renewed and ended by scripts that compare the owner's token.

A lease says who works on a job and nothing about its state: the record's revision does that.
"""

import secrets
from collections.abc import Mapping
from datetime import datetime, timedelta

from redis.asyncio import Redis

from retention import keyspace
from retention.connection import reaching_redis, script
from retention.job import JobId, Processing, TenantId

_MOMENTS = 10**12
"""Scores from here on are moments, see `lua/claim.lua`."""

_SHORTEST_WAIT = 0.005


class Leases:
    """The leases of one worker. Raises Unavailable when Redis cannot be reached."""

    def __init__(self, redis: Redis, *, lease: timedelta, queue: keyspace.Queue = keyspace.RECOGNITION) -> None:
        self.token = secrets.token_hex(16)
        """Names the owner in Redis; no two workers share one."""
        self.queue = queue
        self._redis = redis
        self._lease_ms = lease // timedelta(milliseconds=1)
        self._claim = script(redis, "claim")
        self._renew = script(redis, "full", "renew")
        self._settle = script(redis, "full", "settle")
        self._told = script(redis, "full", "told")

    async def claim(self, most: int, *, lapsed: bool) -> list[JobId]:
        """Lease up to `most` jobs; lapsed leases of others come first, unless they are to be left alone."""
        with reaching_redis():
            ids = await self._claim(
                keys=[self.queue.name, self.queue.wake], args=[self.token, self._lease_ms, most, int(lapsed)]
            )
        return [JobId(id_.decode()) for id_ in ids]

    async def renew(self, held: Mapping[JobId, Processing | None]) -> set[JobId]:
        """Renew the leases on these jobs, of which some may have no claimed record yet; return the lost ones."""
        args = [
            part
            for id_, job in held.items()
            for part in (id_, keyspace.job(job.tenant, id_) if job else "", job.revision if job else 0)
        ]
        with reaching_redis():
            lost = await self._renew(keys=[self.queue.name], args=[self.token, self._lease_ms, *args])
        return {JobId(id_.decode()) for id_ in lost}

    async def owns(self, job: JobId) -> bool:
        """Tell whether the lease on a job is this worker's at this moment."""
        with reaching_redis():
            return bool(await self._redis.get(keyspace.IN_PROGRESS_PREFIX + job) == self.token.encode())

    async def settle(self, job: JobId, *, done: bool) -> None:
        """End the lease: the job leaves the queue, or goes back to its place."""
        prefixes = (keyspace.IN_PROGRESS_PREFIX, keyspace.DELIVERY_PREFIX, keyspace.RETRY_PREFIX)
        with reaching_redis():
            await self._settle(
                keys=[self.queue.name, self.queue.wake, *(prefix + job for prefix in prefixes)],
                args=[self.token, job, int(done)],
            )

    async def told(self, tenant: TenantId, job: JobId, *, come_back: datetime, fields: Mapping[str, bytes]) -> None:
        """Note what became of a notification in the job's fields (empty: drop it), and end the lease on its delivery.

        The delivery comes back at that moment if the job has more to tell, and leaves the queue if it has not.
        """
        entry = self.queue.entry(job)
        with reaching_redis():
            await self._told(
                keys=[
                    self.queue.name,
                    self.queue.wake,
                    keyspace.IN_PROGRESS_PREFIX + entry,
                    *self.queue.leftovers(job),
                    keyspace.job(tenant, job),
                ],
                args=[
                    self.token,
                    entry,
                    round(come_back.timestamp() * 1000),
                    *(item for pair in fields.items() for item in pair),
                ],
            )

    async def next_in(self, *, at_most: float) -> float:
        """Return in how many seconds the next delivery comes back, or the next lease lapses, if it is so soon."""
        with reaching_redis():
            async with self._redis.pipeline(transaction=False) as pipe:
                pipe.time()
                pipe.zrangebyscore(self.queue.name, _MOMENTS, "+inf", start=0, num=1, withscores=True)
                (seconds, microseconds), found = await pipe.execute()
        left = found[0][1] / 1000 - seconds - microseconds / 1e6 if found else at_most
        return min(max(left, _SHORTEST_WAIT), at_most)

    async def wait(self, seconds: float) -> None:
        """Return when work may have come, or after so many seconds."""
        with reaching_redis():
            await self._redis.blpop([self.queue.wake], timeout=seconds)
