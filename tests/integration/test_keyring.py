"""The keys above a job's own: who opens what, and what is refused at the start."""

import base64
import stat
from pathlib import Path

import pytest
from redis.asyncio import Redis

from retention import keyspace
from retention.errors import KeyUnavailable, SettingsError
from retention.job import TenantId, new_job_id
from retention.keyring import Keyring
from retention.roots import FileRoot, _make_root_key, read_root_key
from retention.seal import Key

TENANT = TenantId("t1")


async def test_all_processes_of_a_cell_have_the_same_keys(redis: Redis) -> None:
    """What one wraps another unwraps; a customer's tag is the same everywhere."""
    root = Key.random()
    one, another = await Keyring.open(redis, FileRoot(root)), await Keyring.open(redis, FileRoot(root))
    key, id_ = Key.random(), new_job_id()
    assert await another.unwrap(await one.wrap(key, TENANT, id_), TENANT, id_) == key
    assert one.tag(TENANT, "c") == another.tag(TENANT, "c")
    assert one.token_key() == another.token_key()
    assert one.tag(TENANT, "c") != one.tag(TENANT, "d")
    assert one.tag(TENANT, "c") != one.tag(TenantId("t2"), "c")


async def test_another_root_key_is_refused(redis: Redis) -> None:
    """A process with the wrong root key does not start, rather than lose every job one by one."""
    await Keyring.open(redis, FileRoot(Key.random()))
    before = await redis.hgetall(keyspace.WRAPPED_KEYS)
    with pytest.raises(KeyUnavailable, match="root key"):
        await Keyring.open(redis, FileRoot(Key.random()))
    assert await redis.hgetall(keyspace.WRAPPED_KEYS) == before


async def test_a_wrapped_key_opens_in_its_own_place_alone(redis: Redis) -> None:
    """Neither for another job or tenant, nor changed, nor under another key's name."""
    ring = await Keyring.open(redis, FileRoot(Key.random()))
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
    ring = await Keyring.open(redis, FileRoot(root))
    await ring.wrap(Key.random(), TENANT, new_job_id())
    hashes = (keyspace.WRAPPED_KEYS, keyspace.TENANT_KEYS)
    stored = b"".join([value for hash_ in hashes for value in (await redis.hgetall(hash_)).values()])
    for key in (root, *ring._unwrapped.values(), ring._index, ring._token):
        assert key.raw() not in stored
        assert base64.b64encode(key.raw()) not in stored
    assert ring._unwrapped


def test_a_root_key_is_made_once_for_its_owner_alone(tmp_path: Path) -> None:
    """Of processes that start together the first makes it; a file of mode 0600, and nothing else, is left."""
    path = tmp_path / "made" / "root.key"
    key = read_root_key(path, create=True)
    _make_root_key(path)  # as a process does that found none a moment ago
    assert read_root_key(path, create=True) == key
    assert stat.S_IMODE(path.stat().st_mode) == 0o600
    assert [found.name for found in path.parent.iterdir()] == ["root.key"]
    assert len(base64.b64decode(path.read_bytes())) == 32


def test_a_missing_root_key_is_not_made_unasked(tmp_path: Path) -> None:
    """In production a missing key is a mistake, not an occasion."""
    with pytest.raises(SettingsError, match=r"root\.key"):
        read_root_key(tmp_path / "root.key", create=False)
    assert list(tmp_path.iterdir()) == []


@pytest.mark.parametrize("content", [b"", b"c2hvcnQ=", b"not base64!", base64.b64encode(bytes(33))])
def test_a_malformed_root_key_is_refused(tmp_path: Path, content: bytes) -> None:
    """Thirty-two bytes in base64, or nothing."""
    path = tmp_path / "root.key"
    path.write_bytes(content)
    path.chmod(0o600)
    with pytest.raises(SettingsError, match="does not hold 32 bytes"):
        read_root_key(path, create=False)


def test_a_root_key_that_others_can_read_is_refused(tmp_path: Path) -> None:
    """It is everybody's then."""
    path = tmp_path / "root.key"
    path.write_bytes(base64.b64encode(bytes(range(32))))
    path.chmod(0o644)
    with pytest.raises(SettingsError, match="0600"):
        read_root_key(path, create=True)
