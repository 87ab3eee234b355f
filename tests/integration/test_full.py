"""A full Redis: it takes nothing new, and everything that erases, denies, records that, or ends a job goes on."""

from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import asynccontextmanager
from datetime import timedelta
from pathlib import Path
from typing import get_args

import pytest
from redis.asyncio import Redis
from redis.exceptions import OutOfMemoryError

from retention import keyspace
from retention.audit import Audit
from retention.byok import Algorithm, encrypt
from retention.caretaking import Round
from retention.errors import KeyRefused, LimitReached, Unavailable
from retention.job import Failed, JobId
from retention.keys import COMMON, KeyId, KeyState
from retention.limits import Count
from retention.offers import Offers
from retention.seal import Key
from retention.tenant import Credential
from tests.integration.audited import records, told
from tests.integration.cell import HOUR, RESCUE_AFTER, RESULTS, WEEK, Cell, open_cell
from tests.integration.keyed import (
    URL,
    Everything,
    all_is_denied,
    all_is_gone,
    all_opens,
    names,
    one_of_everything,
)
from tests.integration.logged import MONTH, UNWILLING, accepted, everything_logged, worked_on
from tests.integration.notifying import ended, fetched, leases_of, registered, telling
from tests.recognizers import EMBEDDED
from tests.stack import wait_until

MOMENT = timedelta(milliseconds=1)


@pytest.fixture
async def cell(redis: Redis, tmp_path: Path) -> Cell:
    """Give an empty cell with one tenant, and a request log."""
    return await open_cell(redis, tmp_path / "audio", request_log=MONTH)


@asynccontextmanager
async def full(cell: Cell) -> AsyncIterator[None]:
    """Have Redis be full for as long as the block lasts, whatever is erased in it."""
    await cell.redis.config_set("maxmemory", 1)
    try:
        with pytest.raises(OutOfMemoryError):
            await cell.redis.set("volant:one-more", "")
        yield
    finally:
        await cell.redis.config_set("maxmemory", 0)


async def everything_kept(cell: Cell) -> dict[bytes, bytes]:
    """Return all that Redis holds, but for the audit log, which tells what was tried, and locks."""
    others = {keyspace.AUDIT, keyspace.AUDIT_ENDS, keyspace.CARETAKER, keyspace.ERASURES}
    return {
        key: await cell.redis.dump(key) async for key in cell.redis.scan_iter(count=1000) if key.decode() not in others
    }


async def test_what_is_new_is_refused_and_leaves_nothing(cell: Cell) -> None:
    """Jobs before their upload as after it, callback URLs, import tokens, tenants and API keys; no job is taken up."""
    waiting = await cell.submit()
    leases = cell.worker()
    credential = Credential(tenant=cell.tenant)

    async def upload() -> None:
        async with cell.acceptance.upload(credential, size=1):
            pytest.fail("it has begun")

    async def register() -> None:
        await cell.registrations.keep(cell.tenant, URL, None, customer=None, began=await cell.jobs.now())

    attempts: list[Callable[[], Awaitable[object]]] = [
        upload,
        cell.submit,
        register,
        lambda: cell.registrations.admit_challenge(cell.tenant, 10),
        lambda: cell.imports.token(cell.tenant),
        lambda: cell.tenants.create_key(cell.tenant, now=waiting.created),
        lambda: cell.tenants.create("another", now=waiting.created),
        lambda: leases.claim(1, lapsed=True),
    ]
    before, recordings = await everything_kept(cell), cell.recordings()
    async with full(cell):
        for attempt in attempts:
            with pytest.raises(Unavailable):
                await attempt()
        await cell.acceptance.close()
        assert await everything_kept(cell) == before
        assert cell.recordings() == recordings
        assert await cell.listed() == [waiting]
    assert await leases.claim(2, lapsed=True) == [waiting.id]


async def test_what_is_registered_or_promised_to_a_customer_already_is_not_replaced(cell: Cell) -> None:
    """An update is as new as anything else, although it erases what was there before."""
    await registered(cell, URL)
    await cell.imports.token(cell.tenant)
    before = await everything_kept(cell)
    async with full(cell):
        with pytest.raises(Unavailable):
            await cell.registrations.keep(cell.tenant, URL, "other", customer=None, began=await cell.jobs.now())
        with pytest.raises(Unavailable):
            await cell.imports.token(cell.tenant)
        assert await everything_kept(cell) == before


