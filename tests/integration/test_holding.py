"""What a worker may do with a job: attempts, stops, outages, and outcomes that come too late."""

import asyncio
from collections.abc import Awaitable, Callable
from datetime import timedelta
from typing import Any

import msgspec
import pytest
from redis.exceptions import ConnectionError as RedisConnectionError

from retention import keyspace
from retention.entries import entry_of
from retention.errors import AudioMissing, Superseded, Unsealable
from retention.holding import Held
from retention.job import Failed, FailureReason, Processing, Waiting, fail
from tests.integration.cell import RESULTS, SUBMISSION, Cell
from tests.stack import wait_until


async def taken(cell: Cell, job: Waiting) -> Held | None:
    """Take a delivery and die with it: the job is neither ended nor handed back."""
    async with cell.holding.hold(cell.tenant, job.id) as held:
        return held


async def failure_of(cell: Cell, job: Waiting) -> Failed:
    found = await cell.stored(job)
    assert isinstance(found, Failed)
    return found


async def test_attempts_are_counted_before_the_work_begins(cell: Cell) -> None:
    """Each delivery of a job that nobody ended counts; `updated` stays as it was at the first."""
    job = await cell.submit()
    held = [await taken(cell, job) for _ in range(3)]
    records = [one.job for one in held if one is not None]
    assert [record.attempts for record in records] == [1, 2, 3]
    assert len({record.updated for record in records}) == 1
    assert len({record.holder for record in records}) == 3


async def test_a_fourth_delivery_fails_the_job(cell: Cell) -> None:
    """After three attempts nobody tries again; audio and keys go, the reason stays."""
    job = await cell.submit()
    for _ in range(3):
        assert await taken(cell, job) is not None
    assert await taken(cell, job) is None
    failed = await failure_of(cell, job)
    assert failed.reason == "attempts_spent"
    assert failed.expires == failed.updated + failed.results_ttl
    assert await cell.fields(job) == {b"revision", b"record"}
    assert cell.recordings() == []


async def test_an_orderly_stop_hands_the_job_back_uncounted(cell: Cell) -> None:
    """A worker that is stopped ten times over uses up no attempt."""
    job = await cell.submit()

    async def work(begun: asyncio.Event) -> None:
        async with cell.holding.hold(cell.tenant, job.id) as held:
            assert held is not None
            assert held.job.attempts == 1
            begun.set()
            await asyncio.Event().wait()

    for _ in range(10):
        begun = asyncio.Event()
        working = asyncio.create_task(work(begun))
        await begun.wait()
        working.cancel()
        with pytest.raises(asyncio.CancelledError):
            await working
    found = await cell.stored(job)
    assert isinstance(found, Processing)
    assert (found.attempts, found.holder) == (0, "")


async def test_a_worker_that_breaks_does_not_hand_back(cell: Cell) -> None:
    """An unexpected error is an attempt."""
    job = await cell.submit()
    with pytest.raises(ZeroDivisionError):
        async with cell.holding.hold(cell.tenant, job.id):
            raise ZeroDivisionError
    held = await taken(cell, job)
    assert held is not None
    assert held.job.attempts == 2


async def test_a_reclaimed_job_is_its_new_holders(cell: Cell) -> None:
    """Whatever the former holder does is superseded; the new one's result stands."""
    job = await cell.submit()
    former, present = await taken(cell, job), await taken(cell, job)
    assert former is not None
    assert present is not None
    with pytest.raises(Superseded):
        await cell.holding.finish(former, b'"late"')
    with pytest.raises(Superseded):
        await cell.holding.fail(former, "engine")
    await cell.holding._hand_back(former)
    await cell.holding.finish(present, RESULTS)
    assert (await cell.jobs.look_up(cell.tenant, job.id))[1] == RESULTS


