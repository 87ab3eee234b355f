"""Callback URLs that tenants have registered, each sealed under a key of its own, found by a keyed tag of the URL.

The secret and the URL, whose query may hold another one, are never at rest in clear.
"""

import contextlib
import secrets
from datetime import datetime, timedelta
from typing import Final

import msgspec
import structlog
from msgspec import Struct
from redis.asyncio import Redis

from retention import keyspace
from retention.audit import Audit
from retention.cell_settings import HOME
from retention.connection import batches, reaching_redis, script
from retention.erasures import erasing
from retention.errors import CustomerErased, KeyUnavailable, Superseded, TenantGone, Unavailable, Unsealable
from retention.job import CustomerTag, RegistrationId, TenantId
from retention.keyring import Keyring
from retention.log import failure
from retention.seal import Context, Key, Kind, seal

_HOUR = timedelta(hours=1)
_CREATE: Final = "speech-to-text.async-recognition-notification-url.create"
_DELETE: Final = "speech-to-text.async-recognition-notification-url.delete"
_TENANT_GONE, _ERASED, _WRAP_REFUSED, _KEY_LACKS = -1, -2, -3, -4

_log = structlog.get_logger()


class Registration(Struct, frozen=True, kw_only=True):
    """A callback URL, byte for byte as the client gave it, and the secret that proves notifications to its owner."""

    id: RegistrationId
    url: str
    secret: str | None
    created: datetime
    customers: tuple[CustomerTag, ...]
    """Whose label it bears: whoever labels it again adds one, and no label is ever dropped."""


class _Kept(Struct, frozen=True, kw_only=True):
    id: RegistrationId
    created: datetime
    key: bytes
    sealed: bytes
    customers: tuple[CustomerTag, ...] = ()
    tentative: bool = False
    """Whether it came from another cell, and might have been taken back there: until `settle` it does not count."""


class _Secrets(Struct, frozen=True, kw_only=True):
    url: str
    secret: str | None


_decode = msgspec.json.Decoder(_Kept).decode
_encode = msgspec.json.Encoder().encode


