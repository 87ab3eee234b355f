"""What runs out by itself is erased in that moment, whoever is there to note it; and its file shows it no longer."""

from collections.abc import Awaitable, Callable
from datetime import UTC, datetime, timedelta

import msgspec
import pytest

from retention import imports, keyspace
from retention.entries import entry_of
from retention.errors import KeyRefused
from retention.job import Completed, Submission
from tests.integration.cell import HOUR, SUBMISSION, Cell
from tests.integration.logged import WILLING
from tests.integration.shown import Files, horizon, rewritten, vanished, wrapped_key
from tests.stack import wait_until

SHORT = timedelta(milliseconds=20)
LONGER = timedelta(seconds=1)


class RanOut(msgspec.Struct, frozen=True):
    """A secret that a file shows, and the least and the greatest moment at which it ran out."""

    secret: bytes
    soonest: datetime
    latest: datetime


async def completed(
    cell: Cell, *, submission: Submission = SUBMISSION, results_ttl: timedelta = SHORT
) -> tuple[Completed, bytes]:
    """Return a job, with its wrapped key."""
    job = await cell.submit(results_ttl=results_ttl, submission=submission)
    key = await wrapped_key(cell, job)
    async with cell.holding.hold(cell.tenant, job.id) as held:
        assert held
        return await cell.holding.finish(held, b"{}"), key


async def over(cell: Cell) -> tuple[Completed, bytes]:
    """Return a job that has run out, with its wrapped key."""
    job, key = await completed(cell)
    await gone(cell, keyspace.job(cell.tenant, job.id))
    return job, key


async def gone(cell: Cell, key: str) -> None:
    async def is_gone() -> bool:
        return not await cell.redis.exists(key)

    await wait_until(is_gone)


async def a_job(cell: Cell, patch: pytest.MonkeyPatch) -> RanOut:
    del patch
    job, key = await over(cell)
    return RanOut(key, job.expires, job.expires)


async def an_entry_of_the_request_log(cell: Cell, patch: pytest.MonkeyPatch) -> RanOut:
    """Give the only one."""
    patch.setattr(cell.log, "_retention", LONGER)
    job, key = await completed(cell, submission=WILLING, results_ttl=HOUR)  # it must be there to be logged
    await cell.redis.delete(keyspace.job(cell.tenant, job.id))
    await gone(cell, keyspace.logged(cell.tenant, job.id))
    await cell.redis.hdel(keyspace.ERASURES, "since")
    return RanOut(key, job.updated + LONGER, job.updated + LONGER)


async def an_import_token(cell: Cell, patch: pytest.MonkeyPatch) -> RanOut:
    secret = await token(cell)
    with patch.context() as life:
        life.setattr(imports, "TOKEN_LIFE", SHORT)
        began = await cell.store.now()
        await cell.imports.token(cell.tenant)
        ended = await cell.store.now()
    await gone(cell, keyspace.import_token(cell.tenant))
    await cell.redis.hdel(keyspace.ERASURES, "since")
    return RanOut(secret, began + SHORT, ended + SHORT)


async def token(cell: Cell) -> bytes:
    """Make an import token; return its private key, as it is stored."""
    await cell.imports.token(cell.tenant)
    sealed: str = msgspec.json.decode(await cell.redis.get(keyspace.import_token(cell.tenant)))["sealed"]
    return sealed.encode()


async def a_token_that_another_replaced(cell: Cell, patch: pytest.MonkeyPatch) -> RanOut:
    """While it was good."""
    del patch
    secret = await token(cell)
    began = await cell.store.now()
    await token(cell)
    return RanOut(secret, began, await cell.store.now())


async def a_token_before_another(cell: Cell, patch: pytest.MonkeyPatch) -> RanOut:
    ran_out = await an_import_token(cell, patch)
    await token(cell)
    return ran_out


async def a_token_that_came_too_late(cell: Cell, patch: pytest.MonkeyPatch) -> RanOut:
    ran_out = await an_import_token(cell, patch)
    with pytest.raises(KeyRefused):
        await cell.imports.material(cell.tenant, "", wrapped=b"", proof=b"", algorithm="RSAES_OAEP_SHA_256")
    return ran_out


