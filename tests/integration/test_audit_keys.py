"""What the audit log tells of keys: what is done to them when it is due, and what customers bring in vain."""

from datetime import timedelta
from pathlib import Path
from unittest.mock import patch

import pytest
from redis.asyncio import Redis

from retention.byok import encrypt
from retention.chain import Record
from retention.errors import KeyRefused, Unavailable
from retention.job import JobId
from retention.keys import COMMON, KeyId, TenantKey
from retention.keystore import TenantKeys
from retention.seal import Key
from tests.integration.audited import records, since, told
from tests.integration.cell import HOUR, Cell, open_cell
from tests.integration.keyed import one_of_everything
from tests.integration.logged import MONTH

PURGED = "volant.key.purge"
SETTLED = "volant.key.ack-rotate"
IMPORTED = "volant.key.import"


@pytest.fixture
async def cell(redis: Redis, tmp_path: Path) -> Cell:
    """Give an empty cell with one tenant, and a request log."""
    return await open_cell(redis, tmp_path / "audio", request_log=MONTH)


async def test_a_purge_is_told_with_what_it_erased(cell: Cell) -> None:
    """By time or at once: of how many jobs nothing is left."""
    for grace in (timedelta(0), None):
        await cell.custody.create(cell.tenant)
        await one_of_everything(cell)
        start = await since(cell)
        await cell.custody.destroy(KeyId(cell.tenant), grace=grace)
        await cell.custody.tend("worker")
        purged = [record for record in await records(cell.audit, since=start) if record.event == PURGED]
        assert [(record.outcome, record.count) for record in purged] == [("pending", 0), ("success", 4)]
        assert {(record.tenant, record.target) for record in purged} == {(cell.tenant, cell.tenant)}


async def test_an_erasure_that_broke_off_is_told_again_when_it_ends(cell: Cell) -> None:
    """It never reads as done before; and a round in which nothing is left to erase tells nothing."""
    await one_of_everything(cell)
    await cell.custody.create(cell.tenant)
    await cell.custody.destroy(KeyId(cell.tenant), grace=timedelta(0))
    start = await since(cell)
    with patch.object(cell.store, "erase", side_effect=Unavailable), pytest.raises(Unavailable):
        await cell.custody.tend("worker")
    assert await told(cell.audit, since=start) == [(PURGED, "pending")]
    for _ in range(3):
        await cell.custody.tend("worker")
    first, again, done = await records(cell.audit, since=start)
    assert [(again.event, again.outcome), (done.event, done.outcome)] == [(PURGED, "pending"), (PURGED, "success")]
    assert (first.transaction == again.transaction, done.count) == (False, 4)


async def test_an_erasure_that_broke_off_is_told_when_the_next_key_ends_it(cell: Cell) -> None:
    """With what it erased, as if a worker did; and a key that comes after nothing is left tells of none."""
    await cell.custody.create(cell.tenant)
    await one_of_everything(cell)
    with patch.object(cell.store, "erase", side_effect=Unavailable), pytest.raises(Unavailable):
        await cell.custody.destroy(KeyId(cell.tenant), grace=None)
    start = await since(cell)
    await cell.custody.create(cell.tenant)
    purged = [record for record in await records(cell.audit, since=start) if record.event == PURGED]
    assert [(record.outcome, record.count) for record in purged] == [("pending", 0), ("success", 4)]
    await cell.custody.destroy(KeyId(cell.tenant), grace=None)
    start = await since(cell)
    await cell.custody.create(cell.tenant)
    assert PURGED not in [event for event, _ in await told(cell.audit, since=start)]


async def test_of_two_who_erase_at_once_each_tells_what_it_erased(cell: Cell) -> None:
    """A job is counted once."""
    await cell.custody.create(cell.tenant)
    await one_of_everything(cell)
    start, discard = await since(cell), cell.queue.discard

    async def after_another(*jobs: JobId) -> None:
        with patch.object(cell.queue, "discard", discard):
            await cell.custody.tend("worker")
        await discard(*jobs)

    with patch.object(cell.queue, "discard", after_another):
        await cell.custody.destroy(KeyId(cell.tenant), grace=None)
    purged = [record for record in await records(cell.audit, since=start) if record.event == PURGED]
    assert [record.count for record in purged if record.outcome == "success"] == [4, 0]


async def test_of_several_who_end_a_rotation_at_once_one_tells(cell: Cell) -> None:
    """Whoever comes to it a moment later finds it ended all the same."""
    await one_of_everything(cell)
    await cell.custody.rotate(COMMON)
    start, write = await since(cell), TenantKeys.write

    async def after_another(self: TenantKeys, key: TenantKey) -> None:
        with patch.object(TenantKeys, "write", write):
            assert await cell.custody.rotation.rewrap(COMMON)
        await write(self, key)

    with patch.object(TenantKeys, "write", after_another):
        assert await cell.custody.rotation.rewrap(COMMON)
    ended = [outcome for event, outcome in await told(cell.audit, since=start) if event == SETTLED]
    assert sorted(ended) == ["failure", "pending", "pending", "success"]


