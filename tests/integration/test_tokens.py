"""Bearer tokens on a real Redis: what they are, when they end, and what ends them before."""

import hashlib
import hmac
import re
from collections.abc import Awaitable, Callable
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import msgspec
import pytest
from redis.asyncio import Redis

from retention import keyspace
from retention.errors import Unavailable
from retention.job import TenantId
from retention.tenants import ApiKey
from retention.tokens import Tokens
from tests.integration.buyer import Buyer, bought, encoded, parts, signed
from tests.integration.cell import HOUR, Cell, open_cell


async def test_a_token_is_what_ibms_clients_read(cell: Cell) -> None:
    """Whole seconds of Redis's clock, of the length that it says; its name, its buyer, and nothing else."""
    key = await cell.tenants.create_key(cell.tenant, now=await cell.store.now())
    before = await cell.store.now()
    token = await cell.tokens.issue(key)
    after = await cell.store.now()
    assert token is not None
    header, claims = parts(token.text)
    assert header == {"alg": "HS256", "typ": "JWT", "kid": "token@1"}
    assert set(claims) == {"iss", "aud", "iat", "nbf", "exp", "jti", "sub", "key"}
    assert int(before.timestamp()) <= claims["iat"] <= after.timestamp()
    assert (claims["nbf"], claims["exp"]) == (claims["iat"], claims["iat"] + 3600)
    assert (token.expires_in, token.expiration, token.buyer.tenant) == (3600, claims["exp"], cell.tenant)
    assert (claims["sub"], claims["key"]) == (cell.tenant, key.split("_")[1])
    assert re.fullmatch("[0-9a-f]{32}", claims["jti"])
    assert token.text not in repr(token)


async def test_no_two_tokens_are_the_same(cell: Cell) -> None:
    """Each has a name of its own; the signature is HMAC-SHA-256 under the key of the keyring."""
    buyer = await bought(cell)
    another = await cell.tokens.issue(buyer.key)
    assert another is not None
    assert parts(another.text)[1]["jti"] != buyer.claims["jti"]
    text, _, signature = buyer.token.rpartition(".")
    assert signature == encoded(hmac.new(buyer.secret, text.encode(), hashlib.sha256).digest())


@pytest.mark.parametrize("presented", ["", "x", "volant__", "volant_{id}_x", "{token}", "apikey:{token}", "\udcff"])
async def test_only_a_key_buys_a_token(buyer: Buyer, presented: str) -> None:
    """A token buys no other, so that none outlives its hour."""
    assert await buyer.cell.tokens.issue(presented.format(token=buyer.token, id=buyer.key_id)) is None


async def test_a_token_ends_by_redis_clock(buyer: Buyer, monkeypatch: pytest.MonkeyPatch) -> None:
    """At `exp` it is no good (RFC 7519 §4.1.4), whatever this host takes the time to be."""
    second = datetime.fromtimestamp(buyer.claims["iat"], UTC)
    moment = timedelta(milliseconds=1)
    for now, good in [
        (second - moment, False),
        (second, True),
        (second + HOUR - moment, True),
        (second + HOUR, False),
        (second + timedelta(days=3650), False),
    ]:
        monkeypatch.setattr(buyer.cell.store, "now", at(now))
        assert await buyer.opens() is good


async def test_past_and_future_are_told_by_the_real_clock_of_redis(buyer: Buyer) -> None:
    """A second ago is over, a minute ahead has not begun; a `iat` decides nothing."""
    now = int((await buyer.cell.store.now()).timestamp())
    assert not await buyer.opens(buyer.with_claims(exp=now))
    assert not await buyer.opens(buyer.with_claims(exp=now - 1))
    assert not await buyer.opens(buyer.with_claims(nbf=now + 60))
    assert await buyer.opens(buyer.with_claims(exp=now + 60, nbf=now, iat=now + 999))


async def test_a_host_with_a_wrong_clock_judges_no_differently(buyer: Buyer, monkeypatch: pytest.MonkeyPatch) -> None:
    """Nor does it make other tokens."""
    for days in (-400, 400):

        class Elsewhen(datetime):
            @classmethod
            def now(cls, tz: Any = None, _away: timedelta = timedelta(days=days)) -> datetime:  # type: ignore[override]
                return datetime.now(tz) + _away

        monkeypatch.setattr("jwt.api_jwt.datetime", Elsewhen)
        monkeypatch.setattr("time.time", lambda days=days: 1e9 * days)
        assert await buyer.opens()
        token = await buyer.cell.tokens.issue(buyer.key)
        assert token is not None
        assert await buyer.opens(token.text)
        assert abs(parts(token.text)[1]["iat"] - buyer.claims["iat"]) < 30


async def test_a_request_that_had_begun_may_end_after_its_token(buyer: Buyer) -> None:
    """At the end of an upload only what may be revoked is looked at again."""
    old = buyer.with_claims(iat=0, nbf=0, exp=1)
    again = buyer.cell.tokens.authenticate_again
    assert [found.tenant for found in (await again(old), await again(buyer.token)) if found] == [buyer.cell.tenant] * 2
    assert await again(signed(buyer.header, buyer.claims, bytes(32))) is None
    await buyer.cell.tenants.revoke(buyer.key_id)
    assert await again(old) is None
    assert await again(buyer.token) is None


