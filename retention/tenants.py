"""Tenants and their API keys, of which only digests are kept.

The home cell has them all, and what it says counts. Every other cell has a copy of the records of its own tenants:
what is accepted, logged and signed there is decided by that copy, without a look into another Redis.

A key reads `volant_<public id>_<secret>`: the id finds the record, the secret is 256 random bits, so
a plain SHA-256 digest is as good as a slow one. Every request looks the key up, so that a revocation
bites with the next one, and is counted in the same step.
"""

import hashlib
import hmac
import re
import secrets
from collections.abc import Callable, Mapping
from contextlib import suppress
from datetime import UTC, datetime, timedelta
from types import MappingProxyType
from typing import Any

import msgspec
from msgspec import Struct
from redis.asyncio import Redis
from redis.exceptions import WatchError

from retention import keyspace
from retention.acting import act_as_key
from retention.audit import Audit
from retention.cell_settings import HOME
from retention.chain import Event
from retention.connection import at_once, batches, reaching_redis, script
from retention.errors import CellRefused, LimitReached, NotFound, Superseded
from retention.job import TenantId
from retention.limits import MOST, Count, Limits
from retention.tenant import Credential, Plan, Tenant

_PREFIX = "volant"
_FORM = re.compile(rf"{_PREFIX}_([0-9a-f]{{12}})_[A-Za-z0-9_-]{{43}}")


class ApiKey(Struct, frozen=True, kw_only=True):
    """What is kept of an API key."""

    id: str
    tenant: TenantId
    digest: str
    created: datetime
    limits: Limits = Limits()
    """What was set for this key: it holds beside the limits of the tenant."""


_IDLE = timedelta(minutes=1)
"""How long an idle bucket is kept: when it expires, Redis writes that into its append-only file."""

_tenant = msgspec.json.Decoder(Tenant).decode
_api_key = msgspec.json.Decoder(ApiKey).decode

_NOBODYS = msgspec.json.encode(
    ApiKey(id="0" * 12, tenant=TenantId("0" * 16), digest="0" * 64, created=datetime(2026, 1, 1, 1, 1, 1, 1, UTC))
)
"""The record of no key, as long as any."""


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


def replaced(known: Tenant, limits: Mapping[str, float | None], changes: Mapping[str, Any]) -> Tenant:
    """Return a tenant with other limits, by name, and other fields."""
    return msgspec.structs.replace(known, limits=msgspec.structs.replace(known.limits, **limits), **changes)


def new_tenant(name: str, *, now: datetime, plan: Plan = "plus", cell: str = HOME) -> Tenant:
    """Return a tenant with an id that no other ever had."""
    return Tenant(id=TenantId(secrets.token_hex(8)), name=name, created=now, plan=plan, cell=cell)


