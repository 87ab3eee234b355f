"""The store: what lands, what expires when, what is listed, and what a removal leaves."""

from datetime import timedelta

import msgspec
import pytest

from retention import keyspace
from retention.entries import entry_of
from retention.errors import Superseded, TenantGone
from retention.job import (
    Completed,
    CustomerTag,
    Failed,
    Job,
    Processing,
    TenantId,
    Waiting,
    accept,
    claim,
    complete,
    fail,
    hand_back,
    new_job_id,
    reclaim,
)
from retention.seal import Key
from retention.store import Stored
from tests.integration.cell import HOUR, RESCUE_AFTER, WEEK, Cell, milliseconds


async def processed(cell: Cell) -> Processing:
    waiting = await cell.accepted()
    job = claim(waiting, now=waiting.created, holder="h1")
    await cell.store.write(job, now=waiting.created)
    return job


async def ended(cell: Cell, *, results_ttl: timedelta = HOUR, ago: timedelta = timedelta(0)) -> Completed:
    waiting = await cell.accepted(results_ttl=results_ttl, ago=ago)
    now = waiting.created
    job = claim(waiting, now=now, holder="h1")
    await cell.store.write(job, now=now)
    completed = complete(job, now=now)
    await cell.store.write(completed, now=now, sealed={"result": b"sealed"})
    return completed


async def test_a_job_is_read_as_it_was_written(cell: Cell) -> None:
    """Record and sealed fields come back with the store's time."""
    job = await cell.begun()
    wrapped = await cell.keyring.wrap(Key.random(), cell.tenant, job.id)
    await cell.store.write(job, now=job.created, sealed={"key": wrapped, "submission": b"s\xff"})
    found = await cell.store.read(cell.tenant, job.id)
    assert found is not None
    assert found == Stored(job=job, now=found.now, key=wrapped, submission=b"s\xff", result=b"")
    assert job.created <= found.now < job.created + timedelta(seconds=30)


async def test_an_empty_sealed_field_is_dropped_and_others_stay(cell: Cell) -> None:
    """What a move gives up leaves Redis with that move."""
    job = await cell.begun()
    wrapped = await cell.keyring.wrap(Key.random(), cell.tenant, job.id)
    await cell.store.write(job, now=job.created, sealed={"key": wrapped, "submission": b"s"})
    held = claim(job, now=job.created, holder="h1")
    await cell.store.write(held, now=job.created)
    await cell.store.write(complete(held, now=job.created), now=job.created, sealed={"submission": b"", "result": b"r"})
    assert await cell.fields(job) == {b"revision", b"record", b"key", b"result"}


async def test_a_write_lands_only_on_the_revision_before_its_own(cell: Cell) -> None:
    """Of two that move a job from the same revision one is superseded, and changes nothing."""
    job = await processed(cell)
    now = job.created
    await cell.store.write(complete(job, now=now), now=now, sealed={"result": b"first"})
    with pytest.raises(Superseded):
        await cell.store.write(fail(job, "engine", now=now), now=now, sealed={"result": b"second"})
    found = await cell.store.read(cell.tenant, job.id)
    assert found is not None
    assert (type(found.job), found.result) == (Completed, b"first")


async def test_no_revision_is_skipped(cell: Cell) -> None:
    """A write made from a revision that was never stored does not land."""
    waiting = await cell.accepted()
    job = reclaim(claim(waiting, now=waiting.created, holder="h1"), holder="h2")
    with pytest.raises(Superseded):
        await cell.store.write(job, now=waiting.created)
    assert await cell.stored(waiting) == waiting


async def test_a_job_is_not_accepted_twice(cell: Cell) -> None:
    """A second first revision of the same id is refused."""
    job = await cell.accepted()
    other = accept(job.id, cell.tenant, now=job.created, results_ttl=2 * HOUR, patience=WEEK)
    with pytest.raises(Superseded):
        await cell.store.write(other, now=job.created)
    assert await cell.stored(job) == job