@pytest.mark.parametrize("how", ["expire", "purge"])
async def test_of_several_who_see_to_a_date_at_once_one_tells(cell: Cell, how: str) -> None:
    """And each finds the key as its date makes it, as does who is about to rotate it."""
    id_ = KeyId(cell.tenant)
    await cell.custody.create(cell.tenant, expires=await cell.jobs.now() if how == "expire" else None)
    if how == "purge":
        await cell.custody.destroy(id_, grace=timedelta(0))
    start, write = await since(cell), TenantKeys.write

    async def after_another(self: TenantKeys, key: TenantKey) -> None:
        with patch.object(TenantKeys, "write", write):
            await cell.custody.tend("worker")
        await write(self, key)

    with patch.object(TenantKeys, "write", after_another):
        if how == "expire":
            with pytest.raises(KeyRefused, match="deactivated"):
                await cell.custody.rotate(id_)
        else:
            await cell.custody.tend("worker")
    ended = [outcome for event, outcome in await told(cell.audit, since=start) if event == f"volant.key.{how}"]
    assert sorted(ended) == ["failure", "pending", "pending", "success"]


async def test_the_end_of_a_rotation_is_told(cell: Cell) -> None:
    """Once; one that was overtaken by another version has failed, and is no end."""
    await one_of_everything(cell)
    await cell.custody.rotate(COMMON)
    start = await since(cell)
    for _ in range(2):
        assert await cell.custody.rotation.rewrap(COMMON)
    assert await told(cell.audit, since=start) == [(SETTLED, "pending"), (SETTLED, "success")]
    await cell.custody.rotate(COMMON)
    start, write = await since(cell), TenantKeys.write

    async def overtaken(self: TenantKeys, key: object) -> None:
        with patch.object(TenantKeys, "write", write):
            await cell.custody.rotate(COMMON)
        await write(self, key)  # type: ignore[arg-type]

    with patch.object(TenantKeys, "write", overtaken):
        assert not await cell.custody.rotation.rewrap(COMMON)
    ended = [each for each in await told(cell.audit, since=start) if each[0] == SETTLED]
    assert ended == [(SETTLED, "pending"), (SETTLED, "failure")]


async def test_a_refused_rotation_is_told(cell: Cell) -> None:
    """Of a key that its owner brought."""
    await cell.custody.import_material(cell.tenant, Key.random())
    start = await since(cell)
    with pytest.raises(KeyRefused):
        await cell.custody.rotate(KeyId(cell.tenant))
    rotate = "volant.key.rotate"
    assert await told(cell.audit, since=start) == [(rotate, "pending"), (rotate, "failure")]


async def refusal(cell: Cell, material: Key, *, spoil: str = "", **options: object) -> list[Record]:
    """Have material refused that is brought with a spoilt part; return what is told of that."""
    token = await cell.imports.token(cell.tenant)
    wrapped, proof = encrypt(token, material, "RSAES_OAEP_SHA_256")
    given = {"token": token.id, "wrapped": wrapped, "proof": proof}
    if spoil:
        given[spoil] = "another" if spoil == "token" else bytes(100)
    start = await since(cell)

    async def bring() -> None:
        taken = await cell.imports.material(cell.tenant, **given, algorithm="RSAES_OAEP_SHA_256")  # type: ignore[arg-type]
        await cell.custody.import_material(cell.tenant, taken, **options)  # type: ignore[arg-type]

    with pytest.raises(KeyRefused):
        await bring()
    return await records(cell.audit, since=start)


@pytest.mark.parametrize("reason", ["token", "proof", "wrapped", "another key", "the same key", "a date"])
async def test_a_refused_import_is_told(cell: Cell, reason: str) -> None:
    """Whatever was wrong, and no more than that it was."""
    material = Key.random()
    await cell.custody.import_material(cell.tenant, material)
    if reason == "another key":
        await cell.custody.destroy(KeyId(cell.tenant), grace=HOUR)
        found = await refusal(cell, Key.random())
    elif reason == "the same key":
        found = await refusal(cell, material)
    elif reason == "a date":
        found = await refusal(cell, Key.random(), expires=await cell.jobs.now())
    else:
        found = await refusal(cell, Key.random(), spoil=reason)
    assert [(each.event, each.outcome, each.detail) for each in found] == [
        (IMPORTED, "pending", ""),
        (IMPORTED, "failure", "KeyRefused"),
    ]
    assert {(each.tenant, each.target) for each in found} == {(cell.tenant, cell.tenant)}
