"""The keys above a job's own: root key, tenant key, index key, token key, audit key.

The root key never leaves this process and its file. It seals the common tenant key, which wraps a
random data key per job, the index key, which makes tags of customer ids, the token key, which
signs bearer tokens, and the audit key, which chains the audit log. A wrapped key names the one key
that opens it, and a token the one that signed it, so that keys are never tried in turn.
"""

import base64
import binascii
import hashlib
import hmac
import os
import tempfile
from pathlib import Path

from redis.asyncio import Redis

from retention import keyspace
from retention.connection import reaching_redis
from retention.errors import KeyUnavailable, SettingsError, Unsealable
from retention.job import CustomerTag, TenantId
from retention.seal import Context, Key, Kind, seal, unseal
from retention.settings import read_secret

_COMMON = "common"
_INDEX = "index"
_AUDIT = "audit"
_TOKEN = "token"  # noqa: S105 - the name of a key
_VERSION = 1


def read_root_key(path: Path, *, create: bool) -> Key:
    """Return the root key. Raises SettingsError when it is missing, malformed or open to others.

    With `create`, a missing one is made first; processes that start together agree on one.
    """
    if create and not path.exists():
        _make_root_key(path)
    try:
        return Key(base64.b64decode(read_secret(path), validate=True))
    except (binascii.Error, ValueError) as error:
        raise SettingsError(f"root_key_file: {path} does not hold 32 bytes in base64") from error


class Keyring:
    """Wraps and unwraps data keys, makes tags, and holds the key of bearer tokens."""

    def __init__(self, common: Key, index: Key, token: Key, audit: Key, *, audit_is_new: bool) -> None:
        self._common = common
        self._index = index
        self._token = token
        self.audit = audit
        """The key of the audit log's chain."""
        self.audit_is_new = audit_is_new
        """Whether it was made just now, so that there is no log yet."""

    @classmethod
    async def open(cls, redis: Redis, root: Key) -> "Keyring":
        """Return the cell's keyring, making its keys at the very first start.

        Raises KeyUnavailable when the cell's keys were sealed by another root key.
        """
        with reaching_redis():
            audit_is_new = not await redis.hexists(keyspace.WRAPPED_KEYS, f"{_AUDIT}@{_VERSION}")
        return cls(
            common=await _sealed_key(redis, root, _COMMON, Kind.TENANT_KEY),
            index=await _sealed_key(redis, root, _INDEX, Kind.INDEX_KEY),
            token=await _sealed_key(redis, root, _TOKEN, Kind.TOKEN_KEY),
            audit=await _sealed_key(redis, root, _AUDIT, Kind.AUDIT_KEY),
            audit_is_new=audit_is_new,
        )

    def wrap(self, data_key: Key, tenant: TenantId, subject: str) -> bytes:
        """Return the data key sealed under the tenant's key, behind that key's name.

        It is bound to its subject, the id of a job or of a registration.
        """
        context = _wrapping(tenant, subject, _COMMON, _VERSION)
        return f"{_COMMON}@{_VERSION}:".encode() + seal(self._common, data_key.raw(), context)

    def unwrap(self, wrapped: bytes, tenant: TenantId, subject: str) -> Key:
        """Return the data key. Raises KeyUnavailable when it cannot be had."""
        name, _, sealed = wrapped.partition(b":")
        if name != f"{_COMMON}@{_VERSION}".encode():
            raise KeyUnavailable(subject)
        try:
            return Key(unseal(self._common, sealed, _wrapping(tenant, subject, _COMMON, _VERSION)))
        except Unsealable as error:
            raise KeyUnavailable(subject) from error

    def unseal(self, stored: bytes, wrapped: bytes, kind: Kind, tenant: TenantId, subject: str) -> bytes:
        """Return what is sealed under a wrapped data key. Raises KeyUnavailable, Unsealable."""
        return unseal(self.unwrap(wrapped, tenant, subject), stored, Context(kind=kind, tenant=tenant, job=subject))

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


def _wrapping(tenant: TenantId, subject: str, key_id: str, version: int) -> Context:
    return Context(kind=Kind.DATA_KEY, tenant=tenant, job=subject, key_id=key_id, key_version=version)


async def _sealed_key(redis: Redis, root: Key, name: str, kind: Kind) -> Key:
    context = Context(kind=kind, key_id=name, key_version=_VERSION)
    field = f"{name}@{_VERSION}"
    with reaching_redis():
        sealed = await redis.hget(keyspace.WRAPPED_KEYS, field)
        if sealed is None:
            await redis.hsetnx(keyspace.WRAPPED_KEYS, field, seal(root, Key.random().raw(), context))
            sealed = await redis.hget(keyspace.WRAPPED_KEYS, field)
    try:
        return Key(unseal(root, sealed or b"", context))
    except Unsealable as error:
        raise KeyUnavailable(f"the root key does not open the key {field} of this Redis") from error


def _make_root_key(path: Path) -> None:
    path.parent.mkdir(parents=True, exist_ok=True, mode=0o700)
    descriptor, name = tempfile.mkstemp(prefix=f".{path.name}.", dir=path.parent)  # of mode 0600
    draft = Path(name)
    try:
        with os.fdopen(descriptor, "wb") as file:
            file.write(base64.b64encode(Key.random().raw()) + b"\n")
            file.flush()
            os.fsync(file.fileno())
        try:
            path.hardlink_to(draft)
        except FileExistsError:
            return  # another process was first; its key stands
        directory = os.open(path.parent, os.O_RDONLY)
        try:
            os.fsync(directory)
        finally:
            os.close(directory)
    finally:
        draft.unlink()
