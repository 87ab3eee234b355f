"""The request log is written for completed jobs that nobody has opted out of, and for no others (spec 6.3)."""

import asyncio
import os
import time
from collections.abc import Awaitable, Callable
from datetime import timedelta
from pathlib import Path
from typing import Any

import msgspec
import pytest
from redis.asyncio import Redis
from structlog.testing import capture_logs

from retention import keyspace, request_log as module
from retention.errors import KeyDisabled, Unavailable
from retention.job import JobId, TenantId
from retention.keys import COMMON
from retention.logged_directory import LoggedDirectory
from tests.integration.cell import AUDIO, HOUR, RESULTS, SUBMISSION, Cell, milliseconds, open_cell, spoken
from tests.integration.logged import (
    MONTH,
    UNWILLING,
    WILLING,
    accepted,
    everything_logged,
    files,
    late_worker,
    logged,
    orphan,
    run_out,
    worked_on,
)


@pytest.fixture
async def cell(redis: Redis, tmp_path: Path) -> Cell:
    """Give an empty cell that keeps a log for a month."""
    return await open_cell(redis, tmp_path / "audio", request_log=MONTH)


async def test_a_log_that_is_off_writes_nothing(redis: Redis, tmp_path: Path) -> None:
    """Neither in Redis nor as a file; not even a directory for it."""
    cell = await open_cell(redis, tmp_path / "audio")
    await worked_on(cell, await accepted(cell, customer="c"))
    assert await everything_logged(cell) == []
    assert cell.recordings() == []
    assert not (cell.directory / ".log").exists()


async def test_a_completed_job_is_kept_as_it_was(cell: Cell) -> None:
    """Audio, submission and results open; the job's own audio has gone, and the job is as without a log."""
    job = await accepted(cell, customer="c")
    size = cell.recordings()[0].stat().st_size
    completed = await worked_on(cell, job)
    [entry] = await cell.log.all(cell.tenant)
    assert (entry.tenant, entry.job, entry.customer) == (cell.tenant, job.id, job.customer)
    assert (entry.created, entry.completed, entry.size) == (job.created, completed.updated, size)
    opened = await cell.log.open(cell.tenant, job.id)
    assert b"".join([piece async for piece in opened.audio]) == AUDIO
    assert opened.results == RESULTS
    assert msgspec.json.decode(opened.submission, type=type(SUBMISSION)) == WILLING
    assert files(cell) == cell.recordings() == [cell.directory / ".log" / cell.tenant / job.id]
    assert files(cell)[0].stat().st_mode & 0o777 == 0o600
    assert await cell.jobs.look_up(cell.tenant, job.id) == (completed, RESULTS)


async def test_an_export_under_way_ends_when_the_key_is_disabled(cell: Cell) -> None:
    """Its audio may be hours long, and take as long to be written out."""
    job = await cell.submit(spoken(bytes(2**20)), submission=WILLING)
    await worked_on(cell, job)
    opened = await cell.log.open(cell.tenant, job.id)
    assert await anext(opened.audio)
    await cell.custody.disable(COMMON)
    with pytest.raises(KeyDisabled):
        await anext(opened.audio)


async def test_an_entry_and_its_lists_expire_a_month_after_completion(cell: Cell) -> None:
    """Exactly then, whatever becomes of the job; but for the one that says when, which is emptied by sweeping."""
    completed = await worked_on(cell, await accepted(cell, customer="c"))
    keys = await everything_logged(cell)
    assert len(keys) == 1 + 3 + 1
    for key in keys[1:]:
        if key == keyspace.LOG:
            assert await cell.redis.pttl(key) == -1
            continue
        before = milliseconds(await cell.store.now())
        left = await cell.redis.pttl(key)
        after = milliseconds(await cell.store.now())
        assert before + left <= milliseconds(completed.updated + timedelta(days=30)) <= after + left


async def test_a_shorter_life_does_not_shorten_that_of_others(cell: Cell) -> None:
    """The lists live as long as the last of the entries in them."""
    await worked_on(cell, await accepted(cell, customer="c"))
    cell.log._retention = HOUR
    await worked_on(cell, await accepted(cell, customer="c"))
    assert await cell.redis.pttl(keyspace.logged_of(cell.tenant)) > milliseconds_in(timedelta(days=29))


