"""Rotation, states and their ends on a real Redis, over everything that has a data key."""

import asyncio
from collections.abc import AsyncIterator, Awaitable, Callable
from datetime import timedelta
from pathlib import Path
from unittest.mock import patch

import pytest
from redis.asyncio import Redis

from retention import keyring, keyspace
from retention.errors import KeyDisabled, KeyRefused, KeyUnavailable, NotFound, Unavailable, WrapRefused
from retention.job import JobId, Processing, TenantId
from retention.keyring import Keyring
from retention.keys import COMMON, KeyId, KeyState
from retention.roots.file import FileRoot
from retention.seal import Context, Key
from retention.tenant import Credential
from tests.integration.cell import AUDIO, HOUR, Cell, open_cell
from tests.integration.keyed import URL, Everything, all_is_denied, all_is_gone, all_opens, names, one_of_everything
from tests.integration.logged import MONTH
from tests.stack import wait_until

WRAPPED = 6
"""The data keys of one of everything: four jobs, the log's copy of one, a registration."""


@pytest.fixture
async def cell(redis: Redis, tmp_path: Path) -> Cell:
    """Give an empty cell with one tenant, and a request log."""
    return await open_cell(redis, tmp_path / "audio", request_log=MONTH)


@pytest.fixture
async def everything(cell: Cell) -> Everything:
    """Give one of everything, under the common key."""
    return await one_of_everything(cell)


@pytest.fixture
async def owned(cell: Cell, everything: Everything) -> Everything:
    """Give the same, under the tenant's own key."""
    await cell.custody.create(cell.tenant)
    assert await cell.custody.rotation.rewrap(KeyId(cell.tenant))
    return everything


async def contents(cell: Cell) -> dict[bytes, dict[bytes, bytes]]:
    """Return all that is stored of jobs and in the log, but for the wrapped data keys."""
    found = [
        key
        for pattern in ("volant:job:*", "volant:log:*")
        for key in [key async for key in cell.redis.scan_iter(pattern)]
    ]
    hashes = {key: await cell.redis.hgetall(key) for key in found}
    return {key: {field: value for field, value in hash_.items() if field != b"key"} for key, hash_ in hashes.items()}


async def test_a_rotation_rewraps_everything_and_touches_no_content(cell: Cell, everything: Everything) -> None:
    """Jobs of each status, the log, registrations: under the new version alone, and the old one is gone."""
    before, audio = await contents(cell), {path: path.read_bytes() for path in cell.recordings()}
    seen: list[int] = []

    async def note(count: int) -> None:
        seen.append(count)

    assert (await cell.custody.rotate(COMMON)).minimum == 2
    assert await names(cell) == {(COMMON, 1)}
    assert await cell.custody.rotation.progress(await cell.custody.get(COMMON)) == (0, WRAPPED, ())
    assert await cell.custody.rotation.count(COMMON) == WRAPPED
    await all_opens(cell, everything)
    before = await contents(cell)
    assert await cell.custody.rotation.rewrap(COMMON, note)
    assert sum(seen) == WRAPPED
    assert await names(cell) == {(COMMON, 2)}
    key = await cell.custody.get(COMMON)
    assert ([version.number for version in key.versions], key.settled) == ([2], True)
    assert await contents(cell) == before
    assert {path: path.read_bytes() for path in cell.recordings()} == audio
    await all_opens(cell, everything)


async def test_what_a_tenant_had_comes_under_its_own_key(cell: Cell, everything: Everything) -> None:
    """And what others have does not."""
    other = cell.of((await cell.tenants.create("other", now=await cell.jobs.now())).id)
    others = await one_of_everything(other)
    await cell.custody.create(cell.tenant)
    new = await cell.submit()
    assert await names(cell) == {(COMMON, 1), (cell.tenant, 1)}
    assert await cell.custody.rotation.rewrap(KeyId(cell.tenant))
    assert await names(cell) == {(cell.tenant, 1)}
    assert await names(other) == {(COMMON, 1)}
    await cell.jobs.delete(cell.tenant, new.id)
    await all_opens(cell, everything)
    await cell.custody.disable(COMMON)
    await all_opens(cell, everything)
    await all_is_denied(other, others)


