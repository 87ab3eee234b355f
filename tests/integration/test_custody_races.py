"""Keys changed by one process while another is in the middle of using, rewrapping or forgetting what they wrap."""

from typing import Any
from unittest.mock import patch

import pytest

from retention import keys, keyspace
from retention.entries import entry_of
from retention.errors import KeyDisabled, KeyUnavailable, NotFound, Superseded
from retention.job import TenantId
from retention.keys import COMMON, KeyId, TenantKey
from retention.keystore import TenantKeys
from retention.registrations import key_in
from retention.seal import Key
from retention.wrapped import WrappedKeys
from tests.integration.cell import Cell

URL = "https://receiver.example/"


async def test_what_was_read_before_it_was_rewrapped_opens(cell: Cell) -> None:
    """Old versions go as soon as nothing is under them: whoever read a wrapped key a moment before has an old one."""
    job = await cell.submit()
    known = await cell.registrations.keep(cell.tenant, URL, "s", customer=None, began=await cell.store.now())
    read = await cell.store.read(cell.tenant, job.id)
    (kept,) = await cell.redis.hvals(keyspace.registrations_of(cell.tenant))
    assert read
    await cell.custody.rotate(COMMON)
    assert await cell.custody.rotation.rewrap(COMMON)
    for subject, wrapped in ((job.id, read.key), (known.id, key_in(kept))):
        now = await cell.keyring._keys.wrapping(cell.tenant, subject)
        assert now
        assert now != wrapped
        await cell.keyring.admit(cell.tenant, wrapped, subject)
        found = await cell.keyring.unwrap(wrapped, cell.tenant, subject)
        assert found == await cell.keyring.unwrap(now, cell.tenant, subject)


async def test_what_was_never_rewrapped_stays_unavailable(cell: Cell) -> None:
    """What is under a version that is no more, and was never put under another, is not asked for for ever."""
    job = await cell.submit()
    name = keyspace.job(cell.tenant, job.id)
    wrapped = (await cell.redis.hget(name, "key")) or b""
    await cell.custody.rotate(COMMON)
    assert await cell.custody.rotation.rewrap(COMMON)
    await cell.redis.hset(name, "key", wrapped)
    with pytest.raises(KeyUnavailable):
        await cell.keyring.unwrap(wrapped, cell.tenant, job.id)


async def test_an_own_key_has_power_over_what_is_still_under_the_common_one(cell: Cell) -> None:
    """Disabled or destroyed before all has come under it, it denies and takes everything of its tenant."""
    job = await cell.submit()
    other = cell.of((await cell.tenants.create("other", now=await cell.store.now())).id)
    kept = await other.submit()
    key = await cell.custody.create(cell.tenant)
    assert (await cell.jobs.look_up(cell.tenant, job.id))[0] == job
    await cell.custody.disable(key.id)
    with pytest.raises(KeyDisabled):
        await cell.jobs.look_up(cell.tenant, job.id)
    async with cell.holding.hold(cell.tenant, job.id) as held:
        assert held is None
    await cell.custody.enable(key.id)
    assert (await cell.jobs.look_up(cell.tenant, job.id))[0] == job
    await cell.custody.destroy(key.id, grace=None)
    assert await cell.naming(job) == []
    assert (await other.jobs.look_up(other.tenant, kept.id))[0] == kept


async def test_a_late_shredding_leaves_what_is_newer(cell: Cell) -> None:
    """A process that has still to erase what a purged key wrapped may come when the tenant has a new key already."""
    key = await cell.custody.create(cell.tenant)
    old = await cell.submit()
    await cell.custody.destroy(key.id, grace=None)
    purged = await cell.custody.get(key.id)
    await cell.custody.create(cell.tenant)
    job = await cell.submit()
    known = await cell.registrations.keep(cell.tenant, URL, "s", customer=None, began=await cell.store.now())
    await cell.custody._shredding.shred(purged)
    assert await cell.naming(old) == []
    assert (await cell.jobs.look_up(cell.tenant, job.id))[0] == job
    assert await cell.registrations.find(cell.tenant, URL) == known


