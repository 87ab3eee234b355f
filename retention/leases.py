"""Leases on queued jobs: taken, renewed and ended by scripts that compare the owner's token.

A lease says who works on a job and nothing about its state: the record's revision does that.
"""

import secrets
from collections.abc import Mapping
from datetime import timedelta

from redis.asyncio import Redis

from retention import keyspace
from retention.connection import reaching_redis, script
from retention.job import JobId, Processing


class Leases:
    """The leases of one worker. Raises Unavailable when Redis cannot be reached."""

    def __init__(self, redis: Redis, *, lease: timedelta) -> None:
        self.token = secrets.token_hex(16)
        """Names the owner in Redis; no two workers share one."""
        self._redis = redis
        self._lease_ms = lease // timedelta(milliseconds=1)
        self._claim = script(redis, "claim")
        self._renew = script(redis, "renew")
        self._settle = script(redis, "settle")

    async def claim(self, most: int, *, lapsed: bool) -> list[JobId]:
        """Lease up to `most` jobs; lapsed leases of others come first, unless they are to be left alone."""
        with reaching_redis():
            ids = await self._claim(
                keys=[keyspace.QUEUE, keyspace.WAKE], args=[self.token, self._lease_ms, most, int(lapsed)]
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
            lost = await self._renew(keys=[keyspace.QUEUE], args=[self.token, self._lease_ms, *args])
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
                keys=[keyspace.QUEUE, keyspace.WAKE, *(prefix + job for prefix in prefixes)],
                args=[self.token, job, int(done)],
            )

    async def wait(self, seconds: float) -> None:
        """Return when work may have come, or after so many seconds."""
        with reaching_redis():
            await self._redis.blpop([keyspace.WAKE], timeout=seconds)
