"""What an operator does with tenant keys, and what follows from it: resuming, forgetting. Rewrapping is `rotation`.

Every change of a key is one write onto the revision that was read. What follows is done by whoever sees that it is
still to be done, as often as needed: a rotation ends, and a purged key's data goes, though every process broke off.
"""

import contextlib
import functools
from collections.abc import Callable
from contextlib import AbstractAsyncContextManager
from datetime import datetime, timedelta

import structlog

from retention import keys, keyspace
from retention.audio import AudioStore
from retention.audit import Audit, Doing
from retention.chain import Event
from retention.errors import KeyRefused, NotFound, Superseded
from retention.job import TenantId, Unfinished
from retention.keyring import Keyring, check_value
from retention.keys import COMMON, KeyId, KeyState, TenantKey
from retention.keystore import TenantKeys
from retention.queue import JobQueue
from retention.request_log import RequestLog
from retention.rotation import Rotation
from retention.seal import Key
from retention.shredding import Shredding
from retention.store import JobStore
from retention.tenants import Tenants
from retention.wrapped import WrappedKeys

_ALONE_FOR = timedelta(seconds=20)

_log = structlog.get_logger()


class Custody:
    """The tenant keys of one cell. Raises Unavailable when Redis or the root provider cannot be reached.

    What is refused raises KeyRefused, with a sentence, and NotFound when there is no such key.
    """

    def __init__(
        self,
        *,
        keys: TenantKeys,
        keyring: Keyring,
        wrapped: WrappedKeys,
        tenants: Tenants,
        store: JobStore,
        audio: AudioStore,
        log: RequestLog,
        queue: JobQueue,
        audit: Audit,
    ) -> None:
        self._keys = keys
        self._audit = audit
        self._keyring = keyring
        self._wrapped = wrapped
        self._tenants = tenants
        self._store = store
        self._queue = queue
        self.rotation = Rotation(keys=keys, keyring=keyring, wrapped=wrapped, tenants=tenants, audit=audit)
        """What brings under a key all that it is to wrap."""
        self._shredding = Shredding(keys=keys, wrapped=wrapped, store=store, audio=audio, log=log, queue=queue)

    async def all(self) -> list[TenantKey]:
        """Return every key, oldest first."""
        return await self._keys.all()

    async def get(self, id_: KeyId) -> TenantKey:
        """Return a key. Raises NotFound."""
        if (key := await self._keys.get(id_)) is None:
            raise NotFound(f"key {id_}")
        return key

    async def create(
        self, tenant: TenantId, *, material: Key | None = None, expires: datetime | None = None
    ) -> TenantKey:
        """Give a tenant a key of its own, made from nothing or of its material. What it has comes under it."""
        async with self._recorded("volant.key.import" if material else "volant.key.create", KeyId(tenant)):
            await self._tenants.get(tenant)
            return await self._create(tenant, material, expires)

    async def _create(self, tenant: TenantId, material: Key | None, expires: datetime | None) -> TenantKey:
        id_ = KeyId(tenant)
        while True:
            gone, now = await self._keys.get(id_), await self._keys.now()
            if gone is not None and gone.purged:
                await self._shred_rest(gone)  # or it would come under the new one
            version = await self._keyring.new_version(id_, keys.next_number(gone), now=now, material=material)
            key = keys.created(id_, version, now=now, expires=expires, gone=gone)
            if await self._written(key):
                return key

    async def import_material(self, tenant: TenantId, material: Key, *, expires: datetime | None = None) -> TenantKey:
        """Take a tenant's own material: as a new key, a new version of it, or what its destroyed key lacks."""
        id_ = KeyId(tenant)
        key = await self._keys.get(id_)
        if key is None or key.purged:
            return await self.create(tenant, material=material, expires=expires)
        async with self._recorded("volant.key.import", id_):
            if expires is not None:
                raise KeyRefused("there is such a key already, and an expiration date is given to a new key only")
            if key.state is KeyState.DESTROYED:
                return await self._refill(key, material)
            return await self._add_version(id_, material)

    async def rotate(self, id_: KeyId) -> TenantKey:
        """Add a version that wraps from now on. What older ones wrapped is rewrapped by `rewrap`."""
        async with self._recorded("volant.key.rotate", id_):
            if (await self.get(id_)).imported:
                raise KeyRefused("its owner brought this key: to rotate it, import new material")
            return await self._add_version(id_, None)

    async def disable(self, id_: KeyId) -> TenantKey:
        """Suspend a key: nothing under it is read, and work on jobs under it stops, until it is enabled."""
        async with self._recorded("volant.key.disable", id_):
            return await self._move(id_, keys.disabled)

    async def enable(self, id_: KeyId) -> TenantKey:
        """Let a suspended key be used again, and resume the jobs that were parked."""
        async with self._recorded("volant.key.enable", id_):
            key = await self._move(id_, keys.enabled)
            await self._resume(key)
        return await self._deactivated(key)

    async def destroy(self, id_: KeyId, *, grace: timedelta | None) -> TenantKey:
        """Make a key useless at once: until the grace period ends it can be restored; None: it is gone for good.

        What it wrapped is denied, and erased once it is gone.
        """
        purge_at = await self._keys.now() + grace if grace is not None else None
        async with self._recorded("volant.key.destroy" if purge_at else "volant.key.purge", id_) as doing:
            key = await self._move(id_, lambda key: keys.destroyed(key, purge_at=purge_at))
            if key.purged:
                doing.count = await self._shredding.shred(key)
        return key

    async def restore(self, id_: KeyId) -> TenantKey:
        """Take a destruction back. Imported material is to be imported again before."""
        now = await self._keys.now()
        async with self._recorded("volant.key.restore", id_):
            key = await self._move(id_, functools.partial(keys.restored, now=now))
            await self._resume(key)
        return await self._deactivated(key)

    async def tend(self, token: str) -> None:
        """Do what is due: end keys at their date, purge destroyed ones, and erase what those wrapped.

        `token` names who does: of several workers one at a time is enough, and two would do no harm.
        """
        if not await self._keys.alone(keyspace.KEYS_TENDED, token, during=_ALONE_FOR):
            return
        await self._keys.each(self._deactivated, self._purge)  # dates first: to erase may take long

    async def _purge(self, key: TenantKey) -> None:
        if key.is_past_its_grace(await self._keys.now()):
            await self.rotation.check_owner(key.id)
            async with self._recorded("volant.key.purge", key.id) as doing:
                await self._keys.write(gone := keys.destroyed(key, purge_at=None))
                doing.count = await self._shredding.shred(gone)
            _log.info("key purged", key_id=key.id)
        elif key.purged:
            await self._shred_rest(key)

    async def _shred_rest(self, key: TenantKey) -> None:
        """Erase what is left of a purged key's data, if whoever purged it broke off."""
        if await self.rotation.count(key.id):
            async with self._recorded("volant.key.purge", key.id) as doing:
                doing.count = await self._shredding.shred(key)

    async def _deactivated(self, key: TenantKey) -> TenantKey:
        """Return a key as its date makes it, which is written if it has passed, by whoever is the first."""
        usable = key.state in (KeyState.ACTIVE, KeyState.SUSPENDED)
        if not usable or key.expires is None or not key.is_past_its_date(await self._keys.now()):
            return key
        await self.rotation.check_owner(key.id)
        with contextlib.suppress(Superseded):
            async with self._recorded("volant.key.expire", key.id):
                await self._keys.write(expired := keys.expired(key))
            return expired
        return await self._deactivated(await self.get(key.id))

    def _recorded(self, event: Event, id_: KeyId) -> AbstractAsyncContextManager[Doing]:
        """Have the audit log tell of what is done to a key."""
        return self._audit.recording(event, tenant="" if id_ == COMMON else id_, target=id_)

    async def _move(self, id_: KeyId, move: Callable[[TenantKey], TenantKey]) -> TenantKey:
        while True:
            moved = move(await self.get(id_))
            if await self._written(moved):
                return moved

    async def _written(self, key: TenantKey) -> bool:
        """Write a key; False when it has changed since it was read. Raises NotFound when its tenant has gone."""
        try:
            await self._keys.write(key)
        except Superseded:
            await self.rotation.check_owner(key.id)
            return False
        return True

    async def _add_version(self, id_: KeyId, material: Key | None) -> TenantKey:
        while True:
            key = await self._deactivated(await self.get(id_))
            version = await self._keyring.new_version(
                id_, keys.next_number(key), now=await self._keys.now(), material=material
            )
            moved = keys.rotated(key, version)
            if await self._written(moved):
                return moved

    async def _refill(self, key: TenantKey, material: Key) -> TenantKey:
        """Give a destroyed key back what its owner brought; with the last of it, the key is restored."""
        check = check_value(material)
        lacking = [version for version in key.versions if version.check == check]
        if not lacking:
            raise KeyRefused("this is not the material that the key had")
        for version in lacking:
            again = await self._keyring.new_version(key.id, version.number, now=version.created, material=material)
            move = functools.partial(keys.refilled, material=again, now=await self._keys.now())
            key = await self._move(key.id, move)
        return await self.restore(key.id) if all(version.wrapped for version in key.versions) else key

    async def _resume(self, key: TenantKey) -> None:
        """Queue the unfinished jobs that were parked. The caretaker would, too, a little later."""
        for tenant in await self.rotation.owners(key.id):
            async for page in self._wrapped.of(tenant):
                entries = [each.entry for each in page if each.place == "job" and each.entry]
                _, found = await self._store.look_at(entries)
                for job in found:
                    if isinstance(job, Unfinished):
                        await self._queue.put(job.tenant, job.id)
