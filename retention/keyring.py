"""The keys above a job's own, for use: tenant keys, which wrap data keys, and those of the service itself.

All of them are wrapped by the cell's root provider, which the root never leaves. A tenant key wraps a random data key
per job and per registration; the index key makes tags of customer ids, the token key signs bearer tokens, the audit
key chains the audit log. A wrapped key names the one key and version that opens it, and a token the one that signed
it, so that keys are never tried in turn. Whether a key may be used is read from Redis, so that disabling it bites at
once; its bytes stay in memory for half a minute at most.
"""

import asyncio
import contextlib
import functools
import hashlib
import hmac
import re
from collections.abc import Callable
from datetime import datetime
from typing import TypeVar

from redis.asyncio import Redis

from retention import keyspace
from retention.chain import Chain
from retention.connection import reaching_redis, script
from retention.errors import KeyDisabled, KeyUnavailable, Superseded, Unavailable, Unsealable
from retention.job import CustomerTag, TenantId
from retention.keys import COMMON, KeyId, TenantKey, Version, created, next_number
from retention.keystore import TenantKeys
from retention.roots import RootProvider
from retention.seal import Context, Key, Kind, seal, unseal

FORGET_AFTER = 30.0
"""Seconds for which the bytes of a tenant key stay in memory."""

TRUST_FOR = 1.0
"""Seconds for which what was read of a tenant key is taken for true when something is opened."""

T = TypeVar("T")

_Keys = tuple[TenantKey | None, TenantKey | None]
"""A tenant's own key and the common one."""

_INDEX = "index"
_AUDIT = "audit"
_TOKEN = "token"  # noqa: S105 - the name of a key
_VERSION = 1
_NAME = re.compile(rb"([a-z0-9]{1,64})@([0-9]{1,9})")