async def test_nothing_of_it_is_in_clear(cell: Cell) -> None:
    """Audio, parameters, results and the customer's id are neither in Redis nor in a file."""
    job = await cell.submit(submission=WILLING, customer="a-person@example.com")
    async with cell.holding.hold(cell.tenant, job.id) as held:
        assert held is not None
        await cell.holding.finish(held, b'{"results":["whispered words"]}')
    stored = b"".join(path.read_bytes() for path in files(cell))
    for key in [key async for key in cell.redis.scan_iter("volant:log*", count=1000)]:
        if await cell.redis.type(key) == b"hash":
            assert {*await cell.redis.hgetall(key)} == {b"record", b"key", b"submission", b"result"}
            stored += b"".join((await cell.redis.hgetall(key)).values())
    assert job.id.encode() in stored
    for secret in (AUDIO, b"whispered", b"a-person", b"audio/wav", SUBMISSION.model.encode()):
        assert secret not in stored


async def test_it_outlives_the_job(cell: Cell) -> None:
    """The job's own time is no matter: it goes, with all that names it, and the entry stays."""
    job = await worked_on(cell, await accepted(cell, customer="c"))
    await run_out(cell, job)
    await cell.caretaker.round("t", during=HOUR)
    assert await cell.redis.zcard(keyspace.DUE) == 0
    assert await logged(cell) == [job.id]


@pytest.mark.parametrize("by", ["the client", "the tenant", "both", "the tenant, later", "nobody knows"])
async def test_an_opt_out_leaves_nothing(cell: Cell, by: str) -> None:
    """Either one wins; the tenant's counts until the log is written; what was accepted undecided is opted out."""
    if by in {"the tenant", "both"}:
        await cell.tenants.update(cell.tenant, learning_opt_out=True)
    submission = {"the client": UNWILLING, "both": UNWILLING, "nobody knows": SUBMISSION}.get(by, WILLING)
    job = await cell.submit(submission=submission, customer="c")
    if by == "the tenant, later":
        await cell.tenants.update(cell.tenant, learning_opt_out=True)
    completed = await worked_on(cell, job)
    assert await everything_logged(cell) == []
    assert cell.recordings() == []
    assert await cell.jobs.look_up(cell.tenant, job.id) == (completed, RESULTS)
    await cell.tenants.update(cell.tenant, learning_opt_out=False)
    later = await accepted(cell)
    await worked_on(cell, later)
    assert await logged(cell) == [later.id]


async def test_a_failed_job_is_not_kept(cell: Cell) -> None:
    """Only what was recognised can improve anything."""
    job = await accepted(cell)
    async with cell.holding.hold(cell.tenant, job.id) as held:
        assert held is not None
        await cell.holding.fail(held, "undecodable")
    assert await everything_logged(cell) == []


Happening = Callable[[Cell, JobId], Awaitable[object]]


async def delete(cell: Cell, job: JobId) -> None:
    await cell.jobs.delete(cell.tenant, job)


async def erase(cell: Cell, job: JobId) -> None:
    del job
    assert await cell.jobs.erase_customer(cell.tenant, "c") == 1


async def dismiss(cell: Cell, job: JobId) -> None:
    del job
    assert await cell.jobs.delete_tenant(cell.tenant) == 1


async def opt_out(cell: Cell, job: JobId) -> None:
    del job
    await cell.tenants.update(cell.tenant, learning_opt_out=True)


async def fence(cell: Cell, job: JobId) -> None:
    """Do the first step of an erasure."""
    del job
    await cell.store.fence(cell.tenant, cell.keyring.tag(cell.tenant, "c"), during=HOUR)


async def take_the_tenant(cell: Cell, job: JobId) -> None:
    """Do the first step of a tenant's deletion."""
    del job
    await cell.tenants.dismiss(cell.tenant)


@pytest.mark.parametrize("happens", [delete, erase, dismiss])
@pytest.mark.parametrize("moment", ["before", "after"])
async def test_what_was_erased_before_the_entry_was_written_leaves_nothing(
    cell: Cell, monkeypatch: pytest.MonkeyPatch, happens: Happening, moment: str
) -> None:
    """A completed job that goes before or after its audio gets the second name: no key, no file, nothing brings it."""
    at(monkeypatch, cell, moment, happens)
    job = await accepted(cell, customer="c")
    with capture_logs() as said:
        await worked_on(cell, job)
    assert await everything_logged(cell) == []
    assert await cell.naming(job) == []
    assert [line for line in said if line["log_level"] != "info"] == []  # an outcome, no trouble


@pytest.mark.parametrize("happens", [opt_out, fence, take_the_tenant])
async def test_the_step_that_writes_asks_again(cell: Cell, monkeypatch: pytest.MonkeyPatch, happens: Happening) -> None:
    """An opt-out, or the first step of an erasure, between question and answer: nothing is kept."""
    at(monkeypatch, cell, "after", happens)
    await worked_on(cell, await accepted(cell, customer="c"))
    assert await everything_logged(cell) == []


