"""The keys above a job's own: root key, tenant key, index key.

The root key never leaves this process and its file. It seals the common tenant key, which wraps a
random data key per job, and the index key, which makes tags of customer ids. A wrapped key names
the one key that opens it, so that keys are never tried in turn.
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
from retention.job import CustomerTag, JobId, TenantId
from retention.seal import Context, Key, Kind, seal, unseal
from retention.settings import read_secret

_COMMON = "common"
_INDEX = "index"
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
    """Wraps and unwraps data keys, and makes tags."""

    def __init__(self, common: Key, index: Key) -> None:
        self._common = common
        self._index = index

    @classmethod
    async def open(cls, redis: Redis, root: Key) -> "Keyring":
        """Return the cell's keyring, making its keys at the very first start.

        Raises KeyUnavailable when the cell's keys were sealed by another root key.
        """
        return cls(
            common=await _sealed_key(redis, root, _COMMON, Kind.TENANT_KEY),
            index=await _sealed_key(redis, root, _INDEX, Kind.INDEX_KEY),
        )

    def wrap(self, data_key: Key, tenant: TenantId, job: JobId) -> bytes:
        """Return the data key sealed under the tenant's key, bound to the job, behind that key's name."""
        context = _wrapping(tenant, job, _COMMON, _VERSION)
        return f"{_COMMON}@{_VERSION}:".encode() + seal(self._common, data_key.raw(), context)

    def unwrap(self, wrapped: bytes, tenant: TenantId, job: JobId) -> Key:
        """Return the data key. Raises KeyUnavailable when it cannot be had."""
        name, _, sealed = wrapped.partition(b":")
        if name != f"{_COMMON}@{_VERSION}".encode():
            raise KeyUnavailable(job)
        try:
            return Key(unseal(self._common, sealed, _wrapping(tenant, job, _COMMON, _VERSION)))
        except Unsealable as error:
            raise KeyUnavailable(job) from error

    def tag(self, tenant: TenantId, customer: str) -> CustomerTag:
        """Return the keyed digest of a customer id within a tenant: HMAC-SHA-256 in hex."""
        message = f"customer\0{tenant}\0{customer}".encode()
        return CustomerTag(hmac.new(self._index.raw(), message, hashlib.sha256).hexdigest())


def _wrapping(tenant: TenantId, job: JobId, key_id: str, version: int) -> Context:
    return Context(kind=Kind.DATA_KEY, tenant=tenant, job=job, key_id=key_id, key_version=version)


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