class Keyring:
    """Wraps and unwraps data keys, makes tags, and holds the key of bearer tokens.

    Raises Unavailable from what is awaited when Redis or the root provider cannot be reached.
    """

    def __init__(
        self,
        *,
        keys: TenantKeys,
        root: RootProvider,
        index: Key,
        token: Key,
        audit: Key,
        trust_for: float = TRUST_FOR,
    ) -> None:
        self._keys = keys
        self._root = root
        self._index = index
        self._token = token
        self.audit = audit
        """The key of the audit log's chain."""
        self._trust_for = trust_for
        self._unwrapped: dict[tuple[KeyId, int], Key] = {}
        self._read: dict[TenantId, tuple[_Keys, float]] = {}

    @classmethod
    async def open(cls, redis: Redis, root: RootProvider, *, trust_for: float = TRUST_FOR) -> "Keyring":
        """Return the cell's keyring, making the service's keys at the very first start, and beginning the audit log.

        Raises KeyUnavailable when the cell's keys were wrapped by another root.
        """
        return cls(
            keys=TenantKeys(redis),
            root=root,
            index=await _service_key(redis, root, _INDEX, Kind.INDEX_KEY),
            token=await _service_key(redis, root, _TOKEN, Kind.TOKEN_KEY),
            audit=await _service_key(redis, root, _AUDIT, Kind.AUDIT_KEY),
            trust_for=trust_for,
        )

    async def is_under(self, root: RootProvider) -> bool:
        """Tell whether a root is this cell's own, whatever it is called: one opens what the other wraps.

        Nothing is read or written: a Redis that was emptied would tell nothing.
        """
        context = _rooted(Kind.INDEX_KEY, "trial", _VERSION)
        try:
            await self._root.unwrap(await root.wrap(Key.random(), context), context)
        except KeyUnavailable:
            return False
        return True

    async def make_common(self) -> None:
        """Make the common key, unless there is one. For who may change keys: all others need it made."""
        if await self._keys.get(COMMON) is None:
            now = await self._keys.now()
            version = await self.new_version(COMMON, next_number(None), now=now)
            with contextlib.suppress(Superseded):  # another process made it at the same moment
                await self._keys.write(created(COMMON, version, now=now, expires=None, gone=None))

    async def wrap(self, data_key: Key, tenant: TenantId, subject: str) -> bytes:
        """Return the data key wrapped by the tenant's key, behind that key's name.

        It is bound to its subject, the id of a job or of a registration. Raises KeyDisabled.
        """
        id_, version = await self._wrapping_of(tenant)
        context = _wrapping(tenant, subject, id_, version.number)
        material = await self._material(id_, version)
        return f"{id_}@{version.number}:".encode() + seal(material, data_key.raw(), context)

    async def unwrap(self, wrapped: bytes, tenant: TenantId, subject: str) -> Key:
        """Return the data key. Raises KeyDisabled while its key is, KeyUnavailable when it cannot be had any more.

        It is had, too, when it was rewrapped since `wrapped` was read.
        """
        id_, version, sealed = await self._usable(wrapped, tenant, subject)
        try:
            material = await self._material(id_, version)
            return Key(unseal(material, sealed, _wrapping(tenant, subject, id_, version.number)))
        except Unsealable as error:
            raise KeyUnavailable(subject) from error

    async def unseal(self, stored: bytes, wrapped: bytes, kind: Kind, tenant: TenantId, subject: str) -> bytes:
        """Return what is sealed under a wrapped data key. Raises KeyDisabled, KeyUnavailable, Unsealable."""
        key = await self.unwrap(wrapped, tenant, subject)
        return unseal(key, stored, Context(kind=kind, tenant=tenant, job=subject))

    async def rewrap(self, wrapped: bytes, tenant: TenantId, subject: str) -> bytes:
        """Return the data key wrapped by what is the tenant's key now. Raises KeyDisabled, KeyUnavailable."""
        return await self.wrap(await self.unwrap(wrapped, tenant, subject), tenant, subject)

    async def admit(self, tenant: TenantId, wrapped: bytes = b"", subject: str = "") -> None:
        """Return when the tenant's data may be read, and this in particular. Raises KeyDisabled, KeyUnavailable."""
        if wrapped:
            await self._usable(wrapped, tenant, subject)
        else:
            await self._admitted(tenant, _reading)

    async def admit_wrap(self, tenant: TenantId) -> None:
        """Return when something new of the tenant's may be kept. Raises KeyDisabled."""
        await self._wrapping_of(tenant)

    async def may_unwrap(self, tenant: TenantId, wrapped: bytes, subject: str) -> bool:
        """Tell whether the key that wrapped this may be used, or is gone: then it never will be, and nobody waits."""
        try:
            await self.admit(tenant, wrapped, subject)
        except KeyDisabled:
            return False
        except KeyUnavailable:
            pass
        return True

    async def new_version(self, id_: KeyId, number: int, *, now: datetime, material: Key | None = None) -> Version:
        """Return a version of a tenant key: of the material that its owner brings, or made from nothing."""
        imported, material = material is not None, material or Key.random()
        return Version(
            number=number,
            root=self._root.name,
            wrapped=await self._root.wrap(material, _rooted(Kind.TENANT_KEY, id_, number)),
            imported=imported,
            check=check_value(material),
            created=now,
        )

    async def remove(self, tenant: TenantId, *, unless_known: bool = False) -> None:
        """Take away a tenant's own key, for good, if it has one; `unless_known`: if there is no such tenant here."""
        await self._keys.remove(KeyId(tenant), unless_known=unless_known)

    def tag(self, tenant: TenantId, customer: str) -> CustomerTag:
        """Return the keyed digest of a customer id within a tenant: HMAC-SHA-256 in hex."""
        return CustomerTag(self._tag("customer", tenant, customer))

    def url_tag(self, tenant: TenantId, url: str) -> str:
        """Return the keyed digest of a callback URL within a tenant: HMAC-SHA-256 in hex."""
        return self._tag("callback", tenant, url)

    def _tag(self, kind: str, tenant: TenantId, value: str) -> str:
        message = f"{kind}\0{tenant}\0{value}".encode(errors="surrogateescape")
        return hmac.new(self._index.raw(), message, hashlib.sha256).hexdigest()

    def token_key(self) -> tuple[str, Key]:
        """Return the name of the key that signs bearer tokens, which every token bears, and the key."""
        return f"{_TOKEN}@{_VERSION}", self._token

    async def _key_of(self, tenant: TenantId) -> TenantKey:
        """Return the key that wraps for a tenant now."""
        if key := next(filter(None, await self._keys.of(tenant)), None):
            return key
        raise Unavailable("there is no common key: a worker makes it, or the `volant` command")

    async def _wrapping_of(self, tenant: TenantId) -> tuple[KeyId, Version]:
        key = await self._key_of(tenant)
        now = await self._keys.now() if key.expires else key.created  # the clock of Redis costs a way to it
        return key.id, key.wrapping(now)

    async def _usable(self, wrapped: bytes, tenant: TenantId, subject: str) -> tuple[KeyId, Version, bytes]:
        """Return the key and version that wrap a data key, and what it is when wrapped by that."""
        while True:
            name = name_of(wrapped, subject)
            try:
                version = await self._admitted(tenant, functools.partial(_unwrapping, id_=name[0], number=name[1]))
            except KeyUnavailable:
                # A version goes once nothing is wrapped under it: this may be under another one since it was read.
                again = await self._keys.wrapping(tenant, subject)
                if again is None or again == wrapped:
                    raise
                wrapped = again
            else:
                return name[0], version, wrapped.partition(b":")[2]

    async def _admitted(self, tenant: TenantId, use: Callable[[_Keys], T]) -> T:
        """Return what comes of the tenant's keys. What was read of them a moment ago may allow, but never refuse."""
        clock = asyncio.get_running_loop().time
        if (known := self._read.get(tenant)) and clock() - known[1] < self._trust_for:
            with contextlib.suppress(KeyDisabled, KeyUnavailable):  # it may have been enabled or rotated since
                return use(known[0])
        read_at = clock()
        keys = await self._keys.of(tenant)
        self._read[tenant] = keys, read_at
        return use(keys)

    async def _material(self, id_: KeyId, version: Version) -> Key:
        name = id_, version.number
        if (known := self._unwrapped.get(name)) is not None:
            return known
        if version.root != self._root.name:
            raise Unavailable(f"the key {id_}@{version.number} was wrapped by {version.root}")
        try:
            key = await self._root.unwrap(version.wrapped, _rooted(Kind.TENANT_KEY, id_, version.number))
        except KeyUnavailable as error:
            # The record says that there is such a key, and may be mended: no job fails meanwhile.
            raise Unavailable(f"the root does not open the key {id_}@{version.number}") from error
        self._unwrapped[name] = key
        asyncio.get_running_loop().call_later(FORGET_AFTER, self._unwrapped.pop, name, None)
        return key


