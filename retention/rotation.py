"""What brings under a tenant key all that it is to wrap, after it was made or rotated, and tells how far that is.

Content is not touched. It is done as often as needed, by whichever process, until nothing is under what wrapped before.
"""

import contextlib
from collections.abc import Awaitable, Callable
from datetime import timedelta
from typing import NamedTuple

import structlog

from retention import keys, keyspace
from retention.audit import Audit
from retention.errors import KeyDisabled, KeyUnavailable, NotFound, Superseded
from retention.job import TenantId
from retention.keyring import Keyring, name_of
from retention.keys import COMMON, KeyId, KeyState, TenantKey
from retention.keystore import TenantKeys
from retention.log import failure
from retention.tenants import Tenants
from retention.wrapped import Wrapped, WrappedKeys

_ALONE_FOR = timedelta(seconds=60)

_log = structlog.get_logger()


class Progress(NamedTuple):
    """How far a rotation is."""

    there: int
    """How many data keys are under the newest version, about."""
    to_be: int
    """How many are to be."""
    held_by: tuple[KeyId, ...]
    """The tenants' own keys under which some are to be that may not wrap: until they may, the rotation does not end."""


class Rotation:
    """Rotations of one cell's tenant keys.

    Raises Unavailable when Redis or the root provider cannot be reached, and NotFound when there is no such key.
    """

    def __init__(
        self, *, keys: TenantKeys, keyring: Keyring, wrapped: WrappedKeys, tenants: Tenants, audit: Audit
    ) -> None:
        self._keys = keys
        self._keyring = keyring
        self._wrapped = wrapped
        self._tenants = tenants
        self._audit = audit

    async def progress(self, key: TenantKey) -> Progress:
        """Return how far the rotation of a key is."""
        there, to_be, now = 0, 0, await self._keys.now()
        held_by: list[KeyId] = []
        for tenant in await self.owners(key.id):
            before = to_be - there
            async for page in self._wrapped.of(tenant):
                for each in page:
                    with contextlib.suppress(KeyUnavailable):
                        name = name_of(each.key, each.subject)
                        to_be += name[0] in (key.id, COMMON)
                        there += name == (key.id, key.newest.number)
            own, _ = await self._keys.of(tenant)
            if own is not None and own.id != key.id and to_be - there > before:
                try:
                    own.wrapping(now)
                except KeyDisabled:
                    held_by.append(own.id)
        return Progress(there, to_be, tuple(held_by))

    async def count(self, id_: KeyId) -> int:
        """Return about how many data keys are to be under a key."""
        return sum([await self._wrapped.count(tenant) for tenant in await self.owners(id_)])

    async def tenants(self) -> set[TenantId]:
        """Return whose data keys there are, also of tenants that this cell does not know."""
        return await self._wrapped.tenants()

    async def go_on(self, token: str) -> None:
        """Go on with every rotation that has not ended, which may take long: nothing else is to wait for it.

        `token` names who does: of several workers one at a time is enough, and two would do no harm.
        """

        async def alone(seen: int = 0) -> bool:
            lock = keyspace.KEYS_REWRAPPED
            return await self._keys.alone(lock, token, during=_ALONE_FOR, prolong=seen > 0)

        async def step(key: TenantKey) -> None:
            if not key.settled:
                await self.rewrap(key.id, alone)

        if await alone():
            await self._keys.each(step)

    async def rewrap(self, id_: KeyId, seen: Callable[[int], Awaitable[object]] | None = None) -> bool:
        """Bring all that a key is to wrap under its newest version, and drop older ones when that is done.

        `seen` is told how many more data keys were looked at. Content is not touched. Returns whether all is done:
        what could not be opened, or may not be brought now, is left for another time. May run in several processes.
        """
        if (key := await self._keys.get(id_)) is None:
            raise NotFound(f"key {id_}")
        if key.settled or key.state is not KeyState.ACTIVE:
            return key.settled
        whole = True
        for tenant in await self.owners(id_):
            whole &= await self._bring_all(tenant, key, seen)
        if whole:
            # Another version, its tenant is gone, or another process was first.
            with contextlib.suppress(Superseded, NotFound):
                await self.check_owner(id_)
                async with self._audit.recording(
                    "volant.key.ack-rotate", tenant="" if id_ == COMMON else id_, target=id_
                ):
                    await self._keys.write(keys.settled(key))
                _log.info("key rewrapped", key_id=id_)
        now = await self._keys.get(id_)
        return now is None or now.settled

    async def owners(self, id_: KeyId) -> list[TenantId]:
        """Return whose data keys may be under a key. What a tenant with its own had before may be under the common."""
        return [TenantId(id_)] if id_ != COMMON else [tenant.id for tenant in await self._tenants.all()]

    async def check_owner(self, id_: KeyId) -> None:
        """Raise NotFound when the tenant whose key it is has gone: its deletion, which broke off, takes it, too."""
        if id_ != COMMON:
            await self._tenants.get(TenantId(id_))

    async def _bring_all(
        self, tenant: TenantId, key: TenantKey, seen: Callable[[int], Awaitable[object]] | None
    ) -> bool:
        """Bring what a tenant has where it is to be; tell whether all is there. Of what is not, the first is told."""
        whole = True
        async for page in self._wrapped.of(tenant):
            for each in page:
                try:
                    await self._bring(each, key)
                except (KeyDisabled, KeyUnavailable) as error:
                    if whole:
                        _log.warning("not rewrapped", tenant=tenant, key_id=key.id, job=each.subject, **failure(error))
                    whole = False
                    if isinstance(error, KeyDisabled):
                        return False  # as it would be of the others: a key is, with all under it
            if seen:
                await seen(len(page))
        return whole

    async def _bring(self, each: Wrapped, key: TenantKey) -> None:
        """Bring one data key where it is to be, unless it has gone. Raises KeyDisabled, KeyUnavailable."""
        wanted = key.id, key.newest.number
        while (name := name_of(each.key, each.subject)) != wanted and name[0] in (key.id, COMMON):
            rewrapped = await self._keyring.rewrap(each.key, each.tenant, each.subject)
            if await self._wrapped.replace(each, rewrapped):
                return
            if (again := await self._wrapped.read_again(each)) is None:
                return
            each = again