async def test_a_worker_that_was_frozen_before_its_claim_leaves_the_job_to_its_holder(cell: Cell) -> None:
    """Its lease went to another: it takes nothing from that one, whose result stands."""
    job = await cell.submit()
    frozen, other = cell.worker(lease=timedelta(milliseconds=1)), cell.worker()
    assert await frozen.claim(1, lapsed=True) == [job.id]

    async def leased() -> bool:
        return await other.claim(1, lapsed=True) == [job.id]

    await wait_until(leased)
    async with cell.holding_of(other).hold(cell.tenant, job.id) as held:
        assert held is not None
        with pytest.raises(Superseded):
            async with cell.holding_of(frozen).hold(cell.tenant, job.id):
                pass
        await frozen.settle(job.id, done=False)
        assert await other.owns(job.id)
        await cell.holding_of(other).finish(held, RESULTS)
    assert (await cell.jobs.look_up(cell.tenant, job.id))[1] == RESULTS


async def test_a_worker_that_comes_after_an_erasure_leaves_nothing(cell: Cell) -> None:
    """Finishing, failing and handing back an erased job bring no key and no file back."""
    job = await cell.submit()
    held = await taken(cell, job)
    assert held is not None
    await cell.store.erase(entry_of(job))
    await cell.queue.discard(job.id)
    await cell.audio.remove(cell.tenant, job.id)
    with pytest.raises(Superseded):
        await cell.holding.finish(held, RESULTS)
    with pytest.raises(Superseded):
        await cell.holding.fail(held, "engine")
    await cell.holding._hand_back(held)
    with pytest.raises(AudioMissing):
        await anext(cell.holding.audio(held))
    assert await cell.naming(job) == []


@pytest.mark.parametrize("reason", ["undecodable", "too_long", "engine", "audio_missing"])
async def test_a_failed_job_says_why_and_holds_nothing_else(cell: Cell, reason: FailureReason) -> None:
    """Submission, key and audio go with the failure; a later delivery finds nothing to do."""
    job = await cell.submit()
    held = await taken(cell, job)
    assert held is not None
    await cell.holding.fail(held, reason)
    assert (await failure_of(cell, job)).reason == reason
    assert await cell.fields(job) == {b"revision", b"record"}
    assert cell.recordings() == []
    assert await taken(cell, job) is None


async def test_the_age_of_a_job_counts_from_the_beginning_of_its_upload(cell: Cell) -> None:
    """Or from its acceptance, when it is not known: a job of an earlier version."""
    began = await cell.jobs.now() - timedelta(minutes=3)
    for since, least in ((began, timedelta(minutes=3)), (None, timedelta(0))):
        job = await cell.submit(submission=msgspec.structs.replace(SUBMISSION, began=since))
        held = await taken(cell, job)
        assert held is not None
        assert least <= await cell.holding.age(held) < least + timedelta(minutes=2)


async def test_a_finished_job_keeps_its_key_and_result_alone(cell: Cell) -> None:
    """What was asked goes with the answer; a later delivery finds nothing to do."""
    job = await cell.submit()
    held = await taken(cell, job)
    assert held is not None
    await cell.holding.finish(held, RESULTS)
    assert await cell.fields(job) == {b"revision", b"record", b"key", b"result"}
    assert await taken(cell, job) is None


@pytest.mark.parametrize("field", ["key", "submission"])
async def test_a_job_whose_submission_does_not_open_fails(cell: Cell, field: str) -> None:
    """It is neither tried with guesses nor delivered for ever."""
    job = await cell.submit()
    await cell.redis.hset(keyspace.job(cell.tenant, job.id), field, b"common@1:damaged")
    assert await taken(cell, job) is None
    assert (await failure_of(cell, job)).reason == "audio_missing"


async def test_damaged_audio_is_noticed(cell: Cell) -> None:
    """A flipped bit in the recording is an error, not a sound."""
    job = await cell.submit()
    (path,) = cell.recordings()
    sealed = bytearray(path.read_bytes())
    sealed[-1] ^= 1
    path.write_bytes(sealed)
    held = await taken(cell, job)
    assert held is not None
    with pytest.raises(Unsealable):
        _ = [piece async for piece in cell.holding.audio(held)]


