"""The fixtures of the tests that need a Redis."""

from collections.abc import AsyncIterator
from functools import partial
from pathlib import Path

import pytest
from redis.asyncio import Redis

from deploy.processes import RedisServer, temporary_directory
from tests.commands import Run, volant
from tests.integration.buyer import Buyer, bought
from tests.integration.cell import HOUR, Cell, open_cell
from tests.integration.installation import Installation, installed
from tests.integration.shown import Files
from tests.stack import end_tasks


@pytest.fixture
async def cell(redis: Redis, tmp_path: Path) -> Cell:
    """Give an empty cell with one tenant."""
    return await open_cell(redis, tmp_path / "audio")


@pytest.fixture
async def installation(redis: Redis, other_redis: Redis, tmp_path: Path) -> AsyncIterator[Installation]:
    """Give an installation of two cells, home and acme, each with a Redis of its own; and one tenant, at home."""
    async with installed(redis, other_redis, tmp_path) as opened:
        yield opened


@pytest.fixture
async def buyer(cell: Cell) -> Buyer:
    """Give a buyer whose token opens the cell's tenant."""
    buyer = await bought(cell)
    assert await buyer.opens()
    assert await buyer.opens(buyer.with_claims())
    return buyer


@pytest.fixture
def settings(redis_server: RedisServer, nothing_is_kept_forever: None, tmp_path: Path) -> dict[str, str]:
    """Give the settings of an empty installation, as the command line takes them."""
    del nothing_is_kept_forever
    return {
        "redis_url": redis_server.url,
        "root_key_file": str(tmp_path / "root.key"),
        "create_root_key": "true",
        "audio": str(tmp_path / "audio"),
    }


@pytest.fixture
def run(settings: dict[str, str]) -> Run:
    """Give what runs `volant` in this installation."""
    return partial(volant, **settings)


@pytest.fixture
async def files(tmp_path: Path) -> AsyncIterator[Files]:
    """Give a Redis of its own with its directory, and a cell in it that has a request log."""
    with temporary_directory() as directory:
        server = RedisServer(directory / "redis")
        redis = Redis.from_url(server.url)
        cell = await open_cell(redis, tmp_path / "audio", request_log=HOUR)
        yield Files(directory=directory / "redis", server=server, cell=cell)
        await end_tasks()
        await redis.aclose()
        server.stop()
