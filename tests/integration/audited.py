"""What the tests of the audit log share: reading it, and putting something else in its place."""

from dataclasses import dataclass, field
from datetime import timedelta
from typing import Any

import redis as blocking
from redis.asyncio import Redis

from retention import keyspace
from retention.audit import Audit
from retention.chain import Chain, Linked, Record
from retention.seal import Key
from tests.integration.cell import Cell


async def begun(redis: Redis, key: Key, *, retention: timedelta) -> Audit:
    """Return a log that is empty, as a keyring leaves it that makes its key."""
    await redis.hset(keyspace.AUDIT_ENDS, mapping=Chain(key).origin())
    return Audit(redis, key, retention=retention)


async def verified(audit: Audit) -> list[Linked]:
    """Return all that is in the log. Raises AuditBroken."""
    return [linked async for page in audit.pages() for linked in page]


async def told(audit: Audit, *, since: int = 0) -> list[tuple[str, str]]:
    """Return events and outcomes of what is in the log after this record, and see that the log is whole."""
    return [(each.record.event, each.record.outcome) for each in await verified(audit) if each.link.seq > since]


async def records(audit: Audit, *, since: int = 0) -> list[Record]:
    """Return the records after this one."""
    return [each.record for each in await verified(audit) if each.link.seq > since]


async def since(cell: Cell) -> int:
    """Return the number of the last record."""
    return (await cell.audit.ends()).head.seq


async def snapshot(redis: Redis) -> dict[bytes, bytes]:
    """Return all that Redis holds."""
    return {key: await redis.dump(key) async for key in redis.scan_iter(count=1000)}


@dataclass
class Stored:
    """All that Redis holds of a log: what somebody with access to Redis, and without the key, can read and write."""

    entries: list[tuple[bytes, dict[bytes, bytes]]]
    ends: dict[bytes, bytes] = field(default_factory=dict)

    @classmethod
    def of(cls, client: Any) -> "Stored":
        return cls(client.xrange(keyspace.AUDIT), client.hgetall(keyspace.AUDIT_ENDS))

    def put(self, client: Any) -> None:
        """Put this in the place of what is there. Redis itself takes care that ids ascend."""
        client.delete(keyspace.AUDIT, keyspace.AUDIT_ENDS)
        for id_, fields in self.entries:
            client.xadd(keyspace.AUDIT, fields, id=id_)
        if self.ends:
            client.hset(keyspace.AUDIT_ENDS, mapping=self.ends)

    def __eq__(self, other: object) -> bool:
        return isinstance(other, Stored) and (self.entries, self.ends) == (other.entries, other.ends)

    __hash__ = None  # type: ignore[assignment]


def client_of(url: str) -> Any:
    """Return a client that waits for its replies."""
    return blocking.Redis.from_url(url)