@pytest.mark.parametrize("break_at", range(2 * WRAPPED))
async def test_a_rotation_goes_on_where_it_was_broken_off(cell: Cell, everything: Everything, break_at: int) -> None:
    """Before and after each data key; what was open before is open at every moment, and the end is the same."""
    await cell.custody.rotate(COMMON)
    original, calls = cell.custody._wrapped.replace, 0

    async def breaking(*args: object) -> bool:
        nonlocal calls
        calls += 1
        if calls > break_at // 2:
            if break_at % 2:
                await original(*args)  # type: ignore[arg-type]
            raise Unavailable("broken off")
        return await original(*args)  # type: ignore[arg-type]

    with patch.object(cell.custody._wrapped, "replace", breaking), pytest.raises(Unavailable):
        await cell.custody.rotation.rewrap(COMMON)
    assert not (await cell.custody.get(COMMON)).settled
    assert (await cell.custody.rotation.progress(await cell.custody.get(COMMON)))[0] == (break_at + 1) // 2
    await all_opens(cell, everything)
    await cell.custody.rotation.go_on("another worker")
    assert (await cell.custody.get(COMMON)).settled
    assert await names(cell) == {(COMMON, 2)}
    await all_opens(cell, everything)


async def test_processes_that_rewrap_together_do_no_harm(cell: Cell, everything: Everything) -> None:
    """Each of them says truly that all is done."""
    await cell.custody.rotate(COMMON)
    assert await asyncio.gather(*(cell.custody.rotation.rewrap(COMMON) for _ in range(4))) == [True] * 4
    await all_opens(cell, everything)


async def test_a_version_is_dropped_only_when_nothing_is_under_it(cell: Cell, everything: Everything) -> None:
    """One data key that does not open keeps it, and so does one that was stored while others were rewrapped."""
    hash_ = keyspace.job(cell.tenant, everything.waiting)
    good = await cell.redis.hget(hash_, "key")
    await cell.redis.hset(hash_, "key", good[:-1])
    await cell.custody.rotate(COMMON)
    assert not await cell.custody.rotation.rewrap(COMMON)
    key = await cell.custody.get(COMMON)
    assert ([version.number for version in key.versions], key.settled) == ([1, 2], False)
    assert await cell.custody.rotation.progress(key) == (WRAPPED - 1, WRAPPED, ())
    await cell.redis.hset(hash_, "key", good)
    await all_opens(cell, everything)
    assert await cell.custody.rotation.rewrap(COMMON)
    await all_opens(cell, everything)


async def test_a_rotation_on_top_of_another_is_not_settled_by_the_first(cell: Cell, everything: Everything) -> None:
    """Its end lands only on what it was made from."""
    await cell.custody.rotate(COMMON)
    original = cell.custody._keys.write

    async def overtaken(key: object) -> None:
        with patch.object(cell.custody._keys, "write", original):
            await cell.custody.rotate(COMMON)
        await original(key)  # type: ignore[arg-type]

    with patch.object(cell.custody._keys, "write", overtaken):
        assert not await cell.custody.rotation.rewrap(COMMON)
    assert [version.number for version in (await cell.custody.get(COMMON)).versions] == [1, 2, 3]
    assert await cell.custody.rotation.rewrap(COMMON)
    assert await names(cell) == {(COMMON, 3)}
    await all_opens(cell, everything)


async def test_a_wrap_below_the_least_version_is_stored_nowhere(cell: Cell, everything: Everything) -> None:
    """The scripts refuse it: of a job, of a registration, of a rewrap; and so it is with another's key."""
    job, key = await cell.begun(), Key.random()
    old = await cell.keyring.wrap(key, cell.tenant, job.id)
    (page,) = [page async for page in cell.custody._wrapped.registrations(cell.tenant)]
    (registration,) = page
    again = await cell.keyring.rewrap(registration.key, cell.tenant, registration.subject)
    await cell.custody.rotate(COMMON)
    refused = [old, old.replace(b"common@1:", b"other@9:"), b"common@2", b""]
    for wrapped in refused[:-1]:
        with pytest.raises(WrapRefused):
            await cell.store.write(job, now=job.created, sealed={"key": wrapped})
    assert not await cell.custody._wrapped.replace(registration, again)
    with patch.object(cell.keyring, "wrap", side_effect=[old, KeyDisabled("asked again")]) as wrap:
        with pytest.raises(KeyDisabled):
            await cell.registrations.keep(cell.tenant, "https://b.example", None, customer=None, began=job.created)
        assert wrap.call_count == 2
    assert await names(cell) == {(COMMON, 1)}
    await cell.custody.create(cell.tenant)
    with pytest.raises(WrapRefused):  # the common key is not its key any more
        await cell.store.write(job, now=job.created, sealed={"key": old.replace(b"common@1:", b"common@2:")})
    await all_opens(cell, everything)