@pytest.mark.parametrize("happens", [erase, dismiss])
async def test_a_late_worker_leaves_nothing(cell: Cell, happens: Happening) -> None:
    """What it was working on was erased meanwhile."""
    job = await accepted(cell, customer="c")
    async with late_worker(cell, job):
        await happens(cell, job.id)
    assert await everything_logged(cell) == []
    assert await cell.naming(job) == []


async def test_a_log_that_cannot_be_written_is_no_matter_to_the_job(
    cell: Cell, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A full disk, a broken or silent Redis: one warning without content; the job has its result, its audio goes."""

    async def full(*_: object) -> int:
        raise Unavailable("the audio store refuses: No space left on device")

    async def broken(*_: object, **__: object) -> int:
        raise ZeroDivisionError("whispered")

    async def silent(*_: object, **__: object) -> int:
        await asyncio.Event().wait()
        return 0

    monkeypatch.setattr(module, "WRITE_WITHIN", 0.1)
    for owner, name, trouble in (
        (cell.log._audio, "keep", full),
        (cell.log, "_script", broken),
        (cell.log, "_script", silent),
    ):
        with monkeypatch.context() as patch, capture_logs() as said:
            patch.setattr(owner, name, trouble)
            job = await accepted(cell)
            completed = await worked_on(cell, job)
            assert await cell.jobs.look_up(cell.tenant, job.id) == (completed, RESULTS)
            assert not (cell.directory / cell.tenant / job.id).exists()
        assert [line["event"] for line in said] == ["not kept in the request log"]
        assert "whispered" not in str(said)
    assert await cell.log.all() == []


async def test_the_second_name_is_on_stable_storage(cell: Cell, monkeypatch: pytest.MonkeyPatch) -> None:
    """The tenant's directory and the one that holds it are synced before the entry is written."""
    synced: set[str] = set()
    sync = os.fsync

    def noting(file: int) -> None:
        synced.add(str(Path(f"/proc/self/fd/{file}").readlink()))
        sync(file)

    async def ends(*_: object, **__: object) -> int:
        noted.update(synced)
        return 0

    noted: set[str] = set()
    job = await accepted(cell)
    monkeypatch.setattr(os, "fsync", noting)
    monkeypatch.setattr(cell.log, "_script", ends)
    await worked_on(cell, job)
    assert noted == {str(cell.directory / ".log"), str(cell.directory / ".log" / cell.tenant)}


async def test_audio_without_an_entry_is_swept(cell: Cell) -> None:
    """A worker died between the two. What is young may yet get its entry; what has one stays, however old."""
    kept = await accepted(cell)
    await worked_on(cell, kept)
    left = await orphan(cell)
    paths = {path.name: path for path in files(cell)}
    os.utime(paths[kept.id], (0, 0))
    await cell.caretaker.round("t", during=HOUR)
    assert {path.name for path in files(cell)} == {kept.id, left}
    old = time.time() - 21
    os.utime(paths[left], (old, old))
    await cell.redis.delete(keyspace.CARETAKER)
    done = await cell.caretaker.round("t", during=HOUR)
    assert done is not None
    assert done.orphans == 1
    assert await logged(cell) == [path.name for path in files(cell)] == [kept.id]


async def test_audio_is_no_orphan_before_its_entry_can_be_there(cell: Cell, monkeypatch: pytest.MonkeyPatch) -> None:
    """However long ago it was uploaded: a sweep between the two steps leaves it."""

    async def sweep(cell: Cell, job: JobId) -> None:
        del job
        assert await cell.log.sweep(timedelta(seconds=20)) == 0

    at(monkeypatch, cell, "after", sweep)
    job = await accepted(cell)
    os.utime(cell.directory / cell.tenant / job.id, (0, 0))
    await worked_on(cell, job)
    assert await logged(cell) == [job.id]


async def test_an_entry_whose_audio_was_swept_is_taken_back(cell: Cell, monkeypatch: pytest.MonkeyPatch) -> None:
    """The worker was away for so long between the two steps."""

    async def swept(cell: Cell, job: JobId) -> None:
        await cell.log.remove_audio(cell.tenant, job)

    at(monkeypatch, cell, "after", swept)
    await worked_on(cell, await accepted(cell, customer="c"))
    assert await everything_logged(cell) == []


def at(patch: pytest.MonkeyPatch, cell: Cell, moment: str, happens: Happening) -> None:
    """Let it happen before or after the audio of a job gets its second name."""
    keep = LoggedDirectory.keep

    async def with_it(self: LoggedDirectory, tenant: TenantId, job: JobId) -> Any:
        if moment == "before":
            await happens(cell, job)
        size = await keep(self, tenant, job)
        if moment == "after":
            await happens(cell, job)
        return size

    patch.setattr(LoggedDirectory, "keep", with_it)


def milliseconds_in(duration: timedelta) -> int:
    return duration // timedelta(milliseconds=1)