class Tenants:
    """The tenants that one Redis knows. Raises Unavailable from every method when it cannot be reached.

    `limits` are those of a tenant for which nothing else is set. What changes a tenant or its keys is in the audit log,
    and raises AuditBroken; the end of a tenant is for `JobService.delete_tenant` to record, of which it is a part.
    """

    def __init__(self, redis: Redis, audit: Audit, *, limits: Limits = Limits()) -> None:  # noqa: B008 - it is immutable
        self._redis = redis
        self._audit = audit
        self._limits = limits
        self._admit = script(redis, "full", "admit")
        self._replace = script(redis, "replace")
        self._at_once = at_once(redis)

    async def create(self, name: str, *, now: datetime) -> Tenant:
        """Add a tenant of the home cell."""
        return await self.add(new_tenant(name, now=now))

    async def add(self, tenant: Tenant) -> Tenant:
        """Add a tenant to those of the installation. Raises CellRefused when its cell is another's."""
        async with self._audit.recording("volant.tenant.create", tenant=tenant.id):
            return await self._change(lambda _: tenant)

    async def copy(self, tenant: Tenant) -> None:
        """Know a tenant of the installation in this cell, too, as the home cell knows it."""
        known = None
        with suppress(NotFound):
            known = await self.get(tenant.id)
        if known == tenant:
            return
        event: Event = "volant.tenant.update" if known else "volant.tenant.create"
        async with self._audit.recording(event, tenant=tenant.id, detail="copy"):
            with reaching_redis():
                await self._redis.hset(keyspace.TENANTS, tenant.id, msgspec.json.encode(tenant))

    async def get(self, tenant: TenantId) -> Tenant:
        """Return what is known of a tenant. Raises NotFound."""
        with reaching_redis():
            found = await self._redis.hget(keyspace.TENANTS, tenant)
        if found is None:
            raise NotFound(tenant)
        return _tenant(found)

    async def update(
        self, tenant: TenantId, *, limits: Mapping[str, float | None] = MappingProxyType({}), **changes: Any
    ) -> Tenant:
        """Change what is known of a tenant, by field, and its limits, by name. Raises NotFound, CellRefused."""
        detail = " ".join(sorted({*changes, *(["limits"] if limits else [])}))
        return await self.change(tenant, lambda known: replaced(known, limits, changes), detail=detail)

    async def change(self, tenant: TenantId, change: Callable[[Tenant], Tenant], *, detail: str | None) -> Tenant:
        """Change what is known of a tenant, in one step. Raises NotFound; CellRefused when its cell is another's.

        `detail` is what the audit log says of it; None: it is a part of something that is recorded.
        """

        def changed(known: Mapping[TenantId, Tenant]) -> Tenant:
            if tenant not in known:
                raise NotFound(tenant)
            return change(known[tenant])

        if detail is None:
            return await self._change(changed)
        await self.get(tenant)
        async with self._audit.recording("volant.tenant.update", tenant=tenant, detail=detail):
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
            gone, *_ = await self._at_once(
                ("HGET", keyspace.TENANTS, tenant),
                ("HDEL", keyspace.TENANTS, tenant),
                *(("HDEL", keyspace.API_KEYS, *batch) for batch in batches([key.id for key in keys])),
            )
        return None if gone is None else _tenant(gone)

    async def create_key(
        self, tenant: TenantId, *, now: datetime, limits: Mapping[str, float | None] = MappingProxyType({})
    ) -> str:
        """Return the text of a new API key, which is not kept and cannot be shown again. Raises NotFound."""
        secret = secrets.token_urlsafe(32)
        key = ApiKey(
            id=secrets.token_hex(6),
            tenant=tenant,
            digest=_digest(secret),
            created=now,
            limits=msgspec.structs.replace(Limits(), **limits),
        )
        with reaching_redis():
            if not await self._redis.hexists(keyspace.TENANTS, tenant):
                raise NotFound(tenant)
        async with self._audit.recording("volant.credential.create", tenant=tenant, target=key.id):
            with reaching_redis():
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
            found = await self._redis.hget(keyspace.API_KEYS, key_id)
        if found is None:
            raise NotFound(key_id)
        async with self._audit.recording("volant.credential.revoke", tenant=_api_key(found).tenant, target=key_id):
            with reaching_redis():
                await self._redis.hdel(keyspace.API_KEYS, key_id)

    async def update_key(self, key_id: str, limits: Mapping[str, float | None]) -> None:
        """Change the limits of a key, by name. Raises NotFound."""
        with reaching_redis():
            found = await self._redis.hget(keyspace.API_KEYS, key_id)
        if found is None:
            raise NotFound(key_id)
        key = _api_key(found)
        changed = msgspec.structs.replace(key, limits=msgspec.structs.replace(key.limits, **limits))
        async with self._audit.recording("volant.credential.update", tenant=key.tenant, target=key_id):
            with reaching_redis():
                # A key that was revoked meanwhile must not come back.
                if not await self._replace(
                    keys=[keyspace.API_KEYS], args=[key_id, found, msgspec.json.encode(changed)]
                ):
                    raise Superseded(f"API key {key_id}")

    def in_force(self, tenant: Tenant) -> Limits:
        """Return the limits of a tenant."""
        return tenant.limits.over(self._limits)

    async def authenticate(self, presented: str, counts: Count | None = None) -> Credential | None:
        """Return whose key this is, or None when it is malformed, unknown or revoked.

        A good one is counted. Raises LimitReached.
        """
        prefix, _, rest = presented.partition("_")
        key_id, _, secret = rest.partition("_")
        with reaching_redis():
            found = await self._redis.hget(keyspace.API_KEYS, key_id.encode(errors="surrogateescape"))
        # An unknown id costs the same reading and comparing as a known one, so that ids cannot be told apart by time.
        key = _api_key(_NOBODYS if found is None else found)
        matches = hmac.compare_digest(_digest(secret), key.digest)
        if found is None or not matches or prefix != _PREFIX:
            return None
        return await self.admit(key.tenant, key.id, counts)

    async def admit(self, tenant: TenantId, key_id: str, counts: Count | None = None) -> Credential | None:
        """Return the credential of a tenant and its key; None when there is no such tenant, or no such key of its.

        A key that was made while its tenant was being dismissed outlives it, and must open nothing. It is
        counted. Raises LimitReached.
        """
        kind, times = counts or Count("polls", 0)
        buckets = [keyspace.bucket_of(kind, tenant), keyspace.bucket_of(kind, tenant, key_id)] if counts else []
        with reaching_redis():
            found = await self._admit(
                keys=[keyspace.TENANTS, keyspace.API_KEYS, *buckets],
                args=[
                    tenant,
                    key_id,
                    kind,
                    self._limits.of(kind) or 0,
                    times,
                    MOST[kind],
                    _IDLE // timedelta(milliseconds=1),
                ],
            )
        if found is None:
            return None
        record, key, wait = found
        owner, known = _tenant(record), _api_key(key)
        if known.tenant != tenant:
            return None
        if wait:
            raise LimitReached(kind, timedelta(microseconds=wait))
        act_as_key(key_id)
        return Credential(
            tenant=tenant,
            key=key_id,
            limits=self.in_force(owner),
            limits_of_key=known.limits,
            endpoints=owner.endpoints,
            networks=owner.networks,
        )

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


def public_id(presented: str) -> str:
    """Return the public id in what has the form of an API key, whether there is such a key or not; else ""."""
    found = _FORM.fullmatch(presented)
    return found[1] if found else ""


def _digest(secret: str) -> str:
    return hashlib.sha256(secret.encode(errors="surrogateescape")).hexdigest()
