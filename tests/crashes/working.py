"""What may happen to jobs and registrations, each noted in the ledger as it is promised."""

import asyncio
import contextlib
from datetime import timedelta

from retention import keyspace
from retention.errors import (
    AudioMissing,
    JobProcessing,
    KeyDisabled,
    KeyUnavailable,
    NotFound,
    Superseded,
)
from tests.crashes.ledger import (
    CUSTOMER,
    URL,
    Ledger,
    audio_of,
    results_of,
    submission_of,
)
from tests.crashes.operations import Operation, everything_is_due, operation, registered, submitted, taking_away, told
from tests.integration.cell import HOUR, Cell

JOBS: dict[str, Operation] = {}


@operation(JOBS)
async def submit(cell: Cell, ledger: Ledger) -> None:
    await submitted(cell, ledger)


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
        try:
            heard = b"".join([piece async for piece in cell.holding.audio(held)])
        except AudioMissing:
            assert promise.may_go or promise.completed or promise.may_fail, "the audio of a job in hand is lost"
        else:
            assert heard == audio_of(promise.nonce)
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
    known = [one for one in ledger.promises.values() if one.tenant == cell.tenant]
    with contextlib.suppress(KeyDisabled):
        listed = {job.id: token for job, token in await cell.jobs.latest(cell.tenant)}
        for promise in known:
            if promise.id in listed:
                assert not promise.gone, "a job that was taken away was listed"
                assert not promise.registration or listed[promise.id] == promise.nonce, "a user token was lost"
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


@operation(JOBS)
async def unregister(cell: Cell, ledger: Ledger) -> None:
    known = ledger.registered.get((cell.tenant, URL))
    if known:
        known.may_go = True
    ledger.taken_away += 1
    await cell.registrations.remove(cell.tenant, URL)
    if (now := ledger.registered.get((cell.tenant, URL))) is not None:
        now.gone, now.may_go = now is known, True  # another one was made meanwhile, before or after


@operation(JOBS, aims="told")
async def tell(cell: Cell, ledger: Ledger) -> None:
    """Tell the client of a job, as a notifier does."""
    promise = ledger.labelled("told")
    telling = cell.telling()
    if keyspace.NOTIFICATION.entry(promise.id) not in await telling._leases.claim(100, lapsed=True):
        return
    await told(cell, ledger, promise)


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
        assert not promise.completed or promise.may_go or ledger.unlogged, "what nobody took away is not in the log"
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
