"""Rotations that workers go on with: what they hold up, who is at it, and what they say of what cannot be brought."""

import asyncio
from datetime import timedelta
from unittest.mock import patch

import pytest

from retention import keyspace, rotation
from retention.ending import end
from retention.errors import Unavailable
from retention.keys import COMMON, KeyId, KeyState
from retention.keystore import TenantKeys
from retention.wrapped import Wrapped
from tests.integration.cell import Cell
from tests.integration.keyed import names
from tests.stack import wait_until
from worker.caretaker import look_after_keys

SOON = timedelta(milliseconds=50)


async def test_no_date_and_no_purge_waits_for_a_rotation(cell: Cell) -> None:
    """However long it takes: a worker notes the one and sees to the other while it is at it."""
    await cell.deliverable()
    await cell.custody.rotate(COMMON)
    destroyed, dated = [cell.of((await cell.tenants.create(name, now=await cell.store.now())).id) for name in "ab"]
    job = await destroyed.deliverable()
    replace, begun, may_go_on = cell.custody._wrapped.replace, asyncio.Event(), asyncio.Event()

    async def slow(old: Wrapped, key: bytes) -> bool:
        begun.set()
        await may_go_on.wait()
        return await replace(old, key)

    async def seen_to() -> bool:
        gone, ended = [await cell.custody.get(KeyId(each.tenant)) for each in (destroyed, dated)]
        return gone.purged and ended.state is KeyState.DEACTIVATED and await cell.stored(job) is None

    async def settled() -> bool:
        return (await cell.custody.get(COMMON)).settled

    with patch.object(cell.custody._wrapped, "replace", slow):
        worker = asyncio.create_task(look_after_keys(cell.custody, token="worker", every=SOON))
        await begun.wait()
        await destroyed.custody.create(destroyed.tenant)
        await cell.custody.destroy(KeyId(destroyed.tenant), grace=timedelta(0))
        await dated.custody.create(dated.tenant, expires=await cell.store.now())
        await wait_until(seen_to)
        assert not await settled()
        may_go_on.set()
        await wait_until(settled)
        await end(worker)


async def test_one_worker_at_a_time_goes_on_with_rotations(cell: Cell) -> None:
    """For as long as it takes, and it ends by itself when the worker does; two at once would do no harm."""
    jobs = [await cell.deliverable() for _ in range(300)]
    await cell.custody.rotate(COMMON)
    replace, lives = cell.custody._wrapped.replace, list[int]()

    async def slow(old: Wrapped, key: bytes) -> bool:
        lives.append(await cell.redis.pttl(keyspace.KEYS_REWRAPPED))
        await cell.redis.pexpire(keyspace.KEYS_REWRAPPED, 30_000)
        await cell.custody.rotation.go_on("another")
        return await replace(old, key)

    with patch.object(cell.custody._wrapped, "replace", slow):
        await cell.custody.rotation.go_on("worker")
    assert len(lives) == len(jobs)
    kept = [life for life in lives if life > 30_000]  # at the beginning of each page
    assert len(kept) >= 2
    assert max(lives) <= 60_000
    assert await names(cell) == {(COMMON, 2)}


async def told(cell: Cell) -> list[tuple[str, str]]:
    """Go on with rotations, and return whose data is said not to be rewrapped, and why."""
    with patch.object(rotation, "_log") as log:
        await cell.custody.rotation.go_on("worker")
    lines = [call.kwargs for call in log.warning.call_args_list]
    return [(line["tenant"], line["error"]) for line in lines]


async def test_a_key_that_holds_a_rotation_is_told_once_a_round(cell: Cell) -> None:
    """And what it has is left as it is: what others have comes under the new version, and its own when it may again."""
    other = cell.of((await cell.tenants.create("other", now=await cell.store.now())).id)
    for _ in range(10):
        await cell.deliverable()
        await other.deliverable()
    await cell.custody.create(cell.tenant)
    await cell.custody.disable(KeyId(cell.tenant))
    await cell.custody.rotate(COMMON)
    for _ in range(2):
        with patch.object(TenantKeys, "of", autospec=True, side_effect=TenantKeys.of) as read:
            assert await told(cell) == [(cell.tenant, "KeyDisabled")]
        assert [tenant for _, tenant in (call.args for call in read.call_args_list)].count(cell.tenant) == 1
        assert await names(other) == {(COMMON, 2)}
        assert await names(cell) == {(COMMON, 1)}
    await cell.custody.enable(KeyId(cell.tenant))
    await cell.custody.rotation.go_on("worker")
    assert await names(cell) == {(cell.tenant, 1)}
    assert all(key.settled for key in await cell.custody.all())


async def test_data_keys_that_do_not_open_are_told_once_a_round(cell: Cell) -> None:
    """And keep back no other."""
    damaged, _ = [[await cell.deliverable() for _ in range(5)] for _ in range(2)]
    for job in damaged:
        await cell.redis.hset(keyspace.job(cell.tenant, job.id), "key", b"common@1:")
    await cell.custody.rotate(COMMON)
    assert await told(cell) == [(cell.tenant, "KeyUnavailable")]
    assert await cell.custody.rotation.progress(await cell.custody.get(COMMON)) == (5, 10, ())


async def test_a_worker_that_fails_does_not_keep_the_locks(cell: Cell) -> None:
    """It has them for their time, however often it tries; only who gets on keeps one for longer."""
    await cell.custody.rotate(COMMON)
    for lock, tend in (
        (keyspace.KEYS_TENDED, cell.custody.tend),
        (keyspace.KEYS_REWRAPPED, cell.custody.rotation.go_on),
    ):
        with patch.object(TenantKeys, "each", side_effect=Unavailable("root")):
            with pytest.raises(Unavailable):
                await tend("failing")
            assert await cell.redis.pexpire(lock, 5000)
            with pytest.raises(Unavailable):
                await tend("failing")
        assert await cell.redis.pttl(lock) <= 5000
