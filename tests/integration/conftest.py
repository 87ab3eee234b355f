"""The fixtures of the tests that need a Redis."""

from pathlib import Path

import pytest
from redis.asyncio import Redis

from tests.integration.buyer import Buyer, bought
from tests.integration.cell import Cell, open_cell


@pytest.fixture
async def cell(redis: Redis, tmp_path: Path) -> Cell:
    """Give an empty cell with one tenant."""
    return await open_cell(redis, tmp_path / "audio")


@pytest.fixture
async def buyer(cell: Cell) -> Buyer:
    """Give a buyer whose token opens the cell's tenant."""
    buyer = await bought(cell)
    assert await buyer.opens()
    assert await buyer.opens(buyer.with_claims())
    return buyer