async def test_a_claim_whose_reply_was_lost_is_ones_own(cell: Cell) -> None:
    """Reading it again under the same delivery's name finds it and counts no second attempt."""
    job = await cell.submit()
    for _ in range(2):
        await taken(cell, job)
    first = await cell.holding._take(cell.tenant, job.id, "delivery")
    again = await cell.holding._take(cell.tenant, job.id, "delivery")
    assert first is not None
    assert again is not None
    assert first.job == again.job


async def test_a_short_outage_costs_no_attempt(cell: Cell) -> None:
    """A worker whose connection breaks while it finishes tries again, until the store answers."""
    job = await cell.submit()
    held = await taken(cell, job)
    assert held is not None
    await cell.redis.execute_command("CLIENT", "PAUSE", 10_000, "WRITE")
    finishing = asyncio.create_task(cell.holding.finish(held, RESULTS))

    async def stuck() -> bool:
        return bool((await cell.redis.info("clients"))["blocked_clients"])

    await wait_until(stuck)
    await cell.redis.execute_command("CLIENT", "KILL", "TYPE", "normal")
    await cell.redis.execute_command("CLIENT", "UNPAUSE")
    assert (await finishing).revision == 3
    assert (await cell.jobs.look_up(cell.tenant, job.id))[1] == RESULTS


def losing_the_first_reply(cell: Cell, monkeypatch: pytest.MonkeyPatch, then: Callable[[], Awaitable[None]]) -> None:
    """Let the next write land, then something happen, and the connection break before the reply has come."""
    script = cell.store._write

    async def executed(**arguments: Any) -> None:
        monkeypatch.setattr(cell.store, "_write", script)
        assert await script(**arguments) == 1
        await then()
        raise RedisConnectionError

    monkeypatch.setattr(cell.store, "_write", executed)


async def nothing() -> None:
    pass


@pytest.mark.parametrize("reason", [None, "engine"])
async def test_an_end_whose_reply_was_lost_is_ones_own(
    cell: Cell, monkeypatch: pytest.MonkeyPatch, reason: FailureReason | None
) -> None:
    """The record of the first try stands, from its own moment on; the audio goes."""
    job = await cell.submit()
    held = await taken(cell, job)
    assert held is not None
    losing_the_first_reply(cell, monkeypatch, nothing)
    ended = await (cell.holding.fail(held, reason) if reason else cell.holding.finish(held, RESULTS))
    assert ended == await cell.stored(job)
    assert cell.recordings() == []


async def test_a_deleted_end_whose_reply_was_lost_is_superseded(cell: Cell, monkeypatch: pytest.MonkeyPatch) -> None:
    """It was readable, the client deleted it, and it does not come back."""
    job = await cell.submit()
    held = await taken(cell, job)
    assert held is not None
    losing_the_first_reply(cell, monkeypatch, lambda: cell.jobs.delete(cell.tenant, job.id))
    with pytest.raises(Superseded):
        await cell.holding.finish(held, RESULTS)
    assert await cell.naming(job) == []


async def test_another_end_is_not_ones_own(cell: Cell, monkeypatch: pytest.MonkeyPatch) -> None:
    """The first try did not land: the job failed at its deadline instead."""
    job = await cell.submit()
    held = await taken(cell, job)
    assert held is not None

    async def overtaken(**_: Any) -> None:
        monkeypatch.undo()
        now = await cell.store.now()
        await cell.store.write(fail(held.job, "deadline", now=now), now=now)
        raise RedisConnectionError

    monkeypatch.setattr(cell.store, "_write", overtaken)
    with pytest.raises(Superseded):
        await cell.holding.finish(held, RESULTS)
    assert (await failure_of(cell, job)).reason == "deadline"
