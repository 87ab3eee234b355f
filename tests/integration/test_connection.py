"""A Redis that refuses, or says nothing, is Unavailable: for the front and for workers, on every version."""

import asyncio
import signal
from collections.abc import AsyncIterator, Awaitable, Callable
from datetime import timedelta
from pathlib import Path
from typing import Any
from unittest.mock import AsyncMock, patch

import pytest
import redis as blocking
from redis.exceptions import RedisError, ResponseError

from deploy.processes import RedisServer, temporary_directory
from retention import connection
from retention.connection import connect, reaching_redis
from retention.errors import Unavailable
from retention.leases import Leases
from retention.readiness import Readiness
from retention.roots.file import FileRoot
from retention.seal import Key
from retention.settings import Settings
from tests.integration.cell import Cell, open_cell
from tests.stack import end_tasks


@pytest.fixture
async def refusing() -> AsyncIterator[tuple[Cell, RedisServer]]:
    """Give a cell on a Redis of its own, to be mistreated."""
    with temporary_directory() as directory:
        server = RedisServer(directory / "redis")
        try:
            async with connect(Settings(redis_url=server.url, root_key_file=Path("none")), retries=3) as redis:
                yield await open_cell(redis, directory / "audio"), server
                await end_tasks()
        finally:
            server.process.send_signal(signal.SIGCONT)
            server.stop()


def become_a_replica(client: "blocking.Redis[bytes]") -> None:
    client.replicaof("127.0.0.1", "1")


def become_full(client: "blocking.Redis[bytes]") -> None:
    client.config_set("maxmemory", 1000)


@pytest.mark.parametrize("mistreat", [become_a_replica, become_full])
async def test_a_redis_that_refuses_writes_is_unavailable(
    refusing: tuple[Cell, RedisServer], mistreat: Callable[[Any], None]
) -> None:
    """Submitting, claiming and finishing are refused in the same way, and go on when it recovers."""
    cell, server = refusing
    job = await cell.submit()
    leases = Leases(cell.redis, lease=timedelta(seconds=10))
    with blocking.Redis.from_url(server.url) as client:
        mistreat(client)
        attempts: list[Callable[[], Awaitable[object]]] = [cell.submit, lambda: leases.claim(1, lapsed=True)]
        for attempt in attempts:
            with pytest.raises(Unavailable):
                await attempt()
        client.replicaof("NO", "ONE")
        client.config_set("maxmemory", 0)
    await cell.acceptance.close()
    assert await leases.claim(2, lapsed=True) == [job.id]


async def test_many_wait_for_a_silent_redis_no_longer_than_one(
    refusing: tuple[Cell, RedisServer], monkeypatch: pytest.MonkeyPatch
) -> None:
    """Also when all of them have to connect anew."""
    monkeypatch.setattr(connection, "REPLY_WITHIN", 0.5)
    _, server = refusing
    async with connect(Settings(redis_url=server.url), retries=3) as redis:
        await redis.ping()
        server.process.send_signal(signal.SIGSTOP)
        async with asyncio.timeout(3):
            for _ in range(2):
                failed = await asyncio.gather(*[redis.ping() for _ in range(20)], return_exceptions=True)
                assert all(isinstance(each, RedisError) for each in failed)


async def test_a_worker_that_waits_when_the_role_changes_goes_on(refusing: tuple[Cell, RedisServer]) -> None:
    """Redis ends the blocked command of an idle worker with an error, which is an outage and no crash."""
    cell, server = refusing
    waiting = asyncio.create_task(Leases(cell.redis, lease=timedelta(seconds=10)).wait(4))
    with blocking.Redis.from_url(server.url) as client:
        while not int(client.info("clients")["blocked_clients"]):
            await asyncio.to_thread(client.ping)
        become_a_replica(client)
    with pytest.raises(Unavailable):
        await waiting


async def test_a_replica_is_not_ready(refusing: tuple[Cell, RedisServer]) -> None:
    """A load balancer must not send jobs where they cannot be written."""
    cell, server = refusing
    readiness = Readiness(cell.redis, FileRoot(Key.random()))
    await readiness.check()
    with blocking.Redis.from_url(server.url) as client:
        become_a_replica(client)
    with pytest.raises(Unavailable, match="replica"):
        await readiness.check()


async def test_without_its_root_key_a_cell_is_not_ready(cell: Cell, monkeypatch: pytest.MonkeyPatch) -> None:
    """What comes would be refused. The root is asked once in the time for which keys stay in memory, not per probe."""
    root, away = FileRoot(Key.random()), AsyncMock(side_effect=Unavailable("the root is away"))
    readiness = Readiness(cell.redis, root)
    await readiness.check()
    with patch.object(root, "check", away):
        await readiness.check()
        readiness = Readiness(cell.redis, root)
        for _ in range(3):
            with pytest.raises(Unavailable, match="the root is away"):
                await readiness.check()
        assert away.await_count == 1
        monkeypatch.setattr("retention.readiness.FORGET_AFTER", 0)
        readiness = Readiness(cell.redis, root)
        with pytest.raises(Unavailable):
            await readiness.check()
    await readiness.check()


async def test_a_silent_redis_is_unavailable_after_one_wait(refusing: tuple[Cell, RedisServer]) -> None:
    """A command is not sent again and again to a Redis that is frozen, while a client waits for an answer."""
    cell, server = refusing
    server.process.send_signal(signal.SIGSTOP)
    with pytest.raises(Unavailable):
        async with asyncio.timeout(20):
            await cell.store.now()


async def test_a_question_that_makes_no_sense_is_no_outage(refusing: tuple[Cell, RedisServer]) -> None:
    """A mistake of ours is not waited out."""
    cell, _ = refusing
    await cell.redis.set("text", "x", px=60_000)
    with pytest.raises(ResponseError), reaching_redis():
        await cell.redis.zadd("text", {"a": 1})


@pytest.mark.parametrize(
    ("settings", "words"),
    [
        ({"redis_url": "{url}?db=999"}, "ResponseError$"),  # Redis has sixteen
        ({"redis_url": "{url}", "redis_user": "nobody"}, "AuthenticationError$"),
        ({"redis_url": "{url}x"}, r"ConnectionError \(No such file or directory\)$"),
    ],
)
async def test_a_connection_that_was_not_set_up_is_never_used(
    refusing: tuple[Cell, RedisServer], tmp_path: Path, settings: dict[str, str], words: str
) -> None:
    """Or it would serve the first database instead of the one that is meant. What was wrong is said."""
    _, server = refusing
    password = tmp_path / "password"
    password.touch(0o600)
    password.write_text("hush")
    named: dict[str, Any] = {name: text.format(url=server.url) for name, text in settings.items()}
    named["redis_password_file"] = password if "redis_user" in named else None
    async with connect(Settings(**named), retries=0) as redis:
        for _ in range(2):
            with pytest.raises(Unavailable, match=words), reaching_redis():
                await redis.ping()
