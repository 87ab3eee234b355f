"""Tenants and their API keys, of which only digests are kept.

A key reads `volant_<public id>_<secret>`: the id finds the record, the secret is 256 random bits, so
a plain SHA-256 digest is as good as a slow one. Every request looks the key up, so that a revocation
bites with the next one.
"""

import hashlib
import hmac
import re
import secrets
from datetime import datetime
from typing import Any

import msgspec
from msgspec import Struct
from redis.asyncio import Redis

from retention import keyspace
from retention.acting import act_as_key
from retention.audit import Audit
from retention.connection import reaching_redis
from retention.errors import NotFound
from retention.job import TenantId
from retention.tenant import Tenant

_PREFIX = "volant"
_FORM = re.compile(rf"{_PREFIX}_([0-9a-f]{{12}})_[A-Za-z0-9_-]{{43}}")
_NOBODY = hashlib.sha256(b"").hexdigest()


class ApiKey(Struct, frozen=True, kw_only=True):
    """What is kept of an API key."""

    id: str
    tenant: TenantId
    digest: str
    created: datetime


_tenant = msgspec.json.Decoder(Tenant).decode
_api_key = msgspec.json.Decoder(ApiKey).decode


class Tenants:
    """The tenants of this installation. Raises Unavailable from every method when Redis cannot be reached.

    What changes a tenant or its keys is in the audit log, and raises AuditBroken; the end of a tenant is for
    `JobService.delete_tenant` to record, of which it is a part.
    """

    def __init__(self, redis: Redis, audit: Audit) -> None:
        self._redis = redis
        self._audit = audit

    async def create(self, name: str, *, now: datetime) -> Tenant:
        """Add a tenant."""
        tenant = Tenant(id=TenantId(secrets.token_hex(8)), name=name, created=now)
        async with self._audit.recording("volant.tenant.create", tenant=tenant.id):
            with reaching_redis():
                await self._redis.hset(keyspace.TENANTS, tenant.id, msgspec.json.encode(tenant))
        return tenant

    async def get(self, tenant: TenantId) -> Tenant:
        """Return what is known of a tenant. Raises NotFound."""
        with reaching_redis():
            found = await self._redis.hget(keyspace.TENANTS, tenant)
        if found is None:
            raise NotFound(tenant)
        return _tenant(found)

    async def update(self, tenant: TenantId, **changes: Any) -> Tenant:
        """Change what is known of a tenant, by field. Raises NotFound."""
        changed = msgspec.structs.replace(await self.get(tenant), **changes)
        async with self._audit.recording("volant.tenant.update", tenant=tenant, detail=" ".join(sorted(changes))):
            with reaching_redis():
                await self._redis.hset(keyspace.TENANTS, tenant, msgspec.json.encode(changed))
        return changed

    async def all(self) -> list[Tenant]:
        """Return every tenant, oldest first."""
        with reaching_redis():
            found = await self._redis.hvals(keyspace.TENANTS)
        return sorted(map(_tenant, found), key=lambda tenant: tenant.created)

    async def dismiss(self, tenant: TenantId) -> bool:
        """Take away a tenant and all its keys: from now on nothing is accepted for it. Returns whether it was there."""
        keys = await self.keys(tenant)
        with reaching_redis():
            async with self._redis.pipeline(transaction=True) as pipe:
                pipe.hdel(keyspace.TENANTS, tenant)
                if keys:
                    pipe.hdel(keyspace.API_KEYS, *(key.id for key in keys))
                gone, *_ = await pipe.execute()
        return bool(gone)

    async def create_key(self, tenant: TenantId, *, now: datetime) -> str:
        """Return the text of a new API key, which is not kept and cannot be shown again. Raises NotFound."""
        secret = secrets.token_urlsafe(32)
        key = ApiKey(id=secrets.token_hex(6), tenant=tenant, digest=_digest(secret), created=now)
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

    async def authenticate(self, presented: str) -> Tenant | None:
        """Return whose key this is, who acts from now on, or None when it is malformed, unknown or revoked."""
        found = await self.find(presented)
        if found is None:
            return None
        key, owner = found
        act_as_key(key.id)
        return owner

    async def owner(self, tenant: TenantId, key_id: str) -> Tenant | None:
        """Return the tenant if there is such a one, and such a key, and the key is the tenant's."""
        with reaching_redis():
            async with self._redis.pipeline(transaction=False) as pipe:
                pipe.hget(keyspace.TENANTS, tenant)
                pipe.hget(keyspace.API_KEYS, key_id)
                owner, key = await pipe.execute()
        if owner is None or key is None or _api_key(key).tenant != tenant:
            return None
        return _tenant(owner)

    async def find(self, presented: str) -> tuple[ApiKey, Tenant] | None:
        """Return what is kept of this key, and of its tenant; None when it is malformed, unknown or revoked."""
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
            owner = await self._redis.hget(keyspace.TENANTS, key.tenant)
        return (key, _tenant(owner)) if owner is not None else None


def public_id(presented: str) -> str:
    """Return the public id in what has the form of an API key, whether there is such a key or not; else ""."""
    found = _FORM.fullmatch(presented)
    return found[1] if found else ""


def _digest(secret: str) -> str:
    return hashlib.sha256(secret.encode(errors="surrogateescape")).hexdigest()
