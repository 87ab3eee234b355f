"""What a key's dates mean while nobody looks after it: no worker runs in these tests."""

from datetime import UTC, datetime, timedelta
from importlib.resources import files
from pathlib import Path
from unittest.mock import patch

import msgspec
import pytest
from hypothesis import given, strategies as st
from redis.asyncio import Redis

from deploy.processes import RedisServer
from retention import keyspace
from retention.errors import KeyDisabled, KeyRefused, Unavailable, WrapRefused
from retention.job import TenantId
from retention.keys import KeyId, KeyState
from retention.keystore import TenantKeys
from retention.roots.file import FileRoot
from retention.seal import Key
from tests.integration.audited import client_of
from tests.integration.cell import HOUR, Cell, open_cell
from tests.integration.keyed import all_is_gone, one_of_everything
from tests.integration.logged import MONTH
from tests.stack import wait_until


@pytest.fixture
async def cell(redis: Redis, tmp_path: Path) -> Cell:
    """Give an empty cell with one tenant, and a request log."""
    return await open_cell(redis, tmp_path / "audio", request_log=MONTH)


async def is_past(cell: Cell) -> bool:
    return (await cell.custody.get(KeyId(cell.tenant))).is_past_its_date(await cell.jobs.now())


async def test_a_date_counts_although_no_worker_runs(cell: Cell) -> None:
    """From that moment on nothing comes under the key, not even what was on its way; enabling does not change that."""
    id_ = KeyId(cell.tenant)
    made = await cell.custody.create(cell.tenant, expires=await cell.jobs.now())
    job, key = await cell.begun(), Key.random()
    with patch.object(TenantKeys, "now", return_value=made.created - HOUR):
        on_its_way = await cell.keyring.wrap(key, cell.tenant, job.id)
    assert (await cell.custody.get(id_)).state is KeyState.ACTIVE
    with pytest.raises(KeyDisabled):
        await cell.submit()
    with pytest.raises(WrapRefused):
        await cell.store.write(job, now=job.created, sealed={"key": on_its_way})
    await cell.custody.disable(id_)
    assert (await cell.custody.enable(id_)).state is KeyState.DEACTIVATED
    await cell.custody.destroy(id_, grace=HOUR)
    assert (await cell.custody.restore(id_)).state is KeyState.DEACTIVATED
    with pytest.raises(KeyRefused, match="deactivated"):
        await cell.custody.rotate(id_)


@pytest.mark.parametrize("before", ["disable", "destroy"])
async def test_a_date_that_passes_while_a_key_is_of_no_use_counts_when_it_comes_back(cell: Cell, before: str) -> None:
    """Although nobody has looked after it meanwhile; and a rotation of it is refused as of one that is deactivated."""
    id_ = KeyId(cell.tenant)
    await cell.custody.create(cell.tenant, expires=await cell.jobs.now() + timedelta(milliseconds=50))
    await (cell.custody.disable(id_) if before == "disable" else cell.custody.destroy(id_, grace=HOUR))

    await wait_until(lambda: is_past(cell))
    back = await (cell.custody.enable(id_) if before == "disable" else cell.custody.restore(id_))
    assert (back.state, back.expires) == (KeyState.DEACTIVATED, None)


async def test_a_rotation_after_the_date_is_refused(cell: Cell) -> None:
    """Although nobody has deactivated the key yet."""
    id_ = KeyId(cell.tenant)
    await cell.custody.create(cell.tenant, expires=await cell.jobs.now())
    with pytest.raises(KeyRefused, match="deactivated"):
        await cell.custody.rotate(id_)


async def test_a_key_whose_grace_is_over_is_not_restored(cell: Cell) -> None:
    """It is gone from that moment on, also for an owner who brings it again; and it may still be destroyed at once."""
    id_ = KeyId(cell.tenant)
    everything = await one_of_everything(cell)
    await cell.custody.create(cell.tenant)
    await cell.custody.destroy(id_, grace=timedelta(0))
    with pytest.raises(KeyRefused, match="for good"):
        await cell.custody.restore(id_)
    await cell.custody.destroy(id_, grace=None)
    await all_is_gone(cell, everything)
    material = Key.random()
    await cell.custody.import_material(cell.tenant, material)
    await cell.custody.destroy(id_, grace=timedelta(0))
    with pytest.raises(KeyRefused, match="for good"):
        await cell.custody.import_material(cell.tenant, material)


