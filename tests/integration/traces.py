"""What Redis still holds of a customer."""

from itertools import chain
from typing import Any

from redis.asyncio import Redis

from retention import keyspace
from retention.job import Job
from tests.integration.cell import Cell


async def traces(cell: Cell, customer: str, *jobs: Job) -> list[str]:
    """Return every key that bears the customer's id or tag, or the id of one of these jobs, in its name or content.

    But for the fence, which may bear the tag: it is needed, and expires.
    """
    tag = cell.keyring.tag(cell.tenant, customer)
    sought = [text.encode() for text in (customer, tag, *(job.id for job in jobs))]
    found = []
    async for key in cell.redis.scan_iter(count=1000):
        content = key + b"\0" + await _content(cell.redis, key)
        fence = key == keyspace.erased(cell.tenant, tag).encode() and await cell.redis.pttl(key) > 0
        found += [key.decode() for text in sought if text in content and not fence]
    return found


async def _content(redis: Redis, key: bytes) -> bytes:
    kind = await redis.type(key)
    parts: Any
    match kind:
        case b"string":
            parts = [await redis.get(key) or b""]
        case b"hash":
            parts = chain.from_iterable((await redis.hgetall(key)).items())
        case b"list":
            parts = await redis.lrange(key, 0, -1)
        case b"zset":
            parts = await redis.zrange(key, 0, -1)
        case b"stream":
            entries = await redis.xrange(key)
            parts = chain.from_iterable(chain.from_iterable(fields.items()) for _, fields in entries)
        case b"none":  # expired since it was listed
            parts = []
        case _:
            raise AssertionError(f"{key!r} is a {kind!r}: look into it, too")
    return b"\0".join(parts)
