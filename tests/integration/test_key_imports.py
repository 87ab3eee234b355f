"""Keys that customers bring, on a real Redis: tokens, and what may be done with material."""

from collections.abc import AsyncIterator
from datetime import timedelta
from pathlib import Path
from typing import get_args

import pytest
from redis.asyncio import Redis

from retention import keyspace
from retention.byok import REFUSED, Algorithm, ImportToken, encrypt
from retention.errors import KeyRefused, NotFound
from retention.job import TenantId
from retention.keyring import check_value
from retention.keys import KeyId, KeyState, TenantKey
from retention.seal import Key
from tests.integration.cell import HOUR, Cell, open_cell
from tests.integration.keyed import all_is_denied, all_opens, names, one_of_everything
from tests.integration.logged import MONTH

OAEP, KWP = get_args(Algorithm)


@pytest.fixture
async def cell(redis: Redis, tmp_path: Path) -> Cell:
    """Give an empty cell with one tenant, and a request log."""
    return await open_cell(redis, tmp_path / "audio", request_log=MONTH)


async def bring(cell: Cell, material: Key, algorithm: Algorithm = OAEP) -> TenantKey:
    """Import material as a customer and an operator do."""
    token = await cell.imports.token(cell.tenant)
    wrapped, proof = encrypt(token, material, algorithm)
    taken = await cell.imports.material(cell.tenant, token.id, wrapped=wrapped, proof=proof, algorithm=algorithm)
    assert taken == material
    return await cell.custody.import_material(cell.tenant, taken)


async def attempt(cell: Cell, for_: ImportToken, **changes: object) -> None:
    """Present material for a token; fail unless it is refused in the same words as ever."""
    wrapped, proof = encrypt(for_, Key.random(), OAEP)
    options = {"tenant": cell.tenant, "token": for_.id, "wrapped": wrapped, "proof": proof, "algorithm": OAEP}
    with pytest.raises(KeyRefused) as refused:
        await cell.imports.material(**{**options, **changes})
    assert str(refused.value) == REFUSED


async def tokens(cell: Cell) -> AsyncIterator[bytes]:
    """Give the names of all tokens."""
    async for key in cell.redis.scan_iter("volant:importtoken:*"):
        yield key


async def test_a_token_is_good_for_ten_minutes_and_one_try(cell: Cell) -> None:
    """It expires with its private key; after a try, good or bad, it is gone."""
    for spoil in ({}, {"proof": b""}, {"wrapped": b""}, {"token": "another"}, {"algorithm": KWP}):
        token = await cell.imports.token(cell.tenant)
        soonest, latest = await cell.expires(keyspace.import_token(cell.tenant))
        assert soonest - timedelta(seconds=1) <= token.expires <= latest + timedelta(seconds=1)
        assert timedelta(minutes=9) < token.expires - await cell.jobs.now() <= timedelta(minutes=10)
        if spoil:
            await attempt(cell, token, **spoil)
        else:
            wrapped, proof = encrypt(token, Key.random(), OAEP)
            await cell.imports.material(cell.tenant, token.id, wrapped=wrapped, proof=proof, algorithm=OAEP)
        assert [key async for key in tokens(cell)] == []
        await attempt(cell, token)


async def test_a_tenant_has_one_token_at_a_time(cell: Cell) -> None:
    """The newest; that of another tenant serves nobody else; an unknown tenant has none."""
    first, second = await cell.imports.token(cell.tenant), await cell.imports.token(cell.tenant)
    assert first.nonce != second.nonce
    assert first.public_key != second.public_key
    await attempt(cell, first)
    other = (await cell.tenants.create("other", now=await cell.jobs.now())).id
    token = await cell.imports.token(other)
    await attempt(cell, token)
    await attempt(cell, token, tenant=other, proof=encrypt(token, Key.random(), OAEP)[1])
    with pytest.raises(NotFound):
        await cell.imports.token(TenantId("nobody"))


async def test_an_expired_token_takes_nothing(cell: Cell) -> None:
    """Redis has forgotten its private key."""
    token = await cell.imports.token(cell.tenant)
    await cell.redis.pexpire(keyspace.import_token(cell.tenant), 0)
    await attempt(cell, token)