class Registrations:
    """The callback URLs of one cell's tenants. Raises Unavailable from every method when Redis cannot be reached.

    What a tenant registers and takes back is in the audit log, and raises AuditBroken, too. What goes with a customer
    or a tenant is part of what is recorded of these.
    """

    def __init__(self, redis: Redis, keyring: Keyring, audit: Audit, *, cell: str = HOME) -> None:
        self._redis = redis
        self._cell = cell
        self._keyring = keyring
        self._audit = audit
        self._erase = erasing(redis)
        self._register = script(redis, "wrap", "full", "noted", "register")
        self._rewrap = script(redis, "wrap", "full", "noted", "rewrap")

    async def find(self, tenant: TenantId, url: str) -> Registration | None:
        """Return the registration of this very URL."""
        return await self._read(tenant, self._keyring.url_tag(tenant, url))

    async def get(self, tenant: TenantId, id_: RegistrationId) -> Registration | None:
        """Return a registration, or None when it was taken back, even if its URL was registered again since."""
        found = await self._read(tenant, id_.partition("/")[0])
        return found if found is not None and found.id == id_ else None

    async def keep(
        self, tenant: TenantId, url: str, secret: str | None, *, customer: str | None, began: datetime
    ) -> Registration:
        """Register a URL, in place of what was registered for it, whose labels it bears as well.

        Raises TenantGone, KeyDisabled, or CustomerErased when the customer was erased since it began.
        """
        url_tag = self._keyring.url_tag(tenant, url)
        tag = self._keyring.tag(tenant, customer) if customer is not None else None
        while True:
            before = await self._stored(tenant, url_tag)
            kept = await self._made(
                tenant,
                url_tag,
                _Secrets(url=url, secret=secret),
                frozenset([tag] if tag else []),
                began=began,
                before=before,
            )
            with contextlib.suppress(Superseded):
                async with self._audit.recording(_CREATE, tenant=tenant, target=_target(kept.id)):
                    await self._put(tenant, url_tag, kept, before=before, customer=tag, began=began)
                return Registration(id=kept.id, url=url, secret=secret, created=kept.created, customers=kept.customers)

    async def adopt(self, tenant: TenantId, known: Registration) -> bytes:
        """Register a URL that is registered in another cell, with its secret and the labels that it bears there.

        One that is registered here already keeps its secret, and bears those labels, too. Labels are tags of the cell
        where they were given: whoever erases a customer brings the tags of all cells. What was not registered here
        does not count before `settle`, which takes what is returned, and so does `disown`, to undo it; nothing when it
        counts already. Raises TenantGone, KeyDisabled.
        """
        url_tag = self._keyring.url_tag(tenant, known.url)
        while True:
            before = await self._stored(tenant, url_tag)
            here = await self._opened(tenant, _decode(before)) if before else None
            if here is not None and {*known.customers} <= {*here.customers}:
                return b""
            secrets_ = _Secrets(url=known.url, secret=here.secret if here else known.secret)
            labels = frozenset(known.customers)
            kept = await self._made(tenant, url_tag, secrets_, labels, began=known.created, before=before)
            kept = msgspec.structs.replace(kept, tentative=here is None)
            with contextlib.suppress(Superseded):
                await self._put(tenant, url_tag, kept, before=before, customer=None, began=known.created)
                return _encode(kept) if kept.tentative else b""

    async def settle(self, tenant: TenantId, known: Registration, adopted: bytes) -> None:
        """Have count what `adopt` has registered. Raises Superseded when it has changed since, or is gone."""
        if adopted:
            kept = msgspec.structs.replace(_decode(adopted), tentative=False)
            tag = self._keyring.url_tag(tenant, known.url)
            await self._put(tenant, tag, kept, before=adopted, customer=None, began=known.created)

    async def disown(self, tenant: TenantId, known: Registration, adopted: bytes) -> None:
        """Take back what `adopt` has registered, unless it was registered anew since."""
        url_tag = self._keyring.url_tag(tenant, known.url)
        hash_ = keyspace.registrations_of(tenant)
        while adopted and (found := await self._stored(tenant, url_tag)):
            if with_key(found, b"") != with_key(adopted, b""):  # a key may have been rotated since
                return
            with reaching_redis():
                if await self._rewrap(
                    keys=[hash_, keyspace.TENANT_KEYS, keyspace.ERASURES], args=[url_tag, found, "", tenant, ""]
                ):
                    return

    async def label(self, tenant: TenantId, known: Registration, customer: str, *, began: datetime) -> None:
        """Have a registration bear a customer's label, too. Raises what `keep` raises."""
        if self._keyring.tag(tenant, customer) not in known.customers:
            await self.keep(tenant, known.url, known.secret, customer=customer, began=began)

    async def remove(self, tenant: TenantId, url: str) -> bool:
        """Take a registration back; what is pending for it is not told any more. Returns whether it was there."""
        tag = self._keyring.url_tag(tenant, url)
        stored = await self._stored(tenant, tag)
        if not stored:
            return False
        async with self._audit.recording(_DELETE, tenant=tenant, target=_target(_decode(stored).id)):
            with reaching_redis():
                return await self._drop(tenant, tag) > 0

    async def remove_customer(self, tenant: TenantId, customer: frozenset[CustomerTag]) -> None:
        """Take back all registrations that bear a customer's label, by any of the tags that cells have for it."""
        key = keyspace.registrations_of(tenant)
        with reaching_redis():
            labelled = [
                tag
                for tag, kept in (await self._redis.hgetall(key)).items()
                if not customer.isdisjoint(_decode(kept).customers)
            ]
            if labelled:
                await self._drop(tenant, *labelled)

    async def remove_all(self, tenant: TenantId) -> bool:
        """Take back all registrations of a tenant; tell whether there were any."""
        with reaching_redis():
            return await self._erase(("DEL", keyspace.registrations_of(tenant))) == [1]

    async def all(self, tenant: TenantId) -> list[Registration]:
        """Return a tenant's registrations, oldest first."""
        with reaching_redis():
            kept = map(_decode, await self._redis.hvals(keyspace.registrations_of(tenant)))
        opened = [await self._opened(tenant, each) for each in kept]
        return sorted((each for each in opened if each), key=lambda each: each.created)

    async def admit_challenge(self, tenant: TenantId, most: int) -> timedelta | None:
        """Count a challenge; return None, or how long to wait when there were more than `most` within an hour.

        Raises KeyDisabled, when what it is made for could not be kept.
        """
        await self._keyring.admit_wrap(tenant)
        key = keyspace.challenges_of(tenant)
        with reaching_redis():
            async with self._redis.pipeline(transaction=True) as pipe:
                pipe.set(key, 0, ex=_HOUR, nx=True)
                pipe.incr(key)
                pipe.pttl(key)
                _, count, left = await pipe.execute()
        return timedelta(milliseconds=max(left, 1000)) if count > most else None

    async def _made(
        self,
        tenant: TenantId,
        url_tag: str,
        content: _Secrets,
        labels: frozenset[CustomerTag],
        *,
        began: datetime,
        before: bytes,
    ) -> _Kept:
        """Make what is to be kept in the place of what was kept before, whose labels it bears as well."""
        known = _decode(before) if before else None
        # A new secret leaves the registration itself as it is: what is pending is still to be told.
        id_ = known.id if known else RegistrationId(f"{url_tag}/{secrets.token_hex(8)}")
        key = Key.random()
        context = Context(kind=Kind.REGISTRATION, tenant=tenant, job=id_)
        return _Kept(
            id=id_,
            created=known.created if known else began,
            key=await self._keyring.wrap(key, tenant, id_),
            sealed=seal(key, msgspec.json.encode(content), context),
            customers=tuple(sorted(labels.union(known.customers if known else ()))),
        )

    async def _put(
        self,
        tenant: TenantId,
        url_tag: str,
        kept: _Kept,
        *,
        before: bytes,
        customer: CustomerTag | None,
        began: datetime,
    ) -> None:
        """Keep it in the place of what was there before.

        Raises TenantGone, CustomerErased; Superseded when that, or the key that wraps it, has changed meanwhile.
        """
        with reaching_redis():
            landed = await self._register(
                keys=[
                    keyspace.registrations_of(tenant),
                    keyspace.TENANTS,
                    keyspace.erased(tenant, customer),
                    keyspace.TENANT_KEYS,
                    keyspace.ERASURES,
                ],
                args=[url_tag, _encode(kept), tenant, round(began.timestamp() * 1000), before, kept.key, self._cell],
            )
        if landed == _TENANT_GONE:
            raise TenantGone(tenant)
        if landed == _ERASED:
            raise CustomerErased(kept.id)
        if landed == _KEY_LACKS:
            raise Unavailable(f"the tenant {tenant} has no key of its own in this cell yet")
        if not landed or landed == _WRAP_REFUSED:
            raise Superseded(kept.id)

    async def _drop(self, tenant: TenantId, *tags: str | bytes) -> int:
        """Take registrations back by the tags of their URLs. Returns how many there were."""
        key = keyspace.registrations_of(tenant)
        return sum(await self._erase(*(("HDEL", key, *batch) for batch in batches(tags))))

    async def _stored(self, tenant: TenantId, url_tag: str) -> bytes:
        with reaching_redis():
            return await self._redis.hget(keyspace.registrations_of(tenant), url_tag) or b""

    async def _read(self, tenant: TenantId, url_tag: str) -> Registration | None:
        stored = await self._stored(tenant, url_tag)
        return await self._opened(tenant, _decode(stored)) if stored else None

    async def _opened(self, tenant: TenantId, kept: _Kept) -> Registration | None:
        """Open a registration; one whose key cannot be had is gone, and one that does not count yet is not there."""
        if kept.tentative:
            return None
        try:
            plain = await self._keyring.unseal(kept.sealed, kept.key, Kind.REGISTRATION, tenant, kept.id)
        except (KeyUnavailable, Unsealable) as error:
            _log.error("registration does not open", tenant=tenant, **failure(error))
            return None
        found = msgspec.json.decode(plain, type=_Secrets)
        return Registration(
            id=kept.id, url=found.url, secret=found.secret, created=kept.created, customers=kept.customers
        )


def key_in(kept: bytes) -> bytes:
    """Return the wrapped data key in a registration, as it is stored."""
    return _decode(kept).key


def subject_of(kept: bytes) -> RegistrationId:
    """Return the id of a registration, as it is stored, to which its data key is bound."""
    return _decode(kept).id


def with_key(kept: bytes, key: bytes) -> bytes:
    """Return a registration, as it is stored, with its data key wrapped anew."""
    return _encode(msgspec.structs.replace(_decode(kept), key=key))


def _target(id_: RegistrationId) -> str:
    """Return what the audit log calls a registration: the random part of its id, and nothing made from the URL."""
    return id_.partition("/")[2]
