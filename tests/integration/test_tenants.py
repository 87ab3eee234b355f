"""Tenants and their API keys: shown once, kept as digests, useless from their revocation on."""

import re
from datetime import timedelta

import pytest

from retention import keyspace
from retention.errors import NotFound
from retention.job import TenantId
from tests.integration.cell import Cell


async def new_key(cell: Cell) -> str:
    return await cell.tenants.create_key(cell.tenant, now=await cell.store.now())


async def test_a_key_names_its_tenant(cell: Cell) -> None:
    """Each of a tenant's keys is good; its form is the documented one."""
    keys = [await new_key(cell) for _ in range(2)]
    for key in keys:
        assert re.fullmatch(r"volant_[0-9a-f]{12}_[A-Za-z0-9_-]{43}", key)
        assert await cell.authenticated(key) == cell.tenant


async def test_a_keys_secret_is_not_kept(cell: Cell) -> None:
    """Redis holds a digest; who reads it all cannot make the key."""
    key = await new_key(cell)
    secret = key.split("_", 2)[2]
    for name in [name async for name in cell.redis.scan_iter()]:
        assert secret.encode() not in await cell.redis.dump(name)
    (stored,) = await cell.redis.hvals(keyspace.API_KEYS)
    assert secret.encode() not in stored
    assert secret not in repr(await cell.tenants.keys(cell.tenant))


async def test_a_revoked_key_is_useless_at_once(cell: Cell) -> None:
    """The next look-up refuses it; the tenant's other key stays good."""
    gone, kept = await new_key(cell), await new_key(cell)
    await cell.tenants.revoke(gone.split("_")[1])
    assert await cell.authenticated(gone) is None
    assert await cell.authenticated(kept) == cell.tenant
    with pytest.raises(NotFound):
        await cell.tenants.revoke(gone.split("_")[1])


@pytest.mark.parametrize(
    "presented",
    [
        "",
        "_",
        "__",
        "volant",
        "volant_{id}",
        "volant_{id}_",
        "volant__{secret}",
        "volant_{id}_{secret}x",
        "volant_{id}_x{secret}",
        " volant_{id}_{secret}",
        "other_{id}_{secret}",
        "VOLANT_{id}_{secret}",
        "volant_000000000000_{secret}",
        "volant_\udcff{id}_{secret}",
        "volant_{id}_{secret}\udcff",
        "volant_éé_{secret}",
        "volant_*_*",
    ],
    ids=ascii,
)
async def test_what_is_not_a_key_is_nobodys(cell: Cell, presented: str) -> None:
    """Whatever is presented, in whatever bytes (RFC 9110 §5.5), the answer is a plain no."""
    _, id_, secret = (await new_key(cell)).split("_", 2)
    assert await cell.authenticated(presented.format(id=id_, secret=secret)) is None


async def test_tenants_are_listed_oldest_first(cell: Cell) -> None:
    """With id, name and time of creation; two of one name are two tenants."""
    now = await cell.store.now()
    later = await cell.tenants.create("same", now=now + timedelta(seconds=2))
    earlier = await cell.tenants.create("same", now=now + timedelta(seconds=1))
    assert (await cell.tenants.all())[1:] == [earlier, later]
    assert earlier.id != later.id


async def test_a_dismissed_tenants_keys_go_with_it(cell: Cell) -> None:
    """Nobody gets in any more; another tenant's key stays good."""
    key = await new_key(cell)
    other = await cell.tenants.create("other", now=await cell.store.now())
    others = await cell.tenants.create_key(other.id, now=other.created)
    assert await cell.tenants.dismiss(cell.tenant)
    assert await cell.authenticated(key) is None
    assert await cell.authenticated(others) == other.id
    assert await cell.tenants.keys(cell.tenant) == []
    assert await cell.redis.hlen(keyspace.API_KEYS) == 1
    assert not await cell.tenants.dismiss(cell.tenant)


async def test_where_a_tenant_is_served_comes_with_its_credentials(cell: Cell) -> None:
    """As it is now, with a key and with a token, and by as many commands as before; by default it is everywhere."""
    key = await new_key(cell)
    token = await cell.tokens.issue(key)
    assert token is not None
    assert (token.buyer.endpoints, token.buyer.networks) == ("both", ())
    await cell.tenants.update(cell.tenant, endpoints="private", networks=("10.0.0.0/8",))
    for served in (await cell.tenants.authenticate(key), await cell.tokens.authenticate(token.text)):
        assert served is not None
        assert (served.endpoints, served.networks) == ("private", ("10.0.0.0/8",))


async def test_nobody_gets_a_key_for_an_unknown_tenant(cell: Cell) -> None:
    """A mistyped id makes no key."""
    with pytest.raises(NotFound):
        await cell.tenants.create_key(TenantId("unknown"), now=await cell.store.now())
    assert await cell.redis.hlen(keyspace.API_KEYS) == 0


async def test_however_many_keys_a_tenant_has_they_go_with_it(cell: Cell) -> None:
    """In one step, more than a command of a script can take."""
    await new_key(cell)
    [(id_, record)] = (await cell.redis.hgetall(keyspace.API_KEYS)).items()
    copies = {b"%012x" % number: record.replace(id_, b"%012x" % number) for number in range(8200)}
    await cell.redis.hset(keyspace.API_KEYS, mapping=copies)
    assert await cell.tenants.dismiss(cell.tenant)
    assert await cell.redis.hlen(keyspace.API_KEYS) == 0
