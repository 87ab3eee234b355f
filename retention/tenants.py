"""Tenants and their API keys, of which only digests are kept.

The home cell has them all, and what it says counts. Every other cell has a copy of the records of its own tenants:
what is accepted, logged and signed there is decided by that copy, without a look into another Redis.

A key reads `volant_<public id>_<secret>`: the id finds the record, the secret is 256 random bits, so
a plain SHA-256 digest is as good as a slow one. Every request looks the key up, so that a revocation
bites with the next one.
"""

import hashlib
import hmac
import secrets
from collections.abc import Callable, Mapping
from datetime import datetime
from typing import Any, Literal

import msgspec
from msgspec import Struct
from redis.asyncio import Redis
from redis.exceptions import WatchError

from retention import keyspace
from retention.cell_settings import HOME
from retention.connection import reaching_redis
from retention.errors import CellRefused, NotFound
from retention.job import TenantId
from retention.notification import Hash

_PREFIX = "volant"
_NOBODY = hashlib.sha256(b"").hexdigest()


Plan = Literal["plus", "premium"]
"""Plus: a cell that tenants share, told apart by sealing context and key names. Premium: a cell of one's own."""


class Former(Struct, frozen=True, kw_only=True):
    """A cell that a tenant has left, under which plan, and when."""

    cell: str
    plan: Plan
    moved: datetime
    carried: bool = False
    """Whether the callback URLs that were registered there are known in the tenant's cell."""


class Tenant(Struct, frozen=True, kw_only=True):
    """An instance with credentials. `name` is for people; the id is random and never reused."""

    id: TenantId
    name: str
    created: datetime
    plan: Plan = "plus"
    cell: str = HOME
    """Where its new jobs go."""
    former: tuple[Former, ...] = ()
    """Where its older jobs are, in the order in which it left. Never forgotten: an erasure must reach them all."""
    callback_signature: Hash | None = None
    """The hash of callback signatures; None: the service's setting."""
    learning_opt_out: bool = False
    """Whether nothing of this tenant's is ever written into the request log (spec 6.3)."""

    @property
    def cells(self) -> tuple[str, ...]:
        """All cells in which there may be anything of it, its present one last."""
        return (*(former.cell for former in self.former), self.cell)

    def settled(self, *, cell: str, plan: Plan, now: datetime) -> "Tenant":
        """Return the tenant as it is once it has gone to a cell, or stays there, under a plan."""
        left = () if cell == self.cell else (Former(cell=self.cell, plan=self.plan, moved=now),)
        former = (*(former for former in self.former if former.cell != cell), *left)
        return msgspec.structs.replace(self, cell=cell, plan=plan, former=former)


class ApiKey(Struct, frozen=True, kw_only=True):
    """What is kept of an API key."""

    id: str
    tenant: TenantId
    digest: str
    created: datetime


_tenant = msgspec.json.Decoder(Tenant).decode
_api_key = msgspec.json.Decoder(ApiKey).decode


def check_separate(tenant: Tenant, others: Mapping[TenantId, Tenant]) -> None:
    """Refuse a tenant that shares a cell with another, when that cell is, or was, either's own. Raises CellRefused."""
    if tenant.plan == "premium" and tenant.cell == HOME:
        raise CellRefused(f"premium needs a cell of its own, and {HOME} is everybody's: give --cell")
    for other in others.values():
        if other.id != tenant.id:
            for cell in (_alone_in(tenant) & {*other.cells}) | (_alone_in(other) & {*tenant.cells}):
                raise CellRefused(f"cell {cell}: premium needs one of its own, and tenant {other.id} has it, or had")


def _alone_in(tenant: Tenant) -> set[str]:
    of_its_own = {former.cell for former in tenant.former if former.plan == "premium"}
    return of_its_own | {tenant.cell} if tenant.plan == "premium" else of_its_own


def new_tenant(name: str, *, now: datetime, plan: Plan = "plus", cell: str = HOME) -> Tenant:
    """Return a tenant with an id that no other ever had."""
    return Tenant(id=TenantId(secrets.token_hex(8)), name=name, created=now, plan=plan, cell=cell)