async def test_what_went_or_changed_meanwhile_is_neither_rewrapped_nor_dropped(
    cell: Cell, everything: Everything
) -> None:
    """A deleted job does not come back as a field, and a callback URL keeps its new secret."""
    found = {each.place: each async for page in cell.custody._wrapped.of(cell.tenant) for each in page
             if each.subject not in everything[1:]}  # fmt: skip
    job, registration = found["job"], found["registration"]
    again = [await cell.keyring.rewrap(each.key, cell.tenant, each.subject) for each in (job, registration)]
    await cell.jobs.delete(cell.tenant, everything.waiting)
    await cell.registrations.keep(cell.tenant, URL, "another", customer=None, began=await cell.jobs.now())
    for each, key in zip((job, registration), again, strict=True):
        assert not await cell.custody._wrapped.replace(each, key)
        await cell.custody._wrapped.drop(each)
    assert await cell.redis.exists(job.hash_) == 0
    assert await cell.custody._wrapped.read_again(job) is None
    (kept,) = await cell.registrations.all(cell.tenant)
    assert (kept.url, kept.secret) == (URL, "another")


CHANGES: dict[str, Callable[[Cell], Awaitable[object]]] = {
    "rotated": lambda cell: cell.custody.rotate(COMMON),
    "replaced": lambda cell: cell.custody.create(cell.tenant),
}


@pytest.mark.parametrize("change", CHANGES.values(), ids=CHANGES.keys())
async def test_an_upload_outlasts_a_change_of_the_key(cell: Cell, change: Callable[[Cell], Awaitable[object]]) -> None:
    """Its data key is wrapped anew when it is accepted."""

    async def slow() -> AsyncIterator[bytes]:
        yield AUDIO
        await change(cell)
        assert await cell.custody.rotation.rewrap(COMMON)

    job = await cell.submit(slow())
    key = (await cell.keyring._keys.of(cell.tenant))[0] or await cell.custody.get(COMMON)
    assert await names(cell) == {(key.id, key.newest.number)}
    async with cell.holding.hold(cell.tenant, job.id) as held:
        assert held is not None
        assert b"".join([piece async for piece in cell.holding.audio(held)]) == AUDIO


async def test_an_upload_during_which_the_key_is_disabled_leaves_nothing(cell: Cell) -> None:
    """Neither record nor audio."""

    async def slow() -> AsyncIterator[bytes]:
        yield AUDIO
        await cell.custody.disable(COMMON)

    with pytest.raises(KeyDisabled):
        await cell.submit(slow())
    assert cell.recordings() == []
    assert [key async for key in cell.redis.scan_iter("volant:job:*")] == []


async def test_a_disabled_key_denies_everything_and_enabling_gives_it_back(cell: Cell, owned: Everything) -> None:
    """Unfinished jobs are parked without an attempt, not put into the queue meanwhile, and then put there at once."""
    await cell.redis.delete(keyspace.RECOGNITION.name)
    await cell.custody.disable(KeyId(cell.tenant))
    await all_is_denied(cell, owned)
    for job in owned[:2]:
        await cell.redis.zadd(keyspace.DUE, {keyspace.entry(cell.tenant, job, cell.keyring.tag(cell.tenant, "c")): 0})
    done = await cell.caretaker.round("caretaker", during=timedelta(seconds=5))
    assert done is not None
    assert (done.rescued, await cell.queued()) == (0, [])
    assert await cell.holding.denied([await taken(cell, owned.processing)]) == {owned.processing}
    await cell.custody.enable(KeyId(cell.tenant))
    assert set(await cell.queued()) == set(owned[:2])
    assert await cell.holding.denied([await taken(cell, owned.processing)]) == set()
    await all_opens(cell, owned)


async def taken(cell: Cell, job: JobId) -> Processing:
    """Return a job as whoever works on it has it."""
    found = await cell.store.read(cell.tenant, job)
    assert found is not None
    assert isinstance(found.job, Processing)
    return found.job


async def test_a_disabled_key_lets_others_and_erasure_be(cell: Cell, owned: Everything) -> None:
    """Deleting and erasing need no key."""
    other = cell.of((await cell.tenants.create("other", now=await cell.jobs.now())).id)
    others = await one_of_everything(other)
    await cell.custody.disable(KeyId(cell.tenant))
    await all_opens(other, others)
    await cell.jobs.delete(cell.tenant, owned.waiting)
    await cell.jobs.erase_customer(cell.tenant, "c")
    await cell.custody.enable(KeyId(cell.tenant))
    assert await cell.jobs.latest(cell.tenant) == []
    assert await cell.registrations.all(cell.tenant) == []