def check_value(material: Key) -> str:
    """Return a digest that tells whether material offered again is the same, and nothing else of it."""
    return hmac.new(material.raw(), b"volant key check value 1", hashlib.sha256).hexdigest()[:16]


def name_of(wrapped: bytes, subject: str) -> tuple[KeyId, int]:
    """Return which key and version wrapped this. Raises KeyUnavailable when it says nothing of the kind."""
    if not (found := _NAME.fullmatch(wrapped.partition(b":")[0])):
        raise KeyUnavailable(subject)
    return KeyId(found[1].decode()), int(found[2])


def _reading(keys: _Keys) -> None:
    if key := next(filter(None, keys), None):
        key.reading()


def _unwrapping(keys: _Keys, id_: KeyId, number: int) -> Version:
    """Return the version that unwraps. What is still under the common key obeys the tenant's own as well."""
    _reading(keys)
    for key in filter(None, keys):
        if key.id == id_:
            return key.unwrapping(number)
    raise KeyUnavailable(id_)


def _wrapping(tenant: TenantId, subject: str, key_id: str, version: int) -> Context:
    return Context(kind=Kind.DATA_KEY, tenant=tenant, job=subject, key_id=key_id, key_version=version)


def _rooted(kind: Kind, name: str, version: int) -> Context:
    return Context(kind=kind, key_id=name, key_version=version)


async def _service_key(redis: Redis, root: RootProvider, name: str, kind: Kind) -> Key:
    field, context = f"{name}@{_VERSION}", _rooted(kind, name, _VERSION)
    with reaching_redis():
        wrapped = await redis.hget(keyspace.WRAPPED_KEYS, field)
    if wrapped is None:
        key = Key.random()
        fresh = await root.wrap(key, context)
        with reaching_redis():
            if kind is Kind.AUDIT_KEY:
                # From then on a log without ends is one that was taken away.
                begin, ends = script(redis, "begin"), Chain(key).origin()
                await begin(
                    keys=[keyspace.WRAPPED_KEYS, keyspace.AUDIT_ENDS], args=[field, fresh, ends["floor"], ends["head"]]
                )
            else:
                await redis.hsetnx(keyspace.WRAPPED_KEYS, field, fresh)
            wrapped = await redis.hget(keyspace.WRAPPED_KEYS, field)
    try:
        return await root.unwrap(wrapped or b"", context)
    except KeyUnavailable as error:
        raise KeyUnavailable(f"the root key does not open the key {field} of this Redis") from error