async def test_a_key_that_comes_after_a_purged_one_does_not_inherit(cell: Cell) -> None:
    """Whoever purged may have died before anything was erased: the new key begins with nothing."""
    key = await cell.custody.create(cell.tenant)
    old = await cell.submit()
    keystore = TenantKeys(cell.redis)
    await keystore.write(keys.destroyed(await cell.custody.get(key.id), purge_at=None))
    assert await cell.naming(old)
    new = await cell.custody.create(cell.tenant)
    assert await cell.naming(old) == []
    assert await cell.custody.rotation.rewrap(new.id)


async def test_a_key_is_made_for_nobody_who_is_gone(cell: Cell) -> None:
    """A tenant that is deleted while it is given a key leaves none."""
    now = await cell.store.now()
    version = await cell.keyring.new_version(KeyId(cell.tenant), 1, now=now)
    await cell.jobs.delete_tenant(cell.tenant)
    late = keys.created(KeyId(cell.tenant), version, now=now, expires=None, gone=None)
    with pytest.raises(Superseded):
        await TenantKeys(cell.redis).write(late)
    with pytest.raises(NotFound):
        await cell.custody.create(cell.tenant)
    assert [key.id for key in await cell.custody.all()] == [COMMON]


async def test_nothing_is_rewrapped_under_what_may_not_wrap_any_more(cell: Cell) -> None:
    """Nor twice, nor onto another value."""
    job = await cell.submit()
    wrapped = WrappedKeys(cell.redis)
    await cell.custody.rotate(COMMON)
    late = await cell.keyring.rewrap((await cell.store.wrapped([entry_of(job)]))[0], cell.tenant, job.id)
    (found,) = [each async for page in wrapped.of(cell.tenant) for each in page]
    await cell.custody.rotate(COMMON)
    assert not await wrapped.replace(found, late)
    again = await cell.keyring.rewrap(found.key, cell.tenant, job.id)
    assert await wrapped.replace(found, again)
    assert not await wrapped.replace(found, again)


async def test_a_key_is_written_once(cell: Cell) -> None:
    """The same write, because its reply was lost, is no other; any other of that revision is late, though equal."""
    key = await cell.custody.create(cell.tenant)
    keystore = TenantKeys(cell.redis)
    suspended, write = keys.disabled(key), keystore._write

    async def repeated(**what: Any) -> Any:
        await write(**what)
        return await write(**what)

    with patch.object(keystore, "_write", repeated):
        await keystore.write(suspended)
    assert await keystore.get(key.id) == suspended
    with pytest.raises(Superseded):
        await keystore.write(suspended)
    with pytest.raises(Superseded):
        await keystore.write(keys.destroyed(key, purge_at=None))


async def test_a_slow_shredding_spares_a_job_that_was_written_late(cell: Cell, monkeypatch: pytest.MonkeyPatch) -> None:
    """A job is as old as its acceptance; its record may land once its tenant has the next key."""
    key = await cell.custody.create(cell.tenant)
    old = await cell.submit()
    accepted = await cell.begun()
    await TenantKeys(cell.redis).write(keys.destroyed(await cell.custody.get(key.id), purge_at=None))
    purged = await cell.custody.get(key.id)
    shredding, seen = cell.custody._shredding, TenantKeys.get

    async def then_all_goes_on(self: TenantKeys, id_: KeyId) -> TenantKey | None:
        found = await seen(self, id_)
        monkeypatch.setattr(TenantKeys, "get", seen)
        await cell.custody.create(cell.tenant)
        wrapped = await cell.keyring.wrap(Key.random(), cell.tenant, accepted.id)
        await cell.store.write(accepted, now=accepted.created, sealed={"key": wrapped})
        return found

    monkeypatch.setattr(TenantKeys, "get", then_all_goes_on)
    await shredding.shred(purged)
    assert await cell.naming(old) == []
    assert await cell.stored(accepted) == accepted


async def test_the_common_key_is_no_tenant(cell: Cell) -> None:
    """Whoever deletes a tenant of that name deletes nothing."""
    job = await cell.submit()
    with pytest.raises(NotFound):
        await cell.jobs.delete_tenant(TenantId(COMMON))
    with pytest.raises(ValueError, match="common"):
        await cell.keyring.remove(TenantId(COMMON))
    assert (await cell.jobs.look_up(cell.tenant, job.id))[0] == job