async def test_the_private_key_is_sealed_and_opens_in_its_own_place_alone(cell: Cell) -> None:
    """Not in clear; not as another tenant's, nor under another root."""
    token = await cell.imports.token(cell.tenant)
    stored = await cell.redis.get(keyspace.import_token(cell.tenant))
    assert b"PRIVATE" not in stored
    assert b"MIIJ" not in stored  # how a key of this size begins in base64
    other = (await cell.tenants.create("other", now=await cell.jobs.now())).id
    swapped = stored.replace(cell.tenant.encode(), other.encode())
    await cell.redis.set(keyspace.import_token(other), swapped, px=10_000)
    moved = ImportToken(
        id=token.id, tenant=other, public_key=token.public_key, nonce=token.nonce, expires=token.expires
    )
    await attempt(cell, moved, tenant=other)


async def test_that_a_token_was_spent_is_an_erasure(cell: Cell) -> None:
    """Redis's file shows its private key until it is rewritten."""
    token = await cell.imports.token(cell.tenant)
    assert (await cell.erasures.status()).oldest is None
    await attempt(cell, token, proof=b"")
    assert (await cell.erasures.status()).oldest is not None


async def test_a_deleted_tenant_leaves_no_token(cell: Cell) -> None:
    """It goes in the step in which its keys go, which notes it."""
    token = await cell.imports.token(cell.tenant)
    await cell.jobs.delete_tenant(cell.tenant)
    assert [key async for key in tokens(cell)] == []
    assert await cell.redis.zcard(keyspace.EXPIRING) == 0
    assert (await cell.erasures.status()).oldest is not None
    await attempt(cell, token)


@pytest.mark.parametrize("algorithm", [OAEP, KWP])
async def test_imported_material_becomes_the_tenants_key(cell: Cell, algorithm: Algorithm) -> None:
    """Its first version, then the next: with new material only, and never one that is made here."""
    everything = await one_of_everything(cell)
    material = Key.random()
    key = await bring(cell, material, algorithm)
    assert (key.imported, key.newest.check, key.state) == (True, check_value(material), KeyState.ACTIVE)
    assert await cell.custody.rotation.rewrap(key.id)
    assert await names(cell) == {(cell.tenant, 1)}
    assert (await cell.keyring._material(key.id, key.newest)) == material
    assert material.raw() not in b"".join((await cell.redis.hgetall(keyspace.TENANT_KEYS)).values())
    with pytest.raises(KeyRefused, match="import new material"):
        await cell.custody.rotate(key.id)
    with pytest.raises(KeyRefused, match="already"):
        await bring(cell, material)
    assert (await bring(cell, Key.random())).newest.number == 2
    assert await cell.custody.rotation.rewrap(key.id)
    assert await names(cell) == {(cell.tenant, 2)}
    await all_opens(cell, everything)


async def test_a_destroyed_imported_key_takes_the_same_material_alone(cell: Cell) -> None:
    """It is taken away at once; restoring is importing it again; each version's own."""
    everything = await one_of_everything(cell)
    first, second = Key.random(), Key.random()
    await bring(cell, first)
    assert await cell.custody.rotation.rewrap(KeyId(cell.tenant))
    key = await bring(cell, second)
    destroyed = await cell.custody.destroy(key.id, grace=HOUR)
    assert [version.wrapped for version in destroyed.versions] == [b"", b""]
    await all_is_denied(cell, everything)
    with pytest.raises(KeyRefused, match="import the same material"):
        await cell.custody.restore(key.id)
    with pytest.raises(KeyRefused, match="not the material"):
        await bring(cell, Key.random())
    assert (await bring(cell, second)).state is KeyState.DESTROYED
    await all_is_denied(cell, everything)
    cell.keyring._unwrapped.clear()
    assert (await bring(cell, first)).state is KeyState.ACTIVE
    await all_opens(cell, everything)
    assert await cell.custody.rotation.rewrap(key.id)
    await all_opens(cell, everything)


async def test_a_key_that_is_purged_takes_any_material(cell: Cell) -> None:
    """As a new key; an expiration date is a new key's only."""
    everything = await one_of_everything(cell)
    material = Key.random()
    key = await bring(cell, material)
    with pytest.raises(KeyRefused, match="expiration"):
        await cell.custody.import_material(cell.tenant, Key.random(), expires=await cell.jobs.now() + HOUR)
    await cell.custody.disable(key.id)
    with pytest.raises(KeyRefused, match="suspended"):
        await bring(cell, Key.random())
    await cell.custody.destroy(key.id, grace=None)
    again = await bring(cell, material)
    assert (again.newest.number, again.state) == (2, KeyState.ACTIVE)
    for job in everything:
        with pytest.raises(NotFound):
            await cell.jobs.look_up(cell.tenant, job)