@pytest.mark.parametrize("state", ["disable", "destroy", "purge"])
async def test_a_tenants_key_rules_what_is_still_under_the_common_one(
    cell: Cell, everything: Everything, state: str
) -> None:
    """The rotation that brings it under the tenant's own key may take its time."""
    id_ = KeyId(cell.tenant)
    await cell.custody.create(cell.tenant)
    if state == "disable":
        await cell.custody.disable(id_)
    else:
        await cell.custody.destroy(id_, grace=HOUR if state == "destroy" else None)
    if state == "purge":
        await all_is_gone(cell, everything)
        return
    await all_is_denied(cell, everything)
    await (cell.custody.enable(id_) if state == "disable" else cell.custody.restore(id_))
    await all_opens(cell, everything)


async def test_a_key_past_its_date_reads_and_takes_nothing_new(cell: Cell, owned: Everything) -> None:
    """Deactivated by whoever tends the keys, also while it is suspended."""
    stranger = cell.of((await cell.tenants.create("other", now=await cell.jobs.now())).id)
    theirs = await one_of_everything(stranger)
    await cell.custody.create(stranger.tenant, expires=await cell.jobs.now() + timedelta(seconds=1))
    assert await cell.custody.rotation.rewrap(KeyId(stranger.tenant))
    await wait_until(lambda: deactivated(cell, stranger.tenant))
    await all_opens(stranger, theirs)
    with pytest.raises(KeyDisabled):
        async with stranger.acceptance.upload(Credential(tenant=stranger.tenant), size=0):
            pass
    with pytest.raises(KeyDisabled):
        await stranger.submit()
    with pytest.raises(KeyDisabled):
        await stranger.registrations.keep(
            stranger.tenant, "https://b.example", None, customer=None, began=await cell.jobs.now()
        )
    with pytest.raises(KeyRefused, match="deactivated"):
        await cell.custody.rotate(KeyId(stranger.tenant))
    async with cell.acceptance.upload(Credential(tenant=cell.tenant), size=0):
        pass
    await all_opens(cell, owned)


async def deactivated(cell: Cell, tenant: TenantId) -> bool:
    await cell.custody.tend("worker")
    return (await cell.custody.get(KeyId(tenant))).state is KeyState.DEACTIVATED


async def test_a_destroyed_key_is_restored_within_its_grace_and_purged_after(cell: Cell, owned: Everything) -> None:
    """What was erased then is gone, but not before."""
    id_ = KeyId(cell.tenant)
    await cell.custody.destroy(id_, grace=HOUR)
    await cell.custody.tend("worker")
    await all_is_denied(cell, owned)
    await cell.custody.restore(id_)
    await all_opens(cell, owned)
    await cell.custody.destroy(id_, grace=timedelta(0))
    await wait_until(lambda: purged(cell))
    await all_is_gone(cell, owned)
    with pytest.raises(KeyRefused, match="for good"):
        await cell.custody.restore(id_)


async def purged(cell: Cell) -> bool:
    await cell.custody.tend("worker")
    return (await cell.custody.get(KeyId(cell.tenant))).purged


async def test_the_grace_can_be_cut_short(cell: Cell, owned: Everything) -> None:
    """A destroyed key is destroyed at once all the same; then the tenant may have another."""
    id_ = KeyId(cell.tenant)
    await cell.custody.destroy(id_, grace=HOUR)
    with pytest.raises(KeyRefused, match="restored"):
        await cell.custody.create(cell.tenant)
    await cell.custody.destroy(id_, grace=None)
    await all_is_gone(cell, owned)
    with pytest.raises(KeyDisabled):
        await cell.submit()
    assert (await cell.custody.create(cell.tenant)).newest.number == 2
    await all_opens(cell, await one_of_everything(cell))


async def test_shredding_that_broke_off_is_gone_on_with(cell: Cell, owned: Everything) -> None:
    """By whoever tends the keys, or before the tenant gets another key."""
    id_ = KeyId(cell.tenant)
    for finish in (lambda: cell.custody.tend("worker"), lambda: cell.custody.create(cell.tenant)):
        with patch.object(cell.store, "erase", side_effect=Unavailable), pytest.raises(Unavailable):
            await cell.custody.destroy(id_, grace=None)
        await finish()
        await all_is_gone(cell, owned)
        with_key = await cell.custody.get(id_)
        if with_key.purged:
            await cell.custody.create(cell.tenant)
            owned = await one_of_everything(cell)


async def test_slow_shredding_spares_what_is_under_a_later_key(cell: Cell, owned: Everything) -> None:
    """Whatever another process has done since it looked."""
    id_ = KeyId(cell.tenant)
    new: list[Everything] = []
    original = cell.store.all_of

    async def slow(*args: object, **options: object) -> object:
        if not new:
            new.append(Everything("", "", "", ""))  # type: ignore[arg-type]
            await cell.custody.create(cell.tenant)
            new[0] = await one_of_everything(cell)
        return await original(*args, **options)  # type: ignore[arg-type]

    with patch.object(cell.store, "all_of", slow):
        await cell.custody.destroy(id_, grace=None)
    await all_opens(cell, new[0])
    for job in owned:
        with pytest.raises(NotFound):
            await cell.jobs.look_up(cell.tenant, job)