async def test_a_write_whose_reply_was_lost_may_be_repeated(cell: Cell) -> None:
    """The same write again is the same write: it lands once and is not superseded by itself."""
    job = await processed(cell)
    await cell.store.write(job, now=job.created)
    assert await cell.stored(job) == job
    assert await cell.redis.hget(keyspace.job(cell.tenant, job.id), "revision") == b"2"


async def test_a_claim_by_another_is_not_the_same_write(cell: Cell) -> None:
    """Two workers that claim the same revision at the same moment differ in their holder."""
    waiting = await cell.accepted()
    await cell.store.write(claim(waiting, now=waiting.created, holder="h1"), now=waiting.created)
    with pytest.raises(Superseded):
        await cell.store.write(claim(waiting, now=waiting.created, holder="h2"), now=waiting.created)


async def test_nothing_is_accepted_for_an_unknown_tenant(cell: Cell) -> None:
    """The first revision needs its tenant, and leaves nothing without it."""
    job = accept(new_job_id(), TenantId("gone"), now=await cell.store.now(), results_ttl=HOUR, patience=WEEK)
    with pytest.raises(TenantGone):
        await cell.store.write(job, now=job.created, sealed={"key": b"k"})
    assert await cell.naming(job) == []


async def test_a_late_write_leaves_no_key(cell: Cell) -> None:
    """Whatever an erased job's worker still writes, nothing comes back."""
    job = await processed(cell)
    await cell.store.erase(entry_of(job))
    late: list[Job] = [complete(job, now=job.created), fail(job, "engine", now=job.created), hand_back(job)]
    for move in late:
        with pytest.raises(Superseded):
            await cell.store.write(move, now=job.created, sealed={"result": b"late"})
    assert await cell.naming(job) == []


async def moved(cell: Cell, status: type[Job]) -> Job:
    """Bring a job that was accepted an hour ago into a status, a minute after its acceptance."""
    job = await cell.accepted(ago=HOUR, results_ttl=2 * HOUR)
    then = job.created + timedelta(minutes=1)
    held = claim(job, now=then, holder="h1")
    moves: dict[type[Job], list[Job]] = {
        Waiting: [],
        Processing: [held],
        Completed: [held, complete(held, now=then)],
        Failed: [fail(job, "deadline", now=then)],
    }
    found: Job = job
    for found in moves[status]:
        await cell.store.write(found, now=then)
    return found


@pytest.mark.parametrize(
    ("status", "life", "look"),
    [
        (Waiting, timedelta(days=14), RESCUE_AFTER),
        (Processing, timedelta(days=14), timedelta(minutes=1) + RESCUE_AFTER),
        (Completed, timedelta(minutes=121), timedelta(minutes=121)),
        (Failed, timedelta(minutes=121), timedelta(minutes=121)),
    ],
)
async def test_every_status_has_its_exact_expiry_and_its_next_look(
    cell: Cell, status: type[Job], life: timedelta, look: timedelta
) -> None:
    """A result lives `results_ttl` from completion; an unfinished job outlives its deadline, so as to fail first."""
    job = await moved(cell, status)
    least, greatest = await cell.expires(keyspace.job(cell.tenant, job.id))
    assert least <= job.created + life <= greatest
    assert await cell.due(job) == milliseconds(job.created + look)


async def test_the_look_at_an_unfinished_job_is_never_after_its_deadline(cell: Cell) -> None:
    """A job whose deadline is near is looked at when it comes."""
    now = await cell.store.now()
    job = accept(new_job_id(), cell.tenant, now=now, results_ttl=HOUR, patience=timedelta(seconds=5))
    await cell.store.write(job, now=now)
    assert await cell.due(job) == milliseconds(now + timedelta(seconds=5))


