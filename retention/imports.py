"""Tokens with which customers bring keys of their own: one for a tenant at a time, for ten minutes and for one try.

The private key of a token lies in Redis until then, sealed under a data key that the root has wrapped.
"""

import secrets
from datetime import timedelta

import msgspec
from msgspec import Struct
from redis.asyncio import Redis

from retention import keyspace
from retention.audit import Audit
from retention.byok import REFUSED, Algorithm, ImportToken, decrypt, new_nonce, new_pair
from retention.connection import reaching_redis, script
from retention.erasures import erasing
from retention.errors import KeyRefused, KeyUnavailable, Unsealable
from retention.job import TenantId
from retention.keystore import TenantKeys
from retention.roots import RootProvider
from retention.seal import Context, Key, Kind, seal, unseal
from retention.tenants import Tenants

TOKEN_LIFE = timedelta(minutes=10)
"""How long a token is good."""


class _Kept(Struct, frozen=True, kw_only=True):
    token: ImportToken
    key: bytes
    sealed: bytes


_decode = msgspec.json.Decoder(_Kept).decode
_encode = msgspec.json.Encoder().encode


class KeyImports:
    """The import tokens of one cell. Raises Unavailable when Redis or the root provider cannot be reached."""

    def __init__(self, redis: Redis, *, root: RootProvider, keys: TenantKeys, tenants: Tenants, audit: Audit) -> None:
        self._redis = redis
        self._root = root
        self._keys = keys
        self._tenants = tenants
        self._audit = audit
        self._erase = erasing(redis)
        self._keep = script(redis, "full", "noted", "keep")

    async def token(self, tenant: TenantId) -> ImportToken:
        """Return a new token for a tenant; one that it had is good no more. Raises NotFound."""
        async with self._audit.recording("volant.key.import-token", tenant=tenant, target=tenant):
            await self._tenants.get(tenant)
            return await self._token(tenant)

    async def _token(self, tenant: TenantId) -> ImportToken:
        private, public = new_pair()
        token = ImportToken(
            id=secrets.token_hex(16),
            tenant=tenant,
            public_key=public,
            nonce=new_nonce(),
            expires=await self._keys.now() + TOKEN_LIFE,
        )
        key, context = Key.random(), _context(token)
        kept = _Kept(token=token, key=await self._root.wrap(key, context), sealed=seal(key, private, context))
        with reaching_redis():
            await self._keep(
                keys=[keyspace.import_token(tenant), keyspace.EXPIRING, keyspace.ERASURES],
                args=[_encode(kept), TOKEN_LIFE // timedelta(milliseconds=1)],
            )
        return token

    async def material(
        self, tenant: TenantId, token: str, *, wrapped: bytes, proof: bytes, algorithm: Algorithm
    ) -> Key:
        """Return the material that a customer has encrypted for a tenant's token, which is spent by this.

        Raises KeyRefused with the same words whatever was wrong. Only that there is no such token, which is no
        secret, takes less time than the rest. That it was refused is in the audit log; what comes of good material
        is for whoever takes it to record.
        """
        try:
            return await self._material(tenant, token, wrapped=wrapped, proof=proof, algorithm=algorithm)
        except KeyRefused:
            async with self._audit.recording("volant.key.import", tenant=tenant, target=tenant):
                raise

    async def _material(
        self, tenant: TenantId, token: str, *, wrapped: bytes, proof: bytes, algorithm: Algorithm
    ) -> Key:
        key = keyspace.import_token(tenant)
        with reaching_redis():
            found, _ = await self._erase(
                ("GETDEL", key), ("ZREM", keyspace.EXPIRING, key), moments=keyspace.EXPIRING, members=[key]
            )
        kept = _decode(found) if found is not None else None
        if kept is None or kept.token.id != token:
            raise KeyRefused(REFUSED)
        context = _context(kept.token)
        try:
            private = unseal(await self._root.unwrap(kept.key, context), kept.sealed, context)
        except (KeyUnavailable, Unsealable) as error:
            raise KeyRefused(REFUSED) from error
        return decrypt(kept.token, private, wrapped, proof, algorithm)


def _context(token: ImportToken) -> Context:
    return Context(kind=Kind.IMPORT_TOKEN, tenant=token.tenant, key_id=token.id)
