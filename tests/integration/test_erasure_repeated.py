"""An erasure that breaks off anywhere is repeated, and then nothing is left."""

import asyncio
import multiprocessing
import os
import signal
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from redis.asyncio import Redis

from deploy.processes import RedisServer, temporary_directory
from retention.errors import Unavailable
from retention.job import TenantId
from retention.seal import Key
from tests.integration.cell import Cell, open_cell
from tests.integration.crowd import CUSTOMER, crowd
from tests.integration.traces import traces

SIZE = 120
"""More than one batch."""

STEPS: dict[str, Callable[[Cell], object]] = {
    "fence": lambda cell: cell.store,
    "remove_customer": lambda cell: cell.registrations,
    "all_of_customer": lambda cell: cell.store,
    "erase": lambda cell: cell.store,
    "discard": lambda cell: cell.queue,
    "remove": lambda cell: cell.audio,
    "strike": lambda cell: cell.store,
}
"""What an erasure does, in its order, and whose method that is."""


class Killed(BaseException):
    """What nobody handles."""


@pytest.mark.parametrize("done", [False, True], ids=["before", "after"])
@pytest.mark.parametrize("step", STEPS)
async def test_a_repeated_erasure_completes(cell: Cell, step: str, *, done: bool) -> None:
    """Broken off before or after each of its steps: the next one finds all that is left, audio and queues as well."""
    jobs = await crowd(cell, SIZE)
    owner = STEPS[step](cell)
    works = getattr(owner, step)

    async def breaks_off(*args: Any, **options: Any) -> None:
        if done:
            await works(*args, **options)
        raise Killed

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(owner, step, breaks_off)
        with pytest.raises(Killed):
            await cell.jobs.erase_customer(cell.tenant, CUSTOMER)
    await cell.jobs.erase_customer(cell.tenant, CUSTOMER)
    assert await traces(cell, CUSTOMER, *jobs) == []
    assert cell.recordings() == []
    assert await cell.registrations.all(cell.tenant) == []


async def test_an_erasure_survives_the_loss_of_redis() -> None:
    """Killed in the middle: the erasure says so, and when Redis is back another one completes."""
    with temporary_directory() as directory:
        server = RedisServer(directory / "redis")
        try:
            async with Redis.from_url(server.url) as redis:
                cell = await open_cell(redis, directory / "audio")
                jobs = await crowd(cell, SIZE)
                remove = cell.audio.remove

                async def interrupted(*args: Any) -> None:
                    await remove(*args)
                    server.process.kill()
                    await asyncio.to_thread(server.process.wait)

                with pytest.MonkeyPatch.context() as patch:
                    patch.setattr(cell.audio, "remove", interrupted)
                    with pytest.raises(Unavailable):
                        await cell.jobs.erase_customer(cell.tenant, CUSTOMER)
                await asyncio.to_thread(server.restart)
                assert len(await traces(cell, CUSTOMER, *jobs)) > 0
                await cell.jobs.erase_customer(cell.tenant, CUSTOMER)
                assert await traces(cell, CUSTOMER, *jobs) == []
                assert cell.recordings() == []
        finally:
            server.stop()


def erase_and_be_killed(url: str, directory: Path, root: bytes, tenant: TenantId, step: str) -> None:
    """Erase in this process, which ends without warning where the second batch comes to this step."""

    async def main() -> None:
        async with Redis.from_url(url) as redis:
            cell = (await open_cell(redis, directory, root=Key(root))).of(tenant)
            owner = STEPS[step](cell)
            works, calls = getattr(owner, step), list[int]()

            async def deadly(*args: Any, **options: Any) -> Any:
                calls.append(1)
                if len(calls) == 2:
                    os.kill(os.getpid(), signal.SIGKILL)
                return await works(*args, **options)

            with pytest.MonkeyPatch.context() as patch:
                patch.setattr(owner, step, deadly)
                await cell.jobs.erase_customer(tenant, CUSTOMER)

    asyncio.run(main())


@pytest.mark.parametrize("step", ["erase", "discard", "remove", "strike"])
async def test_an_erasure_survives_its_process(redis: Redis, redis_server: RedisServer, step: str) -> None:
    """Killed in the second batch: another process completes it."""
    with temporary_directory() as directory:
        root = Key.random()
        cell = await open_cell(redis, directory, root=root)
        jobs = await crowd(cell, SIZE)
        eraser = multiprocessing.get_context("spawn").Process(
            target=erase_and_be_killed, args=(redis_server.url, directory, root.raw(), cell.tenant, step), daemon=True
        )
        eraser.start()
        try:
            await asyncio.to_thread(eraser.join, 60)
            assert eraser.exitcode == -signal.SIGKILL
        finally:
            eraser.kill()
            eraser.join()
        assert len(await traces(cell, CUSTOMER, *jobs)) > 0
        await cell.jobs.erase_customer(cell.tenant, CUSTOMER)
        assert await traces(cell, CUSTOMER, *jobs) == []
        assert cell.recordings() == []
