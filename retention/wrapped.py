"""Where the wrapped data keys of a tenant lie: in jobs, in what the request log has of them, in registrations."""

from collections.abc import AsyncIterator
from typing import Literal

from msgspec import Struct
from msgspec.structs import replace
from redis.asyncio import Redis

from retention import keyspace
from retention.connection import reaching_redis, script
from retention.entries import Entry, parse
from retention.job import TenantId
from retention.registrations import key_in, subject_of, with_key

_PAGE = 200

Place = Literal["job", "log", "registration"]


class Wrapped(Struct, frozen=True, kw_only=True):
    """One wrapped data key, and where it lies."""

    tenant: TenantId
    place: Place
    subject: str
    """What it is bound to: the id of the job or of the registration."""
    key: bytes
    hash_: str
    field: str
    value: bytes
    """What the field of the hash holds."""
    entry: Entry | None = None
    """What stands for the job in sets."""

    def replaced(self, key: bytes) -> bytes:
        """Return what the field holds with another wrapped key."""
        return with_key(self.value, key) if self.place == "registration" else key


class WrappedKeys:
    """The wrapped data keys of one cell. Raises Unavailable from every method when Redis cannot be reached."""

    def __init__(self, redis: Redis) -> None:
        self._redis = redis
        self._rewrap = script(redis, "wrap", "full", "noted", "rewrap")

    async def count(self, tenant: TenantId) -> int:
        """Return about how many a tenant has."""
        with reaching_redis():
            async with self._redis.pipeline(transaction=False) as pipe:
                pipe.zcard(keyspace.jobs_of(tenant))
                pipe.zcard(keyspace.logged_of(tenant))
                pipe.hlen(keyspace.registrations_of(tenant))
                return sum(await pipe.execute())

    async def tenants(self) -> set[TenantId]:
        """Return who has any, by the names of all keys of this Redis."""
        named: set[TenantId] = set()
        for place in (keyspace.jobs_of, keyspace.logged_of, keyspace.registrations_of):
            with reaching_redis():
                async for key in self._redis.scan_iter(place(TenantId("*")), count=1000):
                    named.add(TenantId(key.decode().split(":")[2]))
        return named

    async def of(self, tenant: TenantId) -> AsyncIterator[list[Wrapped]]:
        """Give all that a tenant has from beginning to end, by pages, some perhaps twice.

        Jobs come before the log, which copies their keys: so a key that is replaced on the way is not missed.
        """
        async for page in self._listed(tenant, "job", keyspace.jobs_of(tenant)):
            yield page
        async for page in self._listed(tenant, "log", keyspace.logged_of(tenant)):
            yield page
        async for page in self.registrations(tenant):
            yield page

    async def registrations(self, tenant: TenantId) -> AsyncIterator[list[Wrapped]]:
        """Give those of a tenant's registrations, as `of` does."""
        hash_, cursor = keyspace.registrations_of(tenant), 0
        while True:
            with reaching_redis():
                cursor, found = await self._redis.hscan(hash_, cursor, count=_PAGE)
            yield [
                Wrapped(
                    tenant=tenant,
                    place="registration",
                    subject=subject_of(value),
                    key=key_in(value),
                    hash_=hash_,
                    field=field.decode(),
                    value=value,
                )
                for field, value in found.items()
            ]
            if not cursor:
                return

    async def replace(self, old: Wrapped, key: bytes) -> bool:
        """Put a newly wrapped key in the place of one. Returns False when that is another by now, or may not be put."""
        with reaching_redis():
            return bool(
                await self._rewrap(
                    keys=[old.hash_, keyspace.TENANT_KEYS, keyspace.ERASURES],
                    args=[old.field, old.value, old.replaced(key), old.tenant, key],
                )
            )

    async def read_again(self, old: Wrapped) -> Wrapped | None:
        """Return what is in its place now."""
        with reaching_redis():
            value = await self._redis.hget(old.hash_, old.field)
        if value is None:
            return None
        if old.place == "registration":
            return replace(old, value=value, key=key_in(value), subject=subject_of(value))
        return replace(old, value=value, key=value)

    async def drop(self, lost: Wrapped) -> None:
        """Remove a field whose data key nobody can unwrap any more, unless it is another by now."""
        with reaching_redis():
            await self._rewrap(
                keys=[lost.hash_, keyspace.TENANT_KEYS, keyspace.ERASURES],
                args=[lost.field, lost.value, "", lost.tenant, ""],
            )

    async def _listed(self, tenant: TenantId, place: Place, list_: str) -> AsyncIterator[list[Wrapped]]:
        hash_of = keyspace.job if place == "job" else keyspace.logged
        cursor = 0
        while True:
            with reaching_redis():
                cursor, found = await self._redis.zscan(list_, cursor, count=_PAGE)
                entries = [parse(member) for member, _ in found]
                async with self._redis.pipeline(transaction=False) as pipe:
                    for entry in entries:
                        pipe.hget(hash_of(tenant, entry.job), "key")
                    keys = await pipe.execute()
            yield [
                Wrapped(
                    tenant=tenant,
                    place=place,
                    subject=entry.job,
                    key=key,
                    hash_=hash_of(tenant, entry.job),
                    field="key",
                    value=key,
                    entry=entry,
                )
                for entry, key in zip(entries, keys, strict=True)
                if key
            ]
            if not cursor:
                return