class Tenants:
    """The tenants that one Redis knows. Raises Unavailable from every method when Redis cannot be reached."""

    def __init__(self, redis: Redis) -> None:
        self._redis = redis

    async def create(self, name: str, *, now: datetime) -> Tenant:
        """Add a tenant of the home cell."""
        return await self.add(new_tenant(name, now=now))

    async def add(self, tenant: Tenant) -> Tenant:
        """Add a tenant to those of the installation. Raises CellRefused when its cell is another's."""
        return await self._change(lambda _: tenant)

    async def copy(self, tenant: Tenant) -> None:
        """Know a tenant of the installation in this cell, too, as the home cell knows it."""
        with reaching_redis():
            await self._redis.hset(keyspace.TENANTS, tenant.id, msgspec.json.encode(tenant))

    async def get(self, tenant: TenantId) -> Tenant:
        """Return what is known of a tenant. Raises NotFound."""
        with reaching_redis():
            found = await self._redis.hget(keyspace.TENANTS, tenant)
        if found is None:
            raise NotFound(tenant)
        return _tenant(found)

    async def update(self, tenant: TenantId, **changes: Any) -> Tenant:
        """Change what is known of a tenant, by field. Raises NotFound, CellRefused."""
        return await self.change(tenant, lambda known: msgspec.structs.replace(known, **changes))

    async def change(self, tenant: TenantId, change: Callable[[Tenant], Tenant]) -> Tenant:
        """Change what is known of a tenant, in one step. Raises NotFound; CellRefused when its cell is another's."""

        def changed(known: Mapping[TenantId, Tenant]) -> Tenant:
            if tenant not in known:
                raise NotFound(tenant)
            return change(known[tenant])

        return await self._change(changed)

    async def all(self) -> list[Tenant]:
        """Return every tenant, oldest first."""
        with reaching_redis():
            found = await self._redis.hvals(keyspace.TENANTS)
        return sorted(map(_tenant, found), key=lambda tenant: tenant.created)

    async def dismiss(self, tenant: TenantId) -> Tenant | None:
        """Take away a tenant and all its keys: from now on nothing is accepted for it here. Returns what it was."""
        keys = await self.keys(tenant)
        with reaching_redis():
            async with self._redis.pipeline(transaction=True) as pipe:
                pipe.hget(keyspace.TENANTS, tenant)
                pipe.hdel(keyspace.TENANTS, tenant)
                if keys:
                    pipe.hdel(keyspace.API_KEYS, *(key.id for key in keys))
                gone, *_ = await pipe.execute()
        return None if gone is None else _tenant(gone)

    async def create_key(self, tenant: TenantId, *, now: datetime) -> str:
        """Return the text of a new API key, which is not kept and cannot be shown again. Raises NotFound."""
        secret = secrets.token_urlsafe(32)
        key = ApiKey(id=secrets.token_hex(6), tenant=tenant, digest=_digest(secret), created=now)
        with reaching_redis():
            if not await self._redis.hexists(keyspace.TENANTS, tenant):
                raise NotFound(tenant)
            await self._redis.hset(keyspace.API_KEYS, key.id, msgspec.json.encode(key))
        return f"{_PREFIX}_{key.id}_{secret}"

    async def keys(self, tenant: TenantId) -> list[ApiKey]:
        """Return the keys of a tenant, oldest first."""
        with reaching_redis():
            found = await self._redis.hvals(keyspace.API_KEYS)
        return sorted((key for key in map(_api_key, found) if key.tenant == tenant), key=lambda key: key.created)

    async def revoke(self, key_id: str) -> None:
        """Make a key useless, at once. Raises NotFound."""
        with reaching_redis():
            if not await self._redis.hdel(keyspace.API_KEYS, key_id):
                raise NotFound(key_id)

    async def authenticate(self, presented: str) -> TenantId | None:
        """Return whose key this is, or None when it is malformed, unknown or revoked."""
        key = await self.find(presented)
        return key.tenant if key else None

    async def holds(self, tenant: TenantId, key_id: str) -> bool:
        """Tell whether there is such a tenant, and such a key, and whether the key is the tenant's."""
        with reaching_redis():
            async with self._redis.pipeline(transaction=False) as pipe:
                pipe.hexists(keyspace.TENANTS, tenant)
                pipe.hget(keyspace.API_KEYS, key_id)
                exists, found = await pipe.execute()
        return bool(exists) and found is not None and _api_key(found).tenant == tenant

    async def find(self, presented: str) -> ApiKey | None:
        """Return what is kept of this key, or None when it is malformed, unknown or revoked."""
        prefix, _, rest = presented.partition("_")
        key_id, _, secret = rest.partition("_")
        with reaching_redis():
            found = await self._redis.hget(keyspace.API_KEYS, key_id.encode(errors="surrogateescape"))
        key = _api_key(found) if found is not None else None
        # An unknown id costs the same comparison as a known one, so that ids cannot be told apart by time.
        matches = hmac.compare_digest(_digest(secret), key.digest if key else _NOBODY)
        if key is None or not matches or prefix != _PREFIX:
            return None
        with reaching_redis():
            # A key that was made while its tenant was being dismissed outlives it, and must open nothing.
            return key if await self._redis.hexists(keyspace.TENANTS, key.tenant) else None

    async def _change(self, make: Callable[[Mapping[TenantId, Tenant]], Tenant]) -> Tenant:
        """Write a record made from all that is known; it is made anew when anything of that has changed meanwhile."""
        while True:
            with reaching_redis():
                async with self._redis.pipeline(transaction=True) as pipe:
                    await pipe.watch(keyspace.TENANTS)
                    known = {found.id: found for found in map(_tenant, await pipe.hvals(keyspace.TENANTS))}
                    tenant = make(known)
                    check_separate(tenant, known)
                    pipe.multi()
                    pipe.hset(keyspace.TENANTS, tenant.id, msgspec.json.encode(tenant))
                    try:
                        await pipe.execute()
                    except WatchError:
                        continue
                    return tenant


def _digest(secret: str) -> str:
    return hashlib.sha256(secret.encode(errors="surrogateescape")).hexdigest()