@pytest.mark.parametrize("imported", [False, True])
async def test_a_process_that_was_away_restores_nothing_after_the_grace(cell: Cell, *, imported: bool) -> None:
    """It looked at the clock before; and what it was to bring back may still be destroyed at once."""
    id_, material = KeyId(cell.tenant), Key.random()
    made = await cell.custody.create(cell.tenant, material=material if imported else None)
    await cell.custody.destroy(id_, grace=timedelta(0))
    with patch.object(TenantKeys, "now", return_value=made.created - HOUR), pytest.raises(KeyRefused, match="for good"):
        await (cell.custody.import_material(cell.tenant, material) if imported else cell.custody.restore(id_))
    with pytest.raises(KeyDisabled):
        await cell.submit()
    await cell.custody.destroy(id_, grace=None)
    assert (await cell.custody.get(id_)).purged


@given(st.datetimes(datetime(1970, 1, 1), datetime(2400, 1, 1)), st.integers(-2, 2))  # noqa: DTZ001 - UTC is added
def test_scripts_take_a_date_apart_as_it_was_written(redis_server: RedisServer, moment: datetime, later: int) -> None:
    """On whichever day, to the millisecond."""
    now = moment.replace(tzinfo=UTC) + timedelta(milliseconds=later)
    since = now - datetime(1970, 1, 1, tzinfo=UTC)
    clock = f"{{{since // timedelta(seconds=1)}, {since.microseconds}}}"
    lua = files("retention").joinpath("lua/wrap.lua").read_text().replace("redis.call('TIME')", clock)
    written = msgspec.json.encode(moment.replace(tzinfo=UTC)).decode().strip('"')
    client = client_of(redis_server.url)
    assert client.eval(f"{lua}return has_passed(ARGV[1]) and 1 or 0", 0, written) == (later >= 0)
    client.close()


async def test_no_date_and_no_purge_waits_for_the_root(cell: Cell) -> None:
    """Nor does a rotation for another, whose key cannot be had; that is told."""
    await cell.submit()
    await cell.custody.create(cell.tenant)  # the oldest of them; all that there is is to come under it
    destroyed, dated = [cell.of((await cell.tenants.create(name, now=await cell.jobs.now())).id) for name in "ab"]
    job = await destroyed.submit()
    for each, expires in (destroyed, None), (dated, await cell.jobs.now()):
        await each.custody.create(each.tenant, expires=expires)
    await cell.custody.destroy(KeyId(destroyed.tenant), grace=timedelta(0))
    cell.keyring._unwrapped.clear()
    with patch.object(FileRoot, "unwrap", side_effect=Unavailable("away")):
        await cell.custody.tend("worker")
        with pytest.raises(Unavailable, match="away"):
            await cell.custody.rotation.go_on("worker")
    assert (await cell.custody.get(KeyId(destroyed.tenant))).purged
    assert await cell.stored(job) is None
    assert (await cell.custody.get(KeyId(dated.tenant))).state is KeyState.DEACTIVATED
    assert not (await cell.custody.get(KeyId(cell.tenant))).settled
    await cell.custody.rotation.go_on("worker")
    assert (await cell.custody.get(KeyId(cell.tenant))).settled


async def test_a_key_whose_tenant_has_gone_holds_up_no_other(cell: Cell) -> None:
    """A deletion that broke off left it: its date and grace are passed over, and not in the log again and again."""
    others = [(await cell.tenants.create(name, now=await cell.jobs.now())).id for name in "abcd"]
    soon = await cell.jobs.now() + timedelta(milliseconds=300)
    dated, destroyed, dated_later, destroyed_later = map(KeyId, others)
    for id_ in dated, dated_later:
        await cell.custody.create(TenantId(id_), expires=soon)
    for id_ in destroyed, destroyed_later:
        await cell.custody.create(TenantId(id_))
        await cell.custody.destroy(id_, grace=timedelta(milliseconds=1))
    for id_ in dated, destroyed:
        await cell.tenants.dismiss(TenantId(id_))

    async def is_past() -> bool:
        return await cell.jobs.now() > soon

    await wait_until(is_past)
    await cell.custody.tend("t")
    assert (await cell.custody.get(dated_later)).state is KeyState.DEACTIVATED
    assert (await cell.custody.get(destroyed_later)).purged
    told = await cell.redis.xlen(keyspace.AUDIT)
    await cell.custody.tend("t")
    assert await cell.redis.xlen(keyspace.AUDIT) == told
