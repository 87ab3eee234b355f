"""What Redis does that makes its files show more than was noted: restarts, replicas, snapshots, rewrites that fail."""

import os
import signal
from collections.abc import AsyncIterator
from contextlib import suppress
from pathlib import Path

import pytest
from redis.asyncio import Redis
from structlog.testing import capture_logs

from deploy.processes import RedisServer, temporary_directory
from retention import keyspace
from retention.job import JobId
from tests.integration.cell import HOUR, Cell, open_cell
from tests.integration.shown import Files, horizon, rewritten, shown, vanished, wrapped_key
from tests.ports import reserved_port
from tests.stack import wait_until


async def deleted(cell: Cell) -> bytes:
    """Return the wrapped key of a job that was deleted."""
    job = await cell.submit()
    key = await wrapped_key(cell, job)
    await cell.jobs.delete(cell.tenant, job.id)
    return key


async def restarted(files: Files) -> None:
    files.server.restart()
    await files.cell.redis.connection_pool.disconnect()


async def is_rewriting(redis: Redis) -> bool:
    return bool((await redis.info())["aof_rewrite_in_progress"])


async def rewriting(files: Files, pause: int) -> int:
    """Have a rewrite begin that pauses so long at each key, in ms; return the process that does it."""
    redis = files.cell.redis
    await redis.config_set("rdb-key-save-delay", pause * 1000)
    await horizon(redis).tend()
    await wait_until(lambda: is_rewriting(redis))
    return child_of(files.server.process.pid)


def child_of(parent: int) -> int:
    for path in Path("/proc").glob("[0-9]*/stat"):
        with suppress(OSError):  # it ended meanwhile
            if int(path.read_text().rpartition(")")[2].split()[1]) == parent:
                return int(path.parent.name)
    raise LookupError(parent)


async def test_after_a_restart_nothing_is_known_until_a_rewrite(files: Files) -> None:
    """Redis may have another file than before, and nobody can see that from without."""
    cell = files.cell
    await rewritten(horizon(cell.redis))
    await restarted(files)
    status = await horizon(cell.redis).status()
    assert (status.oldest, status.clean_until) == (None, None)
    assert ["not rewritten" in doubt for doubt in status.doubts] == [True]
    await rewritten(horizon(cell.redis))
    assert (await horizon(cell.redis).status()).clean_until is not None


@pytest.fixture
async def replica(tmp_path: Path) -> AsyncIterator[tuple[Cell, Path, Redis]]:
    """Give a cell whose Redis has a replica, the replica's directory, and the replica."""
    with temporary_directory() as directory, reserved_port() as port:
        # Without a file that it would send: to Redis 6 that is a snapshot, unless it is as old as its own start.
        diskless = "--repl-diskless-sync", "yes", "--repl-diskless-sync-delay", "0"
        master = RedisServer(directory / "master", "--port", str(port), *diskless)
        replica = RedisServer(directory / "replica", "--replicaof", "127.0.0.1", str(port))
        async with Redis.from_url(master.url) as redis, Redis.from_url(replica.url) as other:
            yield await open_cell(redis, tmp_path / "audio"), directory / "replica", other
        replica.stop()
        master.stop()


async def test_a_promoted_replica_has_a_file_of_its_own(replica: tuple[Cell, Path, Redis]) -> None:
    """Which the rewrites of its master's did not touch."""
    cell, directory, redis = replica

    async def has_caught_up() -> bool:
        info = await redis.info("replication")
        ours = (await cell.redis.info("replication"))["master_repl_offset"]
        return bool(info["master_link_status"] == "up" and info["slave_repl_offset"] >= ours)

    async def has_begun_its_file() -> bool:
        """After the first synchronisation, by a rewrite: what comes amid it may never be in the file."""
        info = await redis.info("persistence")
        return not (info["aof_rewrite_in_progress"] or info["aof_rewrite_scheduled"])

    await wait_until(has_caught_up)
    await wait_until(has_begun_its_file)
    key = await deleted(cell)
    await rewritten(horizon(cell.redis))
    await wait_until(has_caught_up)
    assert any("replica" in doubt for doubt in (await horizon(redis).status()).doubts)
    await redis.replicaof("NO", "ONE")
    assert shown(directory, key)
    status = await horizon(redis).status()
    assert status.clean_until is None
    assert status.doubts
    await rewritten(horizon(redis))

    async def gone() -> bool:
        return not shown(directory, key)

    await wait_until(gone)


