"""How records come to the end of the audit log: chained, in one call for all that waits, exactly once.

Redis's scripts know no SHA-256, so records are chained here and land by compare-and-swap on the head. A process has one
task that takes all that waits and appends it in one call, so that many at once cost about as much as one; who loses
against another process chains anew. A repetition after a lost reply is recognised by its hash. The head's attestation
is checked before anything is chained to it: what somebody else has put there is never made good by what follows.
"""

import asyncio
import random
from collections.abc import Iterator
from contextlib import contextmanager

import msgspec
import structlog
from msgspec.structs import replace
from redis.asyncio import Redis
from redis.exceptions import ResponseError

from retention import keyspace
from retention.chain import Chain, Record
from retention.connection import REPLY_WITHIN, reaching_redis, script
from retention.errors import AuditBroken, RetentionError, Unavailable
from retention.log import failure

AT_ONCE = 200
"""Records in one call, at most: Redis does nothing else meanwhile."""

_log = structlog.get_logger()


@contextmanager
def reaching_log() -> Iterator[None]:
    """Name the troubles of Redis as `reaching_redis` does, and what is not a log in the log's place AuditBroken."""
    try:
        with reaching_redis():
            yield
    except ResponseError as error:
        raise AuditBroken("the audit log in Redis is not as this service leaves it") from error


def encode(record: Record, seconds: int, microseconds: int) -> bytes:
    """Return what is stored of a record, with the time that Redis's clock shows."""
    return msgspec.json.encode(replace(record, time=seconds * 1000 + microseconds // 1000))


class Appending:
    """The end of one cell's audit log, for one process."""

    def __init__(self, redis: Redis, chain: Chain) -> None:
        self._redis = redis
        self._chain = chain
        self._append = script(redis, "full", "append")
        self._waiting: list[tuple[Record, asyncio.Future[RetentionError | None]]] = []
        self._writer: asyncio.Task[None] | None = None

    async def append(self, record: Record) -> None:
        """Append a record, with Redis's time. When this returns, it is on stable storage.

        Raises Unavailable, also when the reply was lost and it may be there, and AuditBroken.
        """
        future: asyncio.Future[RetentionError | None] = asyncio.get_running_loop().create_future()
        self._waiting.append((record, future))
        if self._writer is None or self._writer.done():
            self._writer = asyncio.create_task(self._write_all())
        if (error := await future) is not None:
            raise type(error)(str(error)) from error

    async def close(self) -> None:
        """Wait a little for what is being appended, though nobody may wait for it any more: Redis is closed next."""
        if self._writer is not None:
            await asyncio.wait({self._writer}, timeout=REPLY_WITHIN)

    async def _write_all(self) -> None:
        while self._waiting:
            batch, self._waiting = self._waiting[:AT_ONCE], self._waiting[AT_ONCE:]
            outcome: RetentionError | None = Unavailable("the process ended before the audit log was written")
            try:
                outcome = await self._write([record for record, _ in batch])
            finally:
                for _, future in batch:
                    if not future.done():  # who waited may have been cancelled
                        future.set_result(outcome)

    async def _write(self, records: list[Record]) -> RetentionError | None:
        """Append records, whatever others append meanwhile. Returns what went wrong."""
        try:
            while not await self._swap(records):  # noqa: ASYNC110 - others' events are not ours
                await asyncio.sleep(random.uniform(0, 0.005))
        except RetentionError as error:
            return error
        except Exception as error:  # noqa: BLE001 - whatever it is, those who wait are told
            _log.error("the audit log was not written", **failure(error))
            return Unavailable("the audit log was not written")
        return None

    async def _swap(self, records: list[Record]) -> bool:
        """Chain records to the head and append them; return whether it still was the head then."""
        with reaching_log():
            async with self._redis.pipeline(transaction=False) as pipe:
                pipe.time()
                pipe.hget(keyspace.AUDIT_ENDS, "head")
                (seconds, microseconds), head = await pipe.execute()
        link = self._chain.attested("head", head)
        args: list[bytes | str] = []
        for record in records:
            encoded = encode(record, seconds, microseconds)
            link = self._chain.follow(link, encoded)
            args += [f"{link.seq}-0", encoded, link.hash]
        with reaching_log():
            return bool(
                await self._append(
                    keys=[keyspace.AUDIT, keyspace.AUDIT_ENDS], args=[head, self._chain.attest("head", link), *args]
                )
            )
