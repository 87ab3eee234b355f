"""What becomes of a tenant's data once its key is gone for good: nobody can open it any more, so all of it goes."""

from datetime import datetime

from retention.audio import AudioStore
from retention.errors import KeyUnavailable
from retention.job import TenantId
from retention.keyring import name_of
from retention.keys import COMMON, TenantKey
from retention.keystore import TenantKeys
from retention.queue import JobQueue
from retention.request_log import RequestLog
from retention.store import JobStore
from retention.wrapped import WrappedKeys


class Shredding:
    """The data of one cell's purged keys. Raises Unavailable when Redis cannot be reached."""

    def __init__(
        self,
        *,
        keys: TenantKeys,
        wrapped: WrappedKeys,
        store: JobStore,
        audio: AudioStore,
        log: RequestLog,
        queue: JobQueue,
    ) -> None:
        self._keys = keys
        self._wrapped = wrapped
        self._store = store
        self._audio = audio
        self._log = log
        self._queue = queue

    async def shred(self, key: TenantKey) -> int:
        """Erase all that a purged key's tenant has, also what had not come under the key yet. May be repeated.

        Returns how many jobs went. Whoever does this may be slow, and the tenant have a new key meanwhile: what is
        under that one stays.
        """
        until = await self._keys.now()
        if await self._keys.get(key.id) != key:
            return 0  # there is a later key already, and whoever made it has erased what was under this one
        tenant = TenantId(key.id)
        gone = await self._jobs(key, until)
        await self._log.erase_tenant(tenant, until=until)
        async for page in self._wrapped.registrations(tenant):
            for each in page:
                if _is_lost(each.key, key):
                    await self._wrapped.drop(each)
        return gone

    async def _jobs(self, key: TenantKey, until: datetime) -> int:
        tenant, spared, gone = TenantId(key.id), 0, 0
        while entries := await self._store.all_of(tenant, until=until, after=spared):
            wrapped = await self._store.wrapped(entries)
            # A job is as old as its acceptance, and was written a little later: maybe under the next key already.
            lost = [entry for entry, its in zip(entries, wrapped, strict=True) if _is_lost(its, key)]
            spared += len(entries) - len(lost)
            if not lost:
                continue
            ids = [entry.job for entry in lost]
            # The list names a job until its record goes: what breaks off before is done again.
            await self._queue.discard(*ids)
            await self._audio.remove(tenant, *ids)
            gone += await self._store.erase(*lost)
            # Last: a worker on its way to keep audio in the log finds nothing to keep once this is done.
            await self._log.remove_audio(tenant, *ids)
        return gone


def _is_lost(wrapped: bytes, key: TenantKey) -> bool:
    try:
        id_, number = name_of(wrapped, key.id)
    except KeyUnavailable:
        return True
    return id_ == COMMON or number <= key.minimum