async def test_jobs_are_deleted(cell: Cell) -> None:
    """Waiting and completed ones, with what the request log has of them; and the audit log says so."""
    waiting, completed = await accepted(cell), await accepted(cell)
    await worked_on(cell, completed)
    async with full(cell):
        for job in (waiting, completed):
            await cell.jobs.delete(cell.tenant, job.id)
            assert await cell.naming(job) == []
        assert await everything_logged(cell) == []
        event = "speech-to-text.async-recognition-job.delete"
        assert (await told(cell.audit))[-4:] == [
            (event, outcome) for _ in range(2) for outcome in ("pending", "success")
        ]


async def erase_customer(cell: Cell) -> None:
    assert await cell.jobs.erase_customer(cell.tenant, "c") == len(Everything._fields)
    (fence,) = [key async for key in cell.redis.scan_iter("volant:erased:*")]
    await cell.redis.delete(fence)  # or it is found below


async def delete_tenant(cell: Cell) -> None:
    assert await cell.jobs.delete_tenant(cell.tenant) == len(Everything._fields)


async def purge(cell: Cell) -> None:
    await cell.custody.destroy(KeyId(cell.tenant), grace=None)


async def purge_in_time(cell: Cell) -> None:
    await cell.custody.destroy(KeyId(cell.tenant), grace=MOMENT)

    async def is_purged() -> bool:
        await cell.custody.tend("t")
        return (await cell.custody.get(KeyId(cell.tenant))).purged

    await wait_until(is_purged)


@pytest.mark.parametrize("erase", [erase_customer, delete_tenant, purge, purge_in_time])
async def test_all_of_somebody_is_erased(cell: Cell, erase: Callable[[Cell], Awaitable[None]]) -> None:
    """A customer, a tenant, what is under a key that is destroyed: nothing is left, and the file is rewritten."""
    await cell.custody.create(cell.tenant)
    everything = await one_of_everything(cell)
    token = await cell.tenants.create_key(cell.tenant, now=await cell.jobs.now())
    async with full(cell):
        await erase(cell)
        if erase is not delete_tenant:
            assert await cell.authenticated(token) == cell.tenant
            assert await cell.jobs.delete_tenant(cell.tenant) == 0
        await all_is_gone(cell, everything)
        assert await cell.authenticated(token) is None

        async def is_clean() -> bool:
            await cell.erasures.tend()
            return (await cell.erasures.status()).oldest is None

        assert not await is_clean()
        await wait_until(is_clean)


async def test_callback_urls_import_tokens_and_credentials_are_taken_back(cell: Cell) -> None:
    """By whoever has them, and by a move that is undone."""
    await registered(cell, URL)
    (known,) = await cell.registrations.all(cell.tenant)
    key = await cell.tenants.create_key(cell.tenant, now=known.created)
    other = cell.of((await cell.tenants.create("other", now=known.created)).id)
    adopted = await cell.registrations.adopt(other.tenant, known)
    token = await cell.imports.token(cell.tenant)
    algorithm = get_args(Algorithm)[0]
    wrapped, _ = encrypt(token, Key.random(), algorithm)
    async with full(cell):
        assert await cell.registrations.remove(cell.tenant, URL)
        await cell.registrations.disown(other.tenant, known, adopted)
        assert [key async for key in cell.redis.scan_iter("volant:callbacks:*")] == []
        with pytest.raises(KeyRefused):
            await cell.imports.material(cell.tenant, token.id, wrapped=wrapped, proof=b"", algorithm=algorithm)
        assert [key async for key in cell.redis.scan_iter("volant:importtoken:*")] == []
        await cell.tenants.revoke(key.split("_")[1])
        assert await cell.authenticated(key) is None


async def test_keys_deny_and_are_taken_back(cell: Cell) -> None:
    """Disabled and enabled, destroyed and restored, rotated, and ended by their date."""
    now = await cell.jobs.now()
    await cell.custody.create(cell.tenant, expires=now + timedelta(seconds=1))
    everything = await one_of_everything(cell)
    id_ = KeyId(cell.tenant)
    async with full(cell):
        await cell.custody.disable(id_)
        await all_is_denied(cell, everything)
        await cell.custody.enable(id_)
        await cell.custody.destroy(id_, grace=HOUR)
        await all_is_denied(cell, everything)
        await cell.custody.restore(id_)

        async def is_ended() -> bool:
            await cell.custody.tend("t")
            return (await cell.custody.get(id_)).state is KeyState.DEACTIVATED

        await wait_until(is_ended)
        await all_opens(cell, everything)
        await cell.custody.rotate(COMMON)
        await cell.custody.rotation.go_on("t")
        assert (await cell.custody.get(COMMON)).settled


