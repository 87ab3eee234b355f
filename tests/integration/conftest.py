"""The fixtures of the tests that need a Redis."""

from pathlib import Path

import pytest
from redis.asyncio import Redis

from tests.integration.cell import Cell, open_cell


@pytest.fixture
async def cell(redis: Redis, tmp_path: Path) -> Cell:
    """Give an empty cell with one tenant."""
    return await open_cell(redis, tmp_path / "audio")
