"""What may happen to jobs and registrations, each noted in the ledger as it is promised."""

import asyncio
import contextlib
from collections.abc import Awaitable, Callable, Iterator
from datetime import timedelta

from msgspec import Struct

from retention import keyspace
from retention.errors import (
    CustomerErased,
    JobProcessing,
    KeyDisabled,
    KeyUnavailable,
    NotFound,
    Superseded,
    TenantGone,
)
from retention.holding import Held
from retention.job import Callback, CustomerTag, RegistrationId
from retention.keys import KeyId
from retention.keystore import TenantKeys
from retention.telling import Unwanted
from tests.crashes.ledger import (
    CUSTOMER,
    SECRET,
    URL,
    Ledger,
    Promise,
    Registered,
    audio_of,
    results_of,
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


JOBS: dict[str, Operation] = {}


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


@operation(JOBS)
async def submit(cell: Cell, ledger: Ledger) -> None:
    await submitted(cell, ledger)


async def submitted(
    cell: Cell, ledger: Ledger, *, customer: str | None = CUSTOMER, callback: bool = False
) -> Promise | None:
    """Submit as a client does. Everybody who is not told that it was accepted may find it whole, or not at all."""
    tenant, nonce = cell.tenant, ledger.nonce()
    taken_away, era = ledger.taken_away, ledger.era(tenant)
    ledger.unanswered.add(nonce)
    registration = await cell.registrations.find(tenant, URL) if callback else None
    try:
        job = await cell.jobs.submit(
            tenant,
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
    may_go = ledger.taken_away != taken_away
    if not ledger.removing and (own := await TenantKeys(cell.redis).get(KeyId(tenant))) and own.purged:
        assert not await cell.naming(job), "a job was accepted under a key that is gone"
    return ledger.accept(job, nonce, era=era, may_go=may_go, callback=registration is not None)


@operation(JOBS, aims="waiting")
async def hold(cell: Cell, ledger: Ledger) -> None:
    """Take a job that waits, or that another worker had, and go on holding it."""
    promise = ledger.labelled("waiting")
    promise.attempts += 1
    try:
        async with cell.holding.hold(cell.tenant, promise.id) as held:
            if held is None:
                promise.attempts -= 1
                return
            assert held.submission == submission_of(promise.nonce)
            ledger.helds[promise.id] = held
    except Superseded:
        return


@operation(JOBS, aims="held")
async def retake(cell: Cell, ledger: Ledger) -> None:
    """Take a job whose worker has died."""
    ledger.labels["waiting"] = ledger.labels["held"]
    await hold(cell, ledger)


@operation(JOBS, aims="waiting")
async def stop(cell: Cell, ledger: Ledger) -> None:
    """Take a job, read its audio, and hand it back, as a worker does that stops, or whose job's key was disabled."""
    promise = ledger.labelled("waiting")
    promise.attempts += 1
    taken = asyncio.Event()

    async def work() -> None:
        async with cell.holding.hold(cell.tenant, promise.id) as held:
            if held:
                taken.set()
                await asyncio.Event().wait()

    task = asyncio.ensure_future(work())
    waiting = asyncio.ensure_future(taken.wait())
    await asyncio.wait({task, waiting}, return_when=asyncio.FIRST_COMPLETED)
    waiting.cancel()
    task.cancel()
    with contextlib.suppress(asyncio.CancelledError, Superseded):
        await task
    promise.attempts -= 1  # an orderly stop costs none


@operation(JOBS, aims="held")
async def finish(cell: Cell, ledger: Ledger) -> None:
    promise = ledger.labelled("held")
    held = ledger.helds[promise.id]
    with contextlib.suppress(Superseded):
        assert await audio_in(cell, held) in (audio_of(promise.nonce), b"")
        await cell.holding.finish(held, results_of(promise.nonce))
        promise.completed = True


@operation(JOBS, aims="held")
async def fail(cell: Cell, ledger: Ledger) -> None:
    promise = ledger.labelled("held")
    promise.may_fail = True
    with contextlib.suppress(Superseded):
        await cell.holding.fail(ledger.helds[promise.id], "engine")
        promise.failed = True


@operation(JOBS, aims="completed")
async def look_up(cell: Cell, ledger: Ledger) -> None:
    """Read each job, as clients do: what was not taken away is there, or denied."""
    for promise in [one for one in ledger.promises.values() if one.tenant == cell.tenant]:
        try:
            _, results = await cell.jobs.look_up(cell.tenant, promise.id)
        except KeyDisabled:
            continue
        except NotFound:
            assert promise.may_go, "a job that nobody took away was not found"
        else:
            assert not promise.gone, "a job that was taken away was found"
            assert results in (None, results_of(promise.nonce))


@operation(JOBS)
async def latest(cell: Cell, ledger: Ledger) -> None:
    """Read the list, as clients do."""
    with contextlib.suppress(KeyDisabled):
        listed = {job.id: token for job, token in await cell.jobs.latest(cell.tenant)}
        for promise in [one for one in ledger.promises.values() if one.tenant == cell.tenant]:
            if promise.id in listed:
                assert not promise.gone, "a job that was taken away was listed"
                assert not promise.callback or listed[promise.id] == promise.nonce, "a user token was lost"
            else:
                assert promise.may_go, "a job that nobody took away was not listed"


@operation(JOBS, aims="completed")
async def delete(cell: Cell, ledger: Ledger) -> None:
    promise = ledger.labelled("completed")
    before, promise.may_go, taken_away = promise.may_go, True, ledger.taken_away
    try:
        await cell.jobs.delete(cell.tenant, promise.id)
    except JobProcessing:
        promise.may_go = before
    except NotFound:
        others = before or promise.gone or ledger.taken_away != taken_away
        assert others, "a job that nobody took away could not be deleted"
        promise.gone = True
    else:
        promise.gone = True


@operation(JOBS, aims="waiting")
async def delete_waiting(cell: Cell, ledger: Ledger) -> None:
    ledger.labels["completed"] = ledger.labels["waiting"]
    await delete(cell, ledger)


@operation(JOBS)
async def erase_customer(cell: Cell, ledger: Ledger) -> None:
    tag = cell.keyring.tag(cell.tenant, CUSTOMER)
    with taking_away(cell, ledger, customer=tag) as done:
        ledger.erasing.add(cell.tenant)
        await cell.jobs.erase_customer(cell.tenant, CUSTOMER)
        ledger.erasing.discard(cell.tenant)
        done.set()


@operation(JOBS)
async def delete_tenant(cell: Cell, ledger: Ledger) -> None:
    ledger.dismissed.add(cell.tenant)
    ledger.deleting.add(cell.tenant)
    with taking_away(cell, ledger) as done:
        with contextlib.suppress(NotFound):
            await cell.jobs.delete_tenant(cell.tenant)
        done.set()
    ledger.deleting.discard(cell.tenant)


@operation(JOBS)
async def register(cell: Cell, ledger: Ledger) -> None:
    """Register a new URL, and the old one anew."""
    for url in (f"{URL}/2", URL):
        await registered(cell, ledger, url)


async def registered(cell: Cell, ledger: Ledger, url: str) -> None:
    taken_away, era = ledger.taken_away, ledger.era(cell.tenant)
    known = ledger.registered.get((cell.tenant, url))
    with contextlib.suppress(KeyDisabled, TenantGone):
        await cell.registrations.keep(cell.tenant, url, SECRET, customer=None, began=await cell.store.now())
        may_go = ledger.taken_away != taken_away or cell.tenant in ledger.dismissed
        if known is None or known.gone or known.era != era:
            one = Registered(tenant=cell.tenant, url=url, era=era, may_go=may_go)
            ledger.registered[cell.tenant, url] = one


@operation(JOBS)
async def unregister(cell: Cell, ledger: Ledger) -> None:
    known = ledger.registered.get((cell.tenant, URL))
    if known:
        known.may_go = True
    await cell.registrations.remove(cell.tenant, URL)
    if known and known is ledger.registered.get((cell.tenant, URL)):
        known.gone = True


@operation(JOBS, aims="told")
async def tell(cell: Cell, ledger: Ledger) -> None:
    """Tell the client of a job, as a notifier does."""
    promise = ledger.labelled("told")
    telling = cell.telling()
    if keyspace.NOTIFICATION.entry(promise.id) not in await telling._leases.claim(100, lapsed=True):
        return
    await told(cell, ledger, promise)


async def told(cell: Cell, ledger: Ledger, promise: Promise) -> None:
    telling = cell.telling()
    await cell.redis.set(keyspace.NOTIFICATION.lease(promise.id), telling._leases.token, ex=3600)
    try:
        found = await telling.next(cell.tenant, promise.id)
    except KeyDisabled:
        await telling.put_off(cell.tenant, promise.id, timedelta(seconds=30))
        return
    if isinstance(found, Unwanted):
        registration = ledger.registered.get((cell.tenant, URL))
        wanted = registration is not None and not registration.may_go and not promise.may_go
        assert not (wanted and found.places), "a notification was thrown away"
        await telling.forget(cell.tenant, promise.id, found)
        return
    assert promise.nonce.encode() in found.body
    await telling.note(found, 200)


@operation(JOBS)
async def go_round(cell: Cell, ledger: Ledger) -> None:
    """Let the caretaker look at everything, due or not."""
    del ledger
    await everything_is_due(cell)
    await cell.caretaker.round("caretaker", during=timedelta(seconds=10))


@operation(JOBS, aims="completed")
async def erase_from_log(cell: Cell, ledger: Ledger) -> None:
    ledger.unlogged = True
    await cell.log.erase(cell.tenant, ledger.labels["completed"])


@operation(JOBS, aims="completed")
async def read_log(cell: Cell, ledger: Ledger) -> None:
    """Read the request log, as an operator does."""
    promise = ledger.labelled("completed")
    try:
        opened = await cell.log.open(cell.tenant, promise.id)
    except KeyDisabled:
        return
    except (NotFound, KeyUnavailable):
        assert promise.may_go or ledger.unlogged, "what nobody took away is not in the log"
        return
    assert opened.results == results_of(promise.nonce)


@operation(JOBS)
async def work_through(cell: Cell, ledger: Ledger) -> None:
    """Take all that is in the queue, as a worker does; what its key does not allow is parked."""
    leases = cell.worker(lease=HOUR)
    for id_ in await leases.claim(1000, lapsed=True):
        if (promise := ledger.promises.get(id_)) is None:
            continue
        promise.attempts += 1
        with contextlib.suppress(Superseded):
            async with cell.holding_of(leases).hold(promise.tenant, id_) as held:
                if held is None:
                    promise.attempts -= 1
                else:
                    ledger.helds[id_] = held
            await leases.settle(id_, done=True)


async def everything_is_due(cell: Cell) -> None:
    """Let the time come at which somebody must look at each job."""
    if members := await cell.redis.zrange(keyspace.DUE, 0, -1):
        await cell.redis.zadd(keyspace.DUE, dict.fromkeys(members, 0))


async def audio_in(cell: Cell, held: Held) -> bytes:
    """Return the audio of a held job; nothing of one whose audio has gone."""
    if not await cell.audio.holds(held.job.tenant, held.job.id):
        return b""
    return b"".join([piece async for piece in cell.holding.audio(held)])


class Done:
    """Whether a removal has returned."""

    def __init__(self) -> None:
        self.is_set = False

    def set(self) -> None:
        self.is_set = True


@contextlib.contextmanager
def taking_away(cell: Cell, ledger: Ledger, *, customer: CustomerTag | None = None) -> Iterator[Done]:
    """Note that what a tenant or a customer has may go from here on, and whether it has gone."""
    era, done = ledger.era(cell.tenant), Done()
    ledger.take_away(cell.tenant, era=era, customer=customer)
    ledger.removing += 1
    try:
        yield done
        ledger.removing -= 1
    finally:
        ledger.take_away(cell.tenant, era=era, customer=customer, done=done.is_set)


def _callback(registration: RegistrationId) -> Callback:
    return Callback(registration=registration, events=("recognitions.started", "recognitions.completed_with_results"))