async def a_token_of_a_tenant_that_was_deleted(cell: Cell, patch: pytest.MonkeyPatch) -> RanOut:
    ran_out = await an_import_token(cell, patch)
    await cell.jobs.delete_tenant(cell.tenant)
    return ran_out


WAYS: list[Callable[[Cell, pytest.MonkeyPatch], Awaitable[RanOut]]] = [
    a_job,
    an_entry_of_the_request_log,
    an_import_token,
    a_token_that_another_replaced,
    a_token_before_another,
    a_token_that_came_too_late,
    a_token_of_a_tenant_that_was_deleted,
]


@pytest.mark.parametrize("way", WAYS, ids=[way.__name__ for way in WAYS])
async def test_what_ran_out_counts_from_its_moment(
    files: Files, monkeypatch: pytest.MonkeyPatch, way: Callable[[Cell, pytest.MonkeyPatch], Awaitable[RanOut]]
) -> None:
    """While no worker runs, and once a caretaker has seen to it; after the next rewrite no file shows it."""
    cell = files.cell
    await rewritten(horizon(cell.redis))
    ran_out = await way(cell, monkeypatch)
    for _ in range(2):
        status = await cell.erasures.status()
        assert status.oldest is not None
        assert ran_out.soonest <= status.oldest <= ran_out.latest
        assert files.show(ran_out.secret)
        assert await cell.caretaker.round("", during=timedelta(milliseconds=10))
        await gone(cell, keyspace.CARETAKER)
    await rewritten(horizon(cell.redis))
    await vanished(files, ran_out.secret)


async def test_a_rewrite_does_not_cover_what_ran_out_and_was_not_seen_to(files: Files) -> None:
    """Redis may not have got round to it, and have written it anew; what is clean ends before."""
    cell = files.cell
    job, key = await over(cell)
    await horizon(cell.redis).tend()

    async def ended() -> bool:
        await horizon(cell.redis, every=timedelta(hours=1)).tend()
        return not (await cell.erasures.status()).doubts

    await wait_until(ended)
    status = await cell.erasures.status()
    assert (status.oldest, status.clean_until) == (job.expires, job.expires)
    assert await cell.caretaker.round("", during=timedelta(milliseconds=10))
    status = await cell.erasures.status()
    assert (status.oldest, status.clean_until) == (job.expires, job.expires)
    await rewritten(horizon(cell.redis))
    await vanished(files, key)


@pytest.mark.parametrize("zero", [0, -keyspace.LOOK], ids=["over", "look"])
async def test_unfinished_jobs_that_nobody_looks_at_are_no_erasure(files: Files, zero: int) -> None:
    """However many are overdue before the one that has run out."""
    cell = files.cell
    await rewritten(horizon(cell.redis))
    jobs = [await cell.accepted() for _ in range(3)]
    await cell.redis.zadd(keyspace.DUE, dict.fromkeys(await cell.redis.zrange(keyspace.DUE, 0, -1), zero + 1000))
    assert (await cell.erasures.status()).oldest is None
    await cell.redis.delete(keyspace.job(cell.tenant, jobs[1].id))
    assert (await cell.erasures.status()).oldest == datetime.fromtimestamp(1, UTC)


async def test_what_ran_out_unread_counts_from_when_it_was_to_be_looked_at(cell: Cell) -> None:
    """It has the score of a look, which is less by very much."""
    job = await cell.accepted()
    [due] = await cell.redis.zrange(keyspace.DUE, 0, -1)
    looked = await cell.store.now() - HOUR
    await cell.redis.zadd(keyspace.DUE, {due: round(looked.timestamp() * 1000) - keyspace.LOOK})
    await cell.redis.delete(keyspace.job(cell.tenant, job.id))
    await cell.redis.delete(keyspace.ERASURES)
    await cell.store.clear(entry_of(job))
    assert int(await cell.redis.hget(keyspace.ERASURES, "since")) == round(looked.timestamp() * 1000)