async def test_rotations_end(cell: Cell) -> None:
    """All that older versions wrapped is rewrapped."""
    await one_of_everything(cell)
    async with full(cell):
        version = await cell.custody.rotate(COMMON)
        await cell.custody.rotation.go_on("t")
        assert await names(cell) == {(COMMON, version.versions[-1].number)}


async def test_the_caretaker_goes_on(cell: Cell) -> None:
    """What is over goes, what is too late fails, what was lost is put back, and there is one caretaker at a time."""
    over = await cell.submit(results_ttl=MOMENT, submission=UNWILLING)
    await worked_on(cell, over)
    late = await cell.deliverable(ago=WEEK)
    lost = await cell.deliverable(ago=RESCUE_AFTER)
    await wait_until(lambda: is_over(cell, over.id))
    async with full(cell):
        assert await cell.caretaker.round("t", during=HOUR) == Round(rescued=1, expired=1)
        assert await cell.caretaker.round("another", during=HOUR) is None
        assert isinstance(await cell.stored(late), Failed)
        assert await cell.naming(over) == []
        assert await cell.queued() == [lost.id]


async def is_over(cell: Cell, job: JobId) -> bool:
    return not await cell.redis.exists(keyspace.job(cell.tenant, job))


async def test_a_job_in_hand_ends_and_keeps_its_result(cell: Cell) -> None:
    """Its lease is renewed, or ends when it is deleted; what else the worker has goes back to its place."""
    first, second = await cell.submit(), await cell.submit()
    leases = cell.worker()
    assert await leases.claim(2, lapsed=True) == [first.id, second.id]
    async with full(cell):
        async with cell.holding.hold(cell.tenant, first.id) as held:
            assert held is not None
            assert await leases.renew({first.id: held.job, second.id: None}) == set()
            await cell.holding.finish(held, RESULTS)
        await leases.settle(first.id, done=True)
        assert await cell.jobs.look_up(cell.tenant, first.id) == (await cell.stored(first), RESULTS)
        await leases.settle(second.id, done=False)
        assert await cell.queued() == [second.id]
        assert await cell.redis.zscore(keyspace.RECOGNITION.name, second.id) == 10**12
        await cell.jobs.delete(cell.tenant, second.id)
        assert await leases.renew({second.id: None}) == {second.id}


async def test_what_became_of_a_notification_is_noted(cell: Cell) -> None:
    """Or it would come again and again, though it was taken."""
    job = await ended(cell, await registered(cell))
    leases = leases_of(cell)
    sent = await fetched(cell, leases, job)
    async with full(cell):
        assert await telling(cell, leases).note(sent, 500) == "again"
    await cell.redis.zadd(keyspace.NOTIFICATION.name, {keyspace.NOTIFICATION.entry(job.id): 10**12})
    sent = await fetched(cell, leases, job)
    assert sent.pending.tries == 1
    async with full(cell):
        assert await telling(cell, leases).note(sent, 200) == "taken"
    assert await cell.fields(job) >= {b"ended"}
    assert b"started" not in await cell.fields(job)


async def test_the_audit_log_is_written_read_and_trimmed(cell: Cell) -> None:
    """Denied access is in it, and the oldest of it is let go."""
    async with full(cell):
        await cell.audit.write("volant.access.deny", "failure", detail="credential")
        assert (await records(cell.audit))[-1].event == "volant.access.deny"
        everything = len(await records(cell.audit))
        impatient = Audit(cell.redis, cell.keyring.audit, retention=-HOUR)
        assert await impatient.trim() == everything
        assert await records(cell.audit) == []


async def test_requests_are_counted_and_let_in(cell: Cell) -> None:
    """Who wants to read or to erase is not kept out by the counting."""
    key = await cell.tenants.create_key(cell.tenant, now=await cell.jobs.now(), limits={"polls": 1})
    async with full(cell):
        credential = await cell.tenants.authenticate(key, Count("polls"))
        assert credential is not None
        with pytest.raises(LimitReached):
            await cell.tenants.authenticate(key, Count("polls"))


async def test_a_worker_starts(cell: Cell) -> None:
    """It makes the rounds without which nothing would be swept."""
    async with full(cell):
        await Offers(cell.redis).publish(EMBEDDED)
        assert await Offers(cell.redis).current() == EMBEDDED