async def test_a_deleted_tenant_leaves_no_key(cell: Cell, owned: Everything) -> None:
    """Nor does one that is deleted while it is given one."""
    del owned
    await cell.jobs.delete_tenant(cell.tenant)
    other = (await cell.tenants.create("other", now=await cell.jobs.now())).id
    original = cell.custody._keyring.new_version

    async def slow(*args: object, **options: object) -> object:
        await cell.jobs.delete_tenant(other)
        return await original(*args, **options)  # type: ignore[arg-type]

    with patch.object(cell.custody._keyring, "new_version", slow), pytest.raises(NotFound):
        await cell.custody.create(other)
    with pytest.raises(NotFound):
        await cell.custody.create(TenantId("common"))
    assert set(await cell.redis.hkeys(keyspace.TENANT_KEYS)) == {b"common"}


async def test_unwrapped_keys_are_dropped_from_memory(cell: Cell, monkeypatch: pytest.MonkeyPatch) -> None:
    """Half a minute after they were unwrapped, used or not."""
    assert keyring.FORGET_AFTER == 30
    monkeypatch.setattr(keyring, "FORGET_AFTER", 0.05)
    await cell.keyring.wrap(Key.random(), cell.tenant, "x")
    assert cell.keyring._unwrapped

    async def dropped() -> bool:
        return not cell.keyring._unwrapped

    await wait_until(dropped)
    await cell.submit()


class Fickle(FileRoot):
    """A root that cannot be reached while `gone`."""

    gone = False

    async def wrap(self, key: Key, context: Context) -> bytes:
        """See `RootProvider`."""
        if self.gone:
            raise Unavailable("root")
        return await super().wrap(key, context)

    async def unwrap(self, wrapped: bytes, context: Context) -> Key:
        """See `RootProvider`."""
        if self.gone:
            raise Unavailable("root")
        return await super().unwrap(wrapped, context)


async def test_without_its_root_nothing_is_gone(cell: Cell, owned: Everything) -> None:
    """What needs it is unavailable; what does not goes on; afterwards all is there."""
    cell.keyring._root = root = Fickle(cell.keyring._root._key)  # type: ignore[attr-defined]
    cell.keyring._unwrapped.clear()
    root.gone = True
    for attempt in (
        lambda: cell.jobs.look_up(cell.tenant, owned.completed),
        lambda: cell.jobs.latest(cell.tenant),
        lambda: cell.registrations.all(cell.tenant),
        cell.submit,
        lambda: cell.custody.rotate(KeyId(cell.tenant)),
    ):
        with pytest.raises(Unavailable):
            await attempt()
    assert len((await cell.custody.get(KeyId(cell.tenant))).versions) == 1
    root.gone = False
    await all_opens(cell, owned)
    await cell.custody.rotate(KeyId(cell.tenant))
    root.gone = True
    cell.keyring._unwrapped.clear()
    with pytest.raises(Unavailable):
        await cell.custody.rotation.rewrap(KeyId(cell.tenant))
    root.gone = False
    assert await cell.custody.rotation.rewrap(KeyId(cell.tenant))
    await all_opens(cell, owned)


async def test_what_was_read_of_a_key_allows_for_a_moment_and_never_refuses(cell: Cell) -> None:
    """A reader need not ask each time; whoever would be refused is told what is so now."""
    patient = Keyring(
        keys=cell.keyring._keys,
        root=cell.keyring._root,
        index=cell.keyring._index,
        token=cell.keyring._token,
        audit=cell.keyring.audit,
        trust_for=60,
    )
    wrapped = await patient.wrap(Key.random(), cell.tenant, "x")
    await patient.admit(cell.tenant, wrapped)
    await cell.custody.disable(COMMON)
    await patient.admit(cell.tenant, wrapped)
    patient._read.clear()
    with pytest.raises(KeyDisabled):
        await patient.admit(cell.tenant, wrapped)
    await cell.custody.enable(COMMON)
    await patient.admit(cell.tenant, wrapped)
    await cell.custody.rotate(COMMON)
    await patient.unwrap(await patient.rewrap(wrapped, cell.tenant, "x"), cell.tenant, "x")
    with pytest.raises(KeyUnavailable):
        await patient.admit(cell.tenant, b"common@9:")