async def test_without_an_append_only_file_nothing_is_known(tmp_path: Path) -> None:
    """One from before may lie there; a rewrite in this state covers nothing."""
    with temporary_directory() as directory:
        server = RedisServer(directory / "redis", "--appendonly", "no")
        async with Redis.from_url(server.url) as redis:
            cell = await open_cell(redis, tmp_path / "audio")
            await deleted(cell)
            await horizon(redis).tend()

            async def has_ended() -> bool:
                return not await is_rewriting(redis)

            await wait_until(has_ended)
            await horizon(redis, every=HOUR).tend()
            status = await horizon(redis).status()
            assert status.oldest is not None
            assert status.clean_until is None
            assert any("no append-only file" in doubt for doubt in status.doubts)
        server.stop()


async def test_a_snapshot_shows_what_is_erased_after_it(files: Files) -> None:
    """Nobody has it rewritten: the status says so, and the log, once for each."""
    cell = files.cell
    job = await cell.submit()
    key = await wrapped_key(cell, job)

    async def is_some_seconds_old() -> bool:
        return bool((await cell.redis.info())["uptime_in_seconds"] > 2)

    await wait_until(is_some_seconds_old)  # before, Redis 6 does not tell a snapshot from its start
    await cell.redis.bgsave()

    async def is_written() -> bool:
        return (await cell.redis.info())["rdb_bgsave_in_progress"] == 0 and (files.directory / "dump.rdb").exists()

    await wait_until(is_written)
    await cell.jobs.delete(cell.tenant, job.id)
    found = horizon(cell.redis)
    with capture_logs() as logs:
        for _ in range(3):
            await found.tend()
    assert sum("snapshots" in line["event"] for line in logs) == 1

    async def only_the_snapshot() -> bool:
        await found.tend()
        status = await found.status()
        return status.oldest is None and len(status.doubts) == 1

    await wait_until(only_the_snapshot)
    status = await found.status()
    assert "snapshot" in status.doubts[0]
    assert status.clean_until is not None
    assert status.clean_until <= await cell.store.now()
    assert shown(files.directory / "dump.rdb", key)


async def test_a_rewrite_that_fails_covers_nothing(files: Files) -> None:
    """Redis says so."""
    cell = files.cell
    key = await deleted(cell)
    oldest = (await cell.erasures.status()).oldest
    os.kill(await rewriting(files, 1000), signal.SIGKILL)

    async def failed() -> bool:
        return not await is_rewriting(cell.redis)

    await wait_until(failed)
    await horizon(cell.redis, every=HOUR).tend()
    status = await cell.erasures.status()
    assert (status.oldest, status.clean_until) == (oldest, None)
    assert files.show(key)
    await cell.redis.config_set("rdb-key-save-delay", 0)
    await rewritten(horizon(cell.redis))
    await vanished(files, key)


async def test_who_comes_late_does_not_take_anothers_rewrite_for_done(files: Files) -> None:
    """It was seen to end, and the next one was begun, between looking and noting."""
    cell = files.cell
    await deleted(cell)
    found = horizon(cell.redis)
    begun = await found._due(str((await cell.redis.info())["run_id"]))
    await found._ended(begun, well=False)

    async def a_later_one() -> bool:
        return await found._due("") > begun

    await wait_until(a_later_one)
    await found._ended(begun, well=True)
    assert await cell.redis.hexists(keyspace.ERASURES, "waiting")
    assert not await cell.redis.hexists(keyspace.ERASURES, "clean")


async def test_nothing_is_left_of_a_rewrite_that_broke_off_with_redis(files: Files) -> None:
    """Redis leaves its half-written file there for ever; whoever starts it again removes that, and the log tells."""
    cell = files.cell
    jobs = [await cell.submit() for _ in range(4)]  # any may come last, too late to be seen in the file before its end
    keys = {job.id: await wrapped_key(cell, job) for job in jobs}
    seen: list[JobId] = []
    for number in range(500):
        await cell.redis.set(f"volant:test:{number}", os.urandom(5000), px=600_000)
    await cell.redis.hset(keyspace.ERASURES, "since", 1)
    child = await rewriting(files, 30)

    async def half_written() -> bool:
        seen[:] = [job for job, key in keys.items() for path in files.directory.glob("temp-*") if shown(path, key)]
        return bool(seen)

    await wait_until(half_written)
    files.server.process.kill()
    os.kill(child, signal.SIGKILL)
    await restarted(files)
    with capture_logs() as logs:
        await horizon(cell.redis).tend()
    assert any("remove temp-*.aof" in line["event"] for line in logs)
    await cell.jobs.delete(cell.tenant, seen[0])
    await rewritten(horizon(cell.redis))
    await vanished(files, keys[seen[0]])
