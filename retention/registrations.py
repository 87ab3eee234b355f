"""Callback URLs that tenants have registered, each sealed under a key of its own, found by a keyed tag of the URL.

The secret and the URL, whose query may hold another one, are never at rest in clear.
"""

import secrets
from datetime import datetime, timedelta

import msgspec
import structlog
from msgspec import Struct
from redis.asyncio import Redis
from redis.exceptions import WatchError

from retention import keyspace
from retention.connection import reaching_redis, script
from retention.errors import CustomerErased, KeyUnavailable, TenantGone, Unsealable
from retention.job import CustomerTag, RegistrationId, TenantId
from retention.keyring import Keyring
from retention.log import failure
from retention.seal import Context, Key, Kind, seal

_HOUR = timedelta(hours=1)
_TENANT_GONE, _ERASED = -1, -2

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


class _Secrets(Struct, frozen=True, kw_only=True):
    url: str
    secret: str | None


_decode = msgspec.json.Decoder(_Kept).decode
_encode = msgspec.json.Encoder().encode


class Registrations:
    """The callback URLs of one cell's tenants. Raises Unavailable from every method when Redis cannot be reached."""

    def __init__(self, redis: Redis, keyring: Keyring) -> None:
        self._redis = redis
        self._keyring = keyring
        self._register = script(redis, "register")

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

        Raises TenantGone, or CustomerErased when the customer was erased since it began.
        """
        url_tag = self._keyring.url_tag(tenant, url)
        tag = self._keyring.tag(tenant, customer) if customer is not None else None
        while True:
            before = await self._stored(tenant, url_tag)
            labels = frozenset([tag] if tag else [])
            kept = self._made(tenant, url_tag, _Secrets(url=url, secret=secret), labels, began=began, before=before)
            if await self._put(tenant, url_tag, kept, before=before, customer=tag, began=began):
                return Registration(id=kept.id, url=url, secret=secret, created=kept.created, customers=kept.customers)

    async def adopt(self, tenant: TenantId, known: Registration) -> bytes:
        """Register a URL that is registered in another cell, with its secret and the labels that it bears there.

        One that is registered here already keeps its secret, and bears those labels, too. Labels are tags of the cell
        where they were given: whoever erases a customer brings the tags of all cells. Returns what `disown` takes to
        undo it; nothing when there is nothing to undo. Raises TenantGone.
        """
        url_tag = self._keyring.url_tag(tenant, known.url)
        while True:
            before = await self._stored(tenant, url_tag)
            here = self._opened(tenant, _decode(before)) if before else None
            if here is not None and {*known.customers} <= {*here.customers}:
                return b""
            secrets_ = _Secrets(url=known.url, secret=here.secret if here else known.secret)
            labels = frozenset(known.customers)
            kept = self._made(tenant, url_tag, secrets_, labels, began=known.created, before=before)
            if await self._put(tenant, url_tag, kept, before=before, customer=None, began=known.created):
                return b"" if before else _encode(kept)

    async def disown(self, tenant: TenantId, known: Registration, adopted: bytes) -> None:
        """Take back what `adopt` has registered, unless it was registered anew since."""
        url_tag = self._keyring.url_tag(tenant, known.url)
        hash_ = keyspace.registrations_of(tenant)
        while adopted:
            with reaching_redis():
                async with self._redis.pipeline(transaction=True) as pipe:
                    await pipe.watch(hash_)
                    if await pipe.hget(hash_, url_tag) == adopted:
                        pipe.multi()
                        pipe.hdel(hash_, url_tag)
                        try:
                            await pipe.execute()
                        except WatchError:
                            continue
            return

    async def label(self, tenant: TenantId, known: Registration, customer: str, *, began: datetime) -> None:
        """Have a registration bear a customer's label, too. Raises what `keep` raises."""
        if self._keyring.tag(tenant, customer) not in known.customers:
            await self.keep(tenant, known.url, known.secret, customer=customer, began=began)

    async def remove(self, tenant: TenantId, url: str) -> bool:
        """Take a registration back; what is pending for it is not told any more. Returns whether it was there."""
        with reaching_redis():
            tag = self._keyring.url_tag(tenant, url)
            return bool(await self._redis.hdel(keyspace.registrations_of(tenant), tag))

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
                await self._redis.hdel(key, *labelled)

    async def remove_all(self, tenant: TenantId) -> None:
        """Take back all registrations of a tenant."""
        with reaching_redis():
            await self._redis.delete(keyspace.registrations_of(tenant))

    async def all(self, tenant: TenantId) -> list[Registration]:
        """Return a tenant's registrations, oldest first."""
        with reaching_redis():
            kept = map(_decode, await self._redis.hvals(keyspace.registrations_of(tenant)))
        opened = [self._opened(tenant, each) for each in kept]
        return sorted((each for each in opened if each), key=lambda each: each.created)

    async def admit_challenge(self, tenant: TenantId, most: int) -> timedelta | None:
        """Count a challenge; return None, or how long to wait when there were more than `most` within an hour."""
        key = keyspace.challenges_of(tenant)
        with reaching_redis():
            async with self._redis.pipeline(transaction=True) as pipe:
                pipe.set(key, 0, ex=_HOUR, nx=True)
                pipe.incr(key)
                pipe.pttl(key)
                _, count, left = await pipe.execute()
        return timedelta(milliseconds=max(left, 1000)) if count > most else None

    def _made(
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
            key=self._keyring.wrap(key, tenant, id_),
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
    ) -> bool:
        """Keep it; return whether what was there before still was. Raises TenantGone, CustomerErased."""
        with reaching_redis():
            landed = await self._register(
                keys=[keyspace.registrations_of(tenant), keyspace.TENANTS, keyspace.erased(tenant, customer)],
                args=[url_tag, _encode(kept), tenant, round(began.timestamp() * 1000), before],
            )
        if landed == _TENANT_GONE:
            raise TenantGone(tenant)
        if landed == _ERASED:
            raise CustomerErased(kept.id)
        return bool(landed)

    async def _stored(self, tenant: TenantId, url_tag: str) -> bytes:
        with reaching_redis():
            return await self._redis.hget(keyspace.registrations_of(tenant), url_tag) or b""

    async def _read(self, tenant: TenantId, url_tag: str) -> Registration | None:
        stored = await self._stored(tenant, url_tag)
        return self._opened(tenant, _decode(stored)) if stored else None

    def _opened(self, tenant: TenantId, kept: _Kept) -> Registration | None:
        """Open a registration; one whose key cannot be had is gone."""
        try:
            plain = self._keyring.unseal(kept.sealed, kept.key, Kind.REGISTRATION, tenant, kept.id)
        except (KeyUnavailable, Unsealable) as error:
            _log.error("registration does not open", tenant=tenant, **failure(error))
            return None
        found = msgspec.json.decode(plain, type=_Secrets)
        return Registration(
            id=kept.id, url=found.url, secret=found.secret, created=kept.created, customers=kept.customers
        )
