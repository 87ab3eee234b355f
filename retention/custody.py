"""What an operator does with tenant keys, and what follows from it: rewrapping, resuming, forgetting.

Every change of a key is one write onto the revision that was read. What follows is done by whoever sees that it is
still to be done, as often as needed: a rotation ends, and a purged key's data goes, though every process broke off.
"""

import functools
from collections.abc import Callable
from datetime import datetime, timedelta

import structlog

from retention import keys
from retention.audio import AudioDirectory
from retention.errors import KeyDisabled, KeyRefused, KeyUnavailable, NotFound, Superseded
from retention.job import TenantId, Unfinished
from retention.keyring import Keyring, check_value, name_of
from retention.keys import COMMON, KeyId, KeyState, TenantKey
from retention.keystore import TenantKeys
from retention.log import failure
from retention.queue import JobQueue
from retention.request_log import RequestLog
from retention.seal import Key
from retention.store import JobStore
from retention.tenants import Tenants
from retention.wrapped import Wrapped, WrappedKeys

_ALONE_FOR = timedelta(seconds=60)

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
        audio: AudioDirectory,
        log: RequestLog,
        queue: JobQueue,
    ) -> None:
        self._keys = keys
        self._keyring = keyring
        self._wrapped = wrapped
        self._tenants = tenants
        self._store = store
        self._audio = audio
        self._log = log
        self._queue = queue

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
        id_ = KeyId(tenant)
        while True:
            await self._tenants.get(tenant)
            gone, now = await self._keys.get(id_), await self._keys.now()
            if gone and gone.purged:
                await self._shred(gone)  # or what it has left would come under the new one, or stay under none
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
        if key.state is KeyState.DESTROYED:
            return await self._refill(key, material)
        return await self._add_version(id_, material)

    async def rotate(self, id_: KeyId) -> TenantKey:
        """Add a version that wraps from now on. What older ones wrapped is rewrapped by `rewrap`."""
        if (await self.get(id_)).imported:
            raise KeyRefused("its owner brought this key: to rotate it, import new material")
        return await self._add_version(id_, None)

    async def disable(self, id_: KeyId) -> TenantKey:
        """Suspend a key: nothing under it is read, and work on jobs under it stops, until it is enabled."""
        return await self._move(id_, keys.disabled)

    async def enable(self, id_: KeyId) -> TenantKey:
        """Let a suspended key be used again, and resume the jobs that were parked."""
        key = await self._move(id_, keys.enabled)
        await self._resume(key)
        return key

    async def destroy(self, id_: KeyId, *, grace: timedelta | None) -> TenantKey:
        """Make a key useless at once: until the grace period ends it can be restored; None: it is gone for good.

        What it wrapped is denied, and erased once it is gone.
        """
        purge_at = await self._keys.now() + grace if grace is not None else None
        key = await self._move(id_, lambda key: keys.destroyed(key, purge_at=purge_at))
        if key.purged:
            await self._shred(key)
        return key

    async def restore(self, id_: KeyId) -> TenantKey:
        """Take a destruction back. Imported material is to be imported again before."""
        key = await self._move(id_, keys.restored)
        await self._resume(key)
        return key

    async def count(self, id_: KeyId) -> int:
        """Return about how many data keys are to be under a key."""
        return sum([await self._wrapped.count(tenant) for tenant in await self._owners(id_)])

    async def rewrap(self, id_: KeyId, seen: Callable[[int], object] = lambda _: None) -> bool:
        """Bring all that a key is to wrap under its newest version, and drop older ones when that is done.

        `seen` is told how many more data keys were looked at. Content is not touched. Returns whether all is done:
        what could not be opened, or was changed meanwhile, is left for another time. May run in several processes.
        """
        key = await self.get(id_)
        if key.settled or key.state is not KeyState.ACTIVE:
            return key.settled
        whole = True
        for tenant in await self._owners(id_):
            async for page in self._wrapped.of(tenant):
                for each in page:
                    whole &= await self._bring(each, key)
                seen(len(page))
        if whole:
            if not await self._written(keys.settled(key)):
                return False  # rotated or disabled meanwhile: what is now decides
            _log.info("key rewrapped", key=id_)
        return whole

    async def tend(self, token: str) -> None:
        """Do what is due: end keys at their date, purge destroyed ones, erase what those wrapped, end rotations.

        `token` names who does: of several workers one at a time is enough, and two would do no harm.
        """
        if not await self._keys.alone(token, during=_ALONE_FOR):
            return
        now = await self._keys.now()
        for key in await self._keys.all():
            try:
                await self._tend(key, now)
            except (Superseded, NotFound):
                continue  # changed or gone meanwhile: the next round sees to it

    async def _tend(self, key: TenantKey, now: datetime) -> None:
        if key.expires and key.expires <= now and key.state in (KeyState.ACTIVE, KeyState.SUSPENDED):
            await self._keys.write(keys.expired(key))
        elif key.purge_at and key.purge_at <= now:
            key = keys.destroyed(key, purge_at=None)
            await self._keys.write(key)
            _log.info("key purged", key=key.id)
        if key.purged:
            await self._shred(key)
        elif not key.settled:
            await self.rewrap(key.id)

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
            if key.id != COMMON:
                await self._tenants.get(TenantId(key.id))
            return False
        return True

    async def _add_version(self, id_: KeyId, material: Key | None) -> TenantKey:
        while True:
            key = await self.get(id_)
            if key.state is not KeyState.ACTIVE:
                raise KeyRefused("only an active key is rotated")
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
            key = await self._move(key.id, functools.partial(keys.refilled, material=again))
        return await self.restore(key.id) if all(version.wrapped for version in key.versions) else key

    async def _owners(self, id_: KeyId) -> list[TenantId]:
        """Return whose data keys may be under a key. What a tenant with its own had before may be under the common."""
        return [TenantId(id_)] if id_ != COMMON else [tenant.id for tenant in await self._tenants.all()]

    async def _bring(self, each: Wrapped, key: TenantKey) -> bool:
        """Bring one data key where it is to be; tell whether it is there, or gone."""
        wanted = key.id, key.newest.number
        while True:
            try:
                name = name_of(each.key, each.subject)
                if name == wanted or name[0] not in (key.id, COMMON):
                    return True
                rewrapped = await self._keyring.rewrap(each.key, each.tenant, each.subject)
            except (KeyDisabled, KeyUnavailable) as error:
                _log.warning("not rewrapped", tenant=each.tenant, job=each.subject, **failure(error))
                return False
            if await self._wrapped.replace(each, rewrapped):
                return True
            if (again := await self._wrapped.read_again(each)) is None:
                return True
            each = again

    async def _shred(self, key: TenantKey) -> None:
        """Erase what a purged key has wrapped: nobody can open it any more. May be late: what is newer stays.

        With it goes what was still to come under the key from the common one, and is denied like the rest.
        """
        tenant = TenantId(key.id)
        async for page in self._wrapped.of(tenant):
            lost = [each for each in page if _goes_with(key, name_of(each.key, each.subject))]
            if jobs := [each.entry for each in lost if each.place == "job" and each.entry]:
                ids = [entry.job for entry in jobs]
                await self._store.erase(*jobs)
                await self._queue.discard(*ids)
                await self._audio.remove(tenant, *ids)
                await self._log.remove_audio(tenant, *ids)
            for each in lost:
                if each.place == "log" and each.entry:
                    await self._log.erase(tenant, each.entry.job)
                elif each.place == "registration":
                    await self._wrapped.drop(each)

    async def _resume(self, key: TenantKey) -> None:
        """Queue the unfinished jobs that were parked. The caretaker would, too, a little later."""
        for tenant in await self._owners(key.id):
            async for page in self._wrapped.of(tenant):
                entries = [each.entry for each in page if each.place == "job" and each.entry]
                _, found = await self._store.look_at(entries)
                for job in found:
                    if isinstance(job, Unfinished):
                        await self._queue.put(job.tenant, job.id)


def _goes_with(purged: TenantKey, name: tuple[KeyId, int]) -> bool:
    return name[0] == COMMON or (name[0] == purged.id and name[1] <= purged.minimum)
