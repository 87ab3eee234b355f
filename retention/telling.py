"""What a notifier may do with a job's notifications: read the next one, note what became of it.

The outbox is the job itself: an event is a field of its hash, written together with the move that it is, and
gone with the job. `started` comes before `ended`, however long that takes. An event that nobody took for a day
is dead: kept apart, until the job goes or an operator has it told again.
"""

from collections.abc import Mapping
from datetime import UTC, datetime, timedelta
from typing import Literal

import msgspec
import structlog
from msgspec import Struct

from retention.errors import KeyUnavailable, NotFound, Unsealable
from retention.job import JobId, TenantId
from retention.keyring import Keyring
from retention.leases import Leases
from retention.log import failure
from retention.notification import GIVE_UP_AFTER, GONE, Hash, Pending, body, delay, signatures
from retention.outbox import BURIED
from retention.registrations import Registrations
from retention.seal import Kind
from retention.store import JobStore, Stored
from retention.tenants import Tenants

_SUCCESS = range(200, 300)

_log = structlog.get_logger()

Place = Literal["started", "ended"]


class Notification(Struct, frozen=True, kw_only=True):
    """What is to be sent, to whom, and the moment of this try."""

    tenant: TenantId
    job: JobId
    place: Place
    pending: Pending
    url: str
    body: bytes
    headers: Mapping[str, str]
    now: datetime


class Unwanted(Struct, frozen=True, kw_only=True):
    """What is pending of a job and is to be forgotten: its receiver is gone. Nothing, if nothing is pending."""

    places: tuple[Place, ...] = ()


class Telling:
    """The notifications of one cell. Raises Unavailable when the store cannot be reached."""

    def __init__(
        self,
        *,
        store: JobStore,
        keyring: Keyring,
        tenants: Tenants,
        registrations: Registrations,
        leases: Leases,
        hash_: Hash,
    ) -> None:
        self._store = store
        self._keyring = keyring
        self._tenants = tenants
        self._registrations = registrations
        self._leases = leases
        self._hash = hash_

    async def next(self, tenant: TenantId, job: JobId) -> Notification | Unwanted:
        """Return what is to be told next of a job, or what is not to be told any more."""
        stored = await self._store.read(tenant, job)
        if stored is None or stored.job.callback is None or not (stored.started or stored.ended):
            return Unwanted()
        place: Place = "started" if stored.started else "ended"
        registration = await self._registrations.get(tenant, stored.job.callback.registration)
        if registration is None:
            return Unwanted(places=(place,))
        pending = msgspec.json.decode(stored.started or stored.ended, type=Pending)
        try:
            message = await self._body(stored, pending)
            hash_ = (await self._tenants.get(tenant)).callback_signature or self._hash
            await self._keyring.admit(tenant, stored.key, job)  # the last question: what came before may take long
        except NotFound:
            return Unwanted(places=(place,))
        except (KeyUnavailable, Unsealable) as error:
            _log.error("notification does not open", tenant=tenant, job=job, **failure(error))
            return Unwanted(places=(place,))
        message_id = f"{job}_{place}"
        return Notification(
            tenant=tenant,
            job=job,
            place=place,
            pending=pending,
            url=registration.url,
            body=message,
            headers={
                "Content-Type": "application/json",
                **signatures(registration.secret, message, hash_=hash_, message_id=message_id, now=stored.now),
            },
            now=stored.now,
        )

    async def note(self, sent: Notification, status: int | None) -> Literal["taken", "again", "dead"]:
        """Note what the receiver answered, None for nothing, and end the lease (spec 3.5)."""
        now = await self._store.now()
        field = sent.place
        tried = msgspec.structs.replace(sent.pending, tries=sent.pending.tries + 1)
        if status is not None and status in _SUCCESS:
            await self._told(sent, now, {field: b""})
            return "taken"
        again = now + delay(tried.tries)
        since = datetime.fromtimestamp(tried.since / 1000, UTC)
        if status == GONE or again - since > GIVE_UP_AFTER:
            await self._told(sent, now, {field: b"", BURIED + field: msgspec.json.encode(tried)})
            return "dead"
        await self._told(sent, again, {field: msgspec.json.encode(tried)})
        return "again"

    async def put_off(self, tenant: TenantId, job: JobId, wait: timedelta) -> None:
        """Come back later without having tried, and end the lease."""
        come_back = await self._store.now() + wait
        await self._leases.told(tenant, job, come_back=come_back, fields={})

    async def forget(self, tenant: TenantId, job: JobId, unwanted: Unwanted) -> None:
        """Forget it, and end the lease. What has come to pass since it was read is pending all the same."""
        now = await self._store.now()
        await self._leases.told(tenant, job, come_back=now, fields=dict.fromkeys(unwanted.places, b""))

    async def _told(self, sent: Notification, come_back: datetime, fields: Mapping[str, bytes]) -> None:
        await self._leases.told(sent.tenant, sent.job, come_back=come_back, fields=fields)

    async def _body(self, stored: Stored, pending: Pending) -> bytes:
        job = stored.job
        token = results = b""
        if stored.user_token:
            token = await self._keyring.unseal(stored.user_token, stored.key, Kind.USER_TOKEN, job.tenant, job.id)
        if pending.event == "recognitions.completed_with_results":
            results = await self._keyring.unseal(stored.result, stored.key, Kind.RESULT, job.tenant, job.id)
        return body(job.id, pending.event, token.decode(), results or None)
