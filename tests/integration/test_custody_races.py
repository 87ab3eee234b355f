"""Keys changed by one process while another is in the middle of using, rewrapping or forgetting what they wrap."""

import pytest

from retention import keyspace
from retention.errors import KeyUnavailable
from retention.keys import COMMON
from retention.registrations import key_in
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
    assert await cell.custody.rewrap(COMMON)
    for subject, wrapped in ((job.id, read.key), (known.id, key_in(kept))):
        now = await cell.keyring._keys.wrapping(cell.tenant, subject)
        assert now
        assert now != wrapped
        await cell.keyring.admit(wrapped, cell.tenant, subject)
        found = await cell.keyring.unwrap(wrapped, cell.tenant, subject)
        assert found == await cell.keyring.unwrap(now, cell.tenant, subject)


async def test_what_was_never_rewrapped_stays_unavailable(cell: Cell) -> None:
    """A wrapped key under a version that is no more, and which nothing has taken the place of, is not asked for twice."""
    job = await cell.submit()
    name = keyspace.job(cell.tenant, job.id)
    wrapped = (await cell.redis.hget(name, "key")) or b""
    await cell.custody.rotate(COMMON)
    assert await cell.custody.rewrap(COMMON)
    await cell.redis.hset(name, "key", wrapped)
    with pytest.raises(KeyUnavailable):
        await cell.keyring.unwrap(wrapped, cell.tenant, job.id)
