"""Tenant keys in Redis: one hash of records, each written onto the revision before."""

import secrets
from collections.abc import Awaitable, Callable
from datetime import UTC, datetime, timedelta

import msgspec
from msgspec import Struct
from redis.asyncio import Redis

from retention import keyspace
from retention.connection import alone, at_once, reaching_redis, script
from retention.errors import KeyRefused, NotFound, Superseded, Unavailable
from retention.job import JobId, TenantId
from retention.keys import COMMON, KeyId, TenantKey


class _Kept(Struct, frozen=True, kw_only=True):
    """What matters here of a registration."""

    id: str
    key: bytes


class _Written(TenantKey, frozen=True, kw_only=True):
    """A tenant key, as it is stored."""

    write: str
    """Names the write: one that is repeated since its reply was lost, not what another process writes that is equal."""


_GONE = -1

_decode = msgspec.json.Decoder(TenantKey).decode
_decode_kept = msgspec.json.Decoder(_Kept).decode
_encode = msgspec.json.Encoder().encode


class TenantKeys:
    """The tenant keys of one cell. Raises Unavailable from every method when Redis cannot be reached."""

    def __init__(self, redis: Redis) -> None:
        self._redis = redis
        self._at_once = at_once(redis)
        self._write = script(redis, "wrap", "full", "noted", "key")
        self._remove = script(redis, "full", "noted", "unkey")

    async def now(self) -> datetime:
        """Return the time by Redis's clock, in whole milliseconds."""
        with reaching_redis():
            seconds, microseconds = await self._redis.time()
        return datetime.fromtimestamp(seconds, UTC).replace(microsecond=microseconds // 1000 * 1000)

    async def get(self, id_: KeyId) -> TenantKey | None:
        """Return a key."""
        with reaching_redis():
            found = await self._redis.hget(keyspace.TENANT_KEYS, id_)
        return _decode(found) if found is not None else None

    async def of(self, tenant: TenantId) -> tuple[TenantKey | None, TenantKey | None]:
        """Return a tenant's own key and the common one, as far as there are such, in whatever state they are."""
        with reaching_redis():
            found = await self._redis.hmget(keyspace.TENANT_KEYS, [tenant, COMMON])
        own, common = (_decode(each) if each is not None else None for each in found)
        return own, common

    async def all(self) -> list[TenantKey]:
        """Return every key, oldest first."""
        with reaching_redis():
            found = await self._redis.hvals(keyspace.TENANT_KEYS)
        return sorted(map(_decode, found), key=lambda key: key.created)

    async def wrapping(self, tenant: TenantId, subject: str) -> bytes | None:
        """Return how the data key of a job or of a registration is wrapped by now, if it is still there."""
        tag, _, random = subject.partition("/")
        with reaching_redis():
            if random:
                kept = await self._redis.hget(keyspace.registrations_of(tenant), tag)
                return found.key if kept and (found := _decode_kept(kept)).id == subject else None
            async with self._redis.pipeline(transaction=False) as pipe:
                for name in (keyspace.job, keyspace.logged):
                    pipe.hget(name(tenant, JobId(subject)), "key")
                return next(filter(None, await pipe.execute()), None)

    async def write(self, key: TenantKey) -> None:
        """Write a key onto the revision before its own.

        Raises Superseded when that, or its tenant, is gone; KeyRefused when it was destroyed and comes too late to be
        restored.
        """
        written = _Written(**msgspec.structs.asdict(key), write=secrets.token_hex(8))
        with reaching_redis():
            landed = await self._write(
                keys=[keyspace.TENANT_KEYS, keyspace.TENANTS, keyspace.ERASURES],
                args=[key.id, key.revision, _encode(written)],
            )
        if landed == _GONE:
            raise KeyRefused("the key is gone for good")
        if not landed:
            raise Superseded(key.id)

    async def each(self, *steps: Callable[[TenantKey], Awaitable[object]]) -> None:
        """Take each step with every key, oldest first. Raises Unavailable at the end: it may be so of one key alone."""
        trouble: Unavailable | None = None
        for step in steps:
            for key in await self.all():
                try:
                    await step(key)
                except (Superseded, NotFound):
                    continue  # changed meanwhile, or gone: the next round sees to it
                except Unavailable as error:
                    trouble = error
        if trouble:
            raise trouble

    async def alone(self, lock: str, token: str, *, during: timedelta, prolong: bool = False) -> bool:
        """Take one of the locks of whoever tends the keys, or have it already; False while another holds it."""
        return await alone(self._at_once, lock, token, during=during, prolong=prolong)

    async def remove(self, id_: KeyId, *, unless_known: bool = False) -> None:
        """Remove a tenant's own key with its versions, and its import token, for good: the tenant is gone.

        `unless_known`: only if it is, in the step in which the key goes.
        """
        if id_ == COMMON:
            raise ValueError("the common key is no tenant's")
        token = keyspace.import_token(TenantId(id_))
        with reaching_redis():
            await self._remove(
                keys=[keyspace.TENANT_KEYS, keyspace.TENANTS, keyspace.ERASURES, keyspace.EXPIRING, token],
                args=[id_, int(unless_known)],
            )
