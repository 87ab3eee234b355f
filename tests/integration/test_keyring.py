"""The keys above a job's own: who opens what."""

import asyncio
import base64

import pytest
from redis.asyncio import Redis

from retention import keyspace
from retention.errors import KeyUnavailable, Unavailable
from retention.job import TenantId, new_job_id
from retention.keyring import Keyring
from retention.roots.file import FileRoot
from retention.seal import Key

TENANT = TenantId("t1")


async def opened(redis: Redis, root: Key) -> Keyring:
    """Return what a worker opens."""
    ring = await Keyring.open(redis, FileRoot(root))
    await ring.make_common()
    return ring


async def test_who_may_not_make_the_common_key_waits_for_it(redis: Redis) -> None:
    """Nothing is kept before a worker or an administrator has made it; of several, all have the same."""
    root = Key.random()
    front = await Keyring.open(redis, FileRoot(root))
    for attempt in (front.wrap(Key.random(), TENANT, new_job_id()), front.admit_wrap(TENANT)):
        with pytest.raises(Unavailable, match="no common key"):
            await attempt
    assert not await redis.exists(keyspace.TENANT_KEYS)
    workers = [await Keyring.open(redis, FileRoot(root)) for _ in range(5)]
    await asyncio.gather(*(worker.make_common() for worker in workers))
    key, id_ = Key.random(), new_job_id()
    wrapped = await front.wrap(key, TENANT, id_)
    assert [await worker.unwrap(wrapped, TENANT, id_) for worker in workers] == [key] * 5


async def test_all_processes_of_a_cell_have_the_same_keys(redis: Redis) -> None:
    """What one wraps another unwraps; a customer's tag is the same everywhere."""
    root = Key.random()
    one, another = await opened(redis, root), await opened(redis, root)
    key, id_ = Key.random(), new_job_id()
    assert await another.unwrap(await one.wrap(key, TENANT, id_), TENANT, id_) == key
    assert one.tag(TENANT, "c") == another.tag(TENANT, "c")
    assert one.token_key() == another.token_key()
    assert one.tag(TENANT, "c") != one.tag(TENANT, "d")
    assert one.tag(TENANT, "c") != one.tag(TenantId("t2"), "c")


async def test_a_customers_tag_is_keyed(redis: Redis, other_redis: Redis) -> None:
    """In another cell it is another one: without the cell's keys nobody can tell whose it is by trying ids out."""
    tags = [(await Keyring.open(each, FileRoot(Key.random()))).tag(TENANT, "c") for each in (redis, other_redis)]
    assert tags[0] != tags[1]


async def test_another_root_key_is_refused(redis: Redis) -> None:
    """A process with the wrong root key does not start, rather than lose every job one by one."""
    await Keyring.open(redis, FileRoot(Key.random()))
    before = await redis.hgetall(keyspace.WRAPPED_KEYS)
    with pytest.raises(KeyUnavailable, match="root key"):
        await Keyring.open(redis, FileRoot(Key.random()))
    assert await redis.hgetall(keyspace.WRAPPED_KEYS) == before


async def test_a_wrapped_key_opens_in_its_own_place_alone(redis: Redis) -> None:
    """Neither for another job or tenant, nor changed, nor under another key's name."""
    ring = await opened(redis, Key.random())
    id_ = new_job_id()
    wrapped = await ring.wrap(Key.random(), TENANT, id_)
    elsewhere = [
        (wrapped, TENANT, new_job_id()),
        (wrapped, TenantId("t2"), id_),
        (wrapped[:-1], TENANT, id_),
        (wrapped + b"x", TENANT, id_),
        (wrapped[:-1] + bytes([wrapped[-1] ^ 1]), TENANT, id_),
        (wrapped.replace(b"common@1:", b"common@2:"), TENANT, id_),
        (wrapped.partition(b":")[2], TENANT, id_),
        (b"", TENANT, id_),
    ]
    for content, tenant, job in elsewhere:
        with pytest.raises(KeyUnavailable):
            await ring.unwrap(content, tenant, job)


async def test_no_key_is_stored_in_clear(redis: Redis) -> None:
    """Redis holds wrapped keys only."""
    root = Key.random()
    ring = await opened(redis, root)
    await ring.wrap(Key.random(), TENANT, new_job_id())
    hashes = (keyspace.WRAPPED_KEYS, keyspace.TENANT_KEYS)
    stored = b"".join([value for hash_ in hashes for value in (await redis.hgetall(hash_)).values()])
    for key in (root, *ring._unwrapped.values(), ring._index, ring._token):
        assert key.raw() not in stored
        assert base64.b64encode(key.raw()) not in stored
    assert ring._unwrapped