async def test_a_revoked_key_takes_its_tokens_along(buyer: Buyer) -> None:
    """At once; those of the tenant's other key stay good."""
    other = await bought(buyer.cell)
    await buyer.cell.tenants.revoke(buyer.key_id)
    assert not await buyer.opens()
    assert await other.opens()
    assert await buyer.cell.tokens.issue(buyer.key) is None


async def test_a_deleted_tenant_takes_its_tokens_along(buyer: Buyer) -> None:
    """Another tenant of the same name has none of them."""
    await buyer.cell.jobs.delete_tenant(buyer.cell.tenant)
    assert not await buyer.opens()
    again = await buyer.cell.tenants.create("test", now=await buyer.cell.store.now())
    await buyer.cell.tenants.create_key(again.id, now=again.created)
    assert not await buyer.opens()


async def test_key_and_tenant_must_both_be_there_and_belong_together(buyer: Buyer, redis: Redis) -> None:
    """Either alone, whatever brought it back, opens nothing."""
    tenant = await redis.hget(keyspace.TENANTS, buyer.cell.tenant)
    key = await redis.hget(keyspace.API_KEYS, buyer.key_id)
    await buyer.cell.tenants.dismiss(buyer.cell.tenant)
    await redis.hset(keyspace.TENANTS, buyer.cell.tenant, tenant)
    assert not await buyer.opens()
    await redis.hset(keyspace.API_KEYS, buyer.key_id, key)
    assert await buyer.opens()
    await redis.hdel(keyspace.TENANTS, buyer.cell.tenant)
    assert not await buyer.opens()
    await redis.hset(keyspace.TENANTS, buyer.cell.tenant, tenant)
    foreign = msgspec.structs.replace(msgspec.json.decode(key, type=ApiKey), tenant=TenantId("another"))
    await redis.hset(keyspace.API_KEYS, buyer.key_id, msgspec.json.encode(foreign))
    assert not await buyer.opens()


async def test_a_token_of_another_tenants_key_does_not_open_this_one(buyer: Buyer) -> None:
    """Not even with our signature."""
    other = await buyer.cell.tenants.create("other", now=await buyer.cell.store.now())
    stranger = await bought(buyer.cell, other.id)
    found = await buyer.cell.tokens.authenticate(stranger.token)
    assert found is not None
    assert found.tenant == other.id
    assert not await buyer.opens(buyer.with_claims(key=stranger.key_id))
    assert await buyer.cell.tokens.authenticate(buyer.with_claims(sub=other.id)) is None


async def test_a_token_of_another_installation_is_refused(buyer: Buyer, redis: Redis, tmp_path: Path) -> None:
    """Although the same tenant and the same key are there."""
    known = {name: await redis.hgetall(name) for name in (keyspace.TENANTS, keyspace.API_KEYS)}
    await redis.flushall()
    other = await open_cell(redis, tmp_path / "other")
    for name, fields in known.items():
        await redis.hset(name, mapping=fields)
    assert await other.authenticated(buyer.key) == buyer.cell.tenant
    assert await other.tokens.authenticate(buyer.token) is None
    token = await other.tokens.issue(buyer.key)
    assert token is not None
    found = await other.tokens.authenticate(token.text)
    assert found is not None
    assert found.tenant == buyer.cell.tenant


async def test_all_processes_of_an_installation_take_each_others_tokens(buyer: Buyer) -> None:
    """However long theirs are to be."""
    cell = buyer.cell
    brief = Tokens(keyring=cell.keyring, tenants=cell.tenants, store=cell.store, life=timedelta(seconds=90.7))
    token = await brief.issue(buyer.key)
    assert token is not None
    assert token.expires_in == 90
    assert await buyer.opens(token.text)
    assert await brief.authenticate(buyer.token) is not None


async def test_nothing_of_a_token_is_kept(buyer: Buyer, redis: Redis) -> None:
    """Redis holds the key of the signature, sealed, and no token."""
    for name in [name async for name in redis.scan_iter()]:
        stored = await redis.dump(name)
        for secret in (buyer.secret, buyer.token.encode(), buyer.claims["jti"].encode()):
            assert secret not in stored


async def test_an_outage_is_not_taken_for_a_wrong_token(buyer: Buyer, monkeypatch: pytest.MonkeyPatch) -> None:
    """Nobody is sent away for what could not be looked up."""

    async def away() -> datetime:
        raise Unavailable

    monkeypatch.setattr(buyer.cell.store, "now", away)
    with pytest.raises(Unavailable):
        await buyer.opens()


def at(moment: datetime) -> Callable[[], Awaitable[datetime]]:
    """Return a clock that stands still."""

    async def now() -> datetime:
        return moment

    return now
