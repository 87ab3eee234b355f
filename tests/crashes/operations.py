"""What an operation is, and how what is done is noted in the ledger."""

import contextlib
import sys
from collections.abc import Awaitable, Callable, Iterator
from datetime import timedelta

from msgspec import Struct

from retention import keyspace
from retention.errors import (
    CustomerErased,
    KeyDisabled,
    TenantGone,
    Unavailable,
)
from retention.job import Callback, CustomerTag, RegistrationId
from retention.keys import KeyId
from retention.keystore import TenantKeys
from retention.telling import Unwanted
from retention.tenant import Credential
from tests.crashes.ledger import (
    CUSTOMER,
    SECRET,
    URL,
    Ledger,
    Promise,
    Registered,
    audio_of,
    submission_of,
)
from tests.integration.cell import HOUR, Cell, spoken


class Operation(Struct, frozen=True, kw_only=True):
    """One thing that somebody does. `aims` says to which of the jobs it is done, if to one."""

    name: str
    run: Callable[[Cell, Ledger], Awaitable[None]]
    aims: str = ""
    scenes: frozenset[str] = frozenset({"common", "own", "imported"})
    prepare: tuple["Operation", ...] = ()


def operation(
    table: dict[str, Operation], *, aims: str = "", scenes: str = "common own imported", prepare: tuple[str, ...] = ()
) -> Callable[[Callable[[Cell, Ledger], Awaitable[None]]], Callable[[Cell, Ledger], Awaitable[None]]]:
    """Enter a function as an operation of its own name; those it prepares with stand before it in the same table."""

    def enter(run: Callable[[Cell, Ledger], Awaitable[None]]) -> Callable[[Cell, Ledger], Awaitable[None]]:
        name = run.__name__.strip("_")
        table[name] = Operation(
            name=name,
            run=run,
            aims=aims,
            scenes=frozenset(scenes.split()),
            prepare=tuple(table[each] for each in prepare),
        )
        return run

    return enter


async def submitted(
    cell: Cell, ledger: Ledger, *, customer: str | None = CUSTOMER, callback: bool = False
) -> Promise | None:
    """Submit as a client does. Everybody who is not told that it was accepted may find it whole, or not at all."""
    tenant, nonce = cell.tenant, ledger.nonce()
    taken_away, era = ledger.taken_away, ledger.era(tenant)
    ledger.unanswered.add(nonce)
    registration = await cell.registrations.find(tenant, URL) if callback else None
    try:
        job = await cell.acceptance.submit(
            Credential(tenant=tenant),
            submission_of(nonce),
            spoken(audio_of(nonce)),
            began=await cell.jobs.now(),
            results_ttl=HOUR,
            customer=customer,
            callback=_callback(registration.id) if registration else None,
            user_token=nonce if registration else "",
        )
    except (KeyDisabled, TenantGone, CustomerErased):
        return None
    except Unavailable:
        assert ledger.taken_away != taken_away, "a job was not accepted although nobody took it away"
        return None
    if not ledger.removing and (own := await TenantKeys(cell.redis).get(KeyId(tenant))) and own.purged:
        assert not await cell.naming(job), "a job was accepted under a key that is gone"
    may_go = ledger.taken_away != taken_away
    return ledger.accept(job, nonce, era=era, may_go=may_go, registration=registration.id if registration else None)


async def registered(cell: Cell, ledger: Ledger, url: str) -> None:
    taken_away, era = ledger.taken_away, ledger.era(cell.tenant)
    known = ledger.registered.get((cell.tenant, url))
    with contextlib.suppress(KeyDisabled, TenantGone):
        kept = await cell.registrations.keep(cell.tenant, url, SECRET, customer=None, began=await cell.store.now())
        may_go = ledger.taken_away != taken_away or cell.tenant in ledger.dismissed
        if known is None or known.gone or known.era != era:
            one = Registered(tenant=cell.tenant, id=kept.id, url=url, era=era, may_go=may_go)
            ledger.registered[cell.tenant, url] = one


async def told(cell: Cell, ledger: Ledger, promise: Promise) -> None:
    telling = cell.telling()
    await cell.redis.set(keyspace.NOTIFICATION.lease(promise.id), telling._leases.token, ex=3600)
    try:
        found = await telling.next(cell.tenant, promise.id)
    except KeyDisabled:
        await telling.put_off(cell.tenant, promise.id, timedelta(seconds=30))
        return
    if isinstance(found, Unwanted):
        assert not found.places or not ledger.wants_to_know(promise), "a notification was thrown away"
        await telling.forget(cell.tenant, promise.id, found)
        return
    assert promise.nonce.encode() in found.body
    await telling.note(found, 200)


async def everything_is_due(cell: Cell) -> None:
    """Let the time come at which somebody must look at each job."""
    if members := await cell.redis.zrange(keyspace.DUE, 0, -1):
        await cell.redis.zadd(keyspace.DUE, dict.fromkeys(members, 0))


class Done:
    """Whether a removal has returned."""

    def __init__(self) -> None:
        self.is_set = False

    def set(self) -> None:
        self.is_set = True


@contextlib.contextmanager
def taking_away(
    cell: Cell, ledger: Ledger, *, customer: CustomerTag | None = None, with_key: bool = False
) -> Iterator[Done]:
    """Note that what a tenant or a customer has may go from here on, and whether it has gone.

    `with_key`: only what is under the key that the tenant has now.
    """
    era, done = ledger.era(cell.tenant) if with_key else sys.maxsize, Done()
    ledger.take_away(cell.tenant, era=era, customer=customer)
    ledger.removing += 1
    try:
        yield done
        ledger.removing -= 1
    finally:
        ledger.take_away(cell.tenant, era=era, customer=customer, done=done.is_set)


def _callback(registration: RegistrationId) -> Callback:
    return Callback(registration=registration, events=("recognitions.started", "recognitions.completed_with_results"))