async def test_an_expired_job_is_hidden_before_redis_has_removed_it(cell: Cell) -> None:
    """By Redis's clock a result is unreadable from the millisecond of its expiry."""
    job = await ended(cell, results_ttl=HOUR)
    await cell.redis.hset(keyspace.job(cell.tenant, job.id), "record", _aged(job))
    assert await cell.store.read(cell.tenant, job.id) is None
    assert await cell.listed() == []


def _aged(job: Completed) -> bytes:
    return msgspec.json.encode(msgspec.structs.replace(job, expires=job.created - timedelta(milliseconds=1)))


async def test_a_result_written_too_late_expires_at_once(cell: Cell) -> None:
    """An expiry in the past removes the key with the write."""
    job = await ended(cell, ago=2 * HOUR)
    assert await cell.fields(job) == set()


async def test_the_list_of_a_tenant_lives_as_long_as_its_longest_job(cell: Cell) -> None:
    """A short-lived job does not shorten the life of the list, nor does the list outlive them all."""
    long = await cell.accepted()
    await ended(cell, results_ttl=timedelta(minutes=1), ago=HOUR)  # unfinished, it would have lived less long, too
    least, greatest = await cell.expires(keyspace.jobs_of(cell.tenant))
    assert least <= long.deadline + WEEK <= greatest


async def test_the_newest_jobs_are_listed_first(cell: Cell) -> None:
    """Order is by creation, newest first (spec 1.4)."""
    jobs = [await cell.accepted(ago=timedelta(minutes=minutes)) for minutes in (2, 5, 1, 4, 3)]
    listed = await cell.listed()
    assert listed == [jobs[2], jobs[0], jobs[4], jobs[3], jobs[1]]


async def test_a_hundred_jobs_are_listed(cell: Cell) -> None:
    """The hundred newest, and expired ones do not take their places."""
    old = [await cell.accepted(ago=timedelta(minutes=200 - n)) for n in range(103)]
    for _ in range(3):
        hidden = await ended(cell)
        await cell.redis.hset(keyspace.job(cell.tenant, hidden.id), "record", _aged(hidden))
    assert await cell.listed() == old[:2:-1]


async def test_tenants_do_not_see_each_other(cell: Cell) -> None:
    """Another tenant's job is neither read nor listed."""
    job = await cell.accepted()
    stranger = (await cell.tenants.create("stranger", now=job.created)).id
    assert await cell.store.read(stranger, job.id) is None
    assert await cell.store.latest(stranger) == []


async def test_a_removal_decided_on_an_old_revision_is_refused(cell: Cell) -> None:
    """The job was claimed in between: it stays whole."""
    waiting = await cell.accepted()
    held = claim(waiting, now=waiting.created, holder="h1")
    await cell.store.write(held, now=waiting.created)
    with pytest.raises(Superseded):
        await cell.store.remove(waiting)
    assert await cell.stored(held) == held
    assert await cell.listed() == [held]
    assert await cell.due(held) is not None


async def test_a_removed_job_cannot_be_removed_again(cell: Cell) -> None:
    """Of two deletes one decides."""
    job = await cell.accepted()
    await cell.store.remove(job)
    with pytest.raises(Superseded):
        await cell.store.remove(job)


@pytest.mark.parametrize("status", [Waiting, Processing, Completed, Failed])
async def test_erasing_leaves_nothing(cell: Cell, status: type[Job]) -> None:
    """From any state, with its key, its place in the list and its entry in `due`; twice is as good as once."""
    job = await moved(cell, status)
    for _ in range(2):
        await cell.store.erase(entry_of(job))
        assert await cell.naming(job) == []


async def test_erasing_a_customers_job_takes_its_entry_in_due(cell: Cell) -> None:
    """The tag is part of the entry."""
    now = await cell.store.now()
    tag = CustomerTag("ab" * 32)
    job = accept(new_job_id(), cell.tenant, now=now, results_ttl=HOUR, patience=WEEK, customer=tag)
    await cell.store.write(job, now=now)
    assert not any(await cell.store.due(10))
    await cell.store.erase(entry_of(job))
    assert await cell.naming(job) == []
