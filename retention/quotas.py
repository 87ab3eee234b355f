"""Admission of uploads before their bodies, and what a tenant uses of its limits.

What waits is counted where jobs are written and removed (`lua/write.lua`, `lua/remove.lua`), and there its limits hold
exactly. Here it is looked at beforehand, so that an upload which would be in vain is not taken in.
"""

import asyncio
import contextlib
import secrets
from collections.abc import AsyncIterator
from datetime import UTC, datetime, timedelta

from msgspec import Struct
from redis.asyncio import Redis

from retention import keyspace
from retention.connection import reaching_redis, script
from retention.errors import LimitReached, Unavailable
from retention.job import TenantId
from retention.limits import QUOTAS
from retention.tenant import Credential

LEASE = timedelta(seconds=15)
"""How long an upload under way is counted after its process was killed. It is renewed every third of it."""

AGAIN = timedelta(seconds=10)
"""When it may be worth to come again if too much waits, or too many uploads are under way: a guess."""

_MS = timedelta(milliseconds=1)


class Used(Struct, frozen=True, kw_only=True):
    """What is used of the quotas at this moment, by a tenant or by one of its API keys; `audio` in seconds."""

    waiting: int
    bytes: int
    uploads: int
    audio: float


class Quotas:
    """The quotas of one cell's tenants. Raises Unavailable when Redis cannot be reached."""

    def __init__(self, redis: Redis) -> None:
        self._redis = redis
        self._upload = script(redis, "upload")
        self._slot = script(redis, "slot")

    @contextlib.asynccontextmanager
    async def upload(self, credential: Credential, *, size: int) -> AsyncIterator[datetime]:
        """Count an upload of so many bytes, or of one at least, as under way for as long as the block lasts.

        Gives the time by Redis's clock before anything of it is read. Raises LimitReached.
        """
        places = [keyspace.uploads_of(credential.tenant), keyspace.uploads_of(credential.tenant, credential.key)]
        name = secrets.token_hex(8)
        with reaching_redis():
            reached, left, now = await self._upload(
                keys=[keyspace.waiting_of(credential.tenant), keyspace.audio_of(credential.tenant), *places],
                args=[
                    credential.key,
                    name,
                    LEASE // _MS,
                    max(size, 1),
                    *("" if most is None else int(most) for quota in QUOTAS for most in credential.both(quota)),
                ],
            )
        if reached:
            quota = QUOTAS[reached - 1]
            raise LimitReached(quota, timedelta(milliseconds=left) if quota == "audio" else AGAIN)
        over = asyncio.Event()
        keeping = asyncio.create_task(self._keep(places, name, over))
        try:
            yield datetime.fromtimestamp(now // 1000, UTC).replace(microsecond=now % 1000 * 1000)
        finally:
            over.set()
            await keeping

    async def used(self, tenant: TenantId, key: str | None = None) -> Used:
        """Return what a tenant uses, or one of its API keys."""
        owner = "" if key is None else f"/{key}"
        with reaching_redis():
            async with self._redis.pipeline(transaction=False) as pipe:
                pipe.time()
                pipe.hmget(keyspace.waiting_of(tenant), [f"jobs{owner}", f"bytes{owner}"])
                pipe.hget(keyspace.audio_of(tenant), f"audio{owner}")
                pipe.zrange(keyspace.uploads_of(tenant, key), 0, -1, withscores=True)
                (seconds, _), (jobs, size), audio, uploads = await pipe.execute()
        return Used(
            waiting=int(jobs or 0),
            bytes=int(size or 0),
            uploads=sum(end > seconds * 1000 for _, end in uploads),
            audio=int(audio or 0) / 1000,
        )

    async def forget(self, tenant: TenantId) -> None:
        """Remove what is counted of a tenant that has no jobs any more."""
        with reaching_redis():
            await self._redis.delete(keyspace.audio_of(tenant), keyspace.uploads_of(tenant))

    async def _keep(self, places: list[str], name: str, over: asyncio.Event) -> None:
        """Renew a lease until it is over, and then end it: in one line, or a renewal might come after the end."""
        ending = False
        while not ending:
            with contextlib.suppress(TimeoutError):
                await asyncio.wait_for(over.wait(), LEASE.total_seconds() / 3)
            ending = over.is_set()
            with contextlib.suppress(Unavailable), reaching_redis():  # then it lapses, if not renewed in time
                await self._slot(keys=places, args=[name, 0 if ending else LEASE // _MS])
