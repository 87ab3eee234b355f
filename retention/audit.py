"""The audit log: what was done to keys, tenants, credentials and data, and who was denied access, in a hash chain.

It lies in the cell's Redis, a stream whose ids are the numbers of the records, beside its two ends (`retention.chain`).
It has no content: ids of ours, names of events, counts; nothing that a client sent.

**What the log says.** Whoever does something that belongs here does it in a block of `recording`:

1. a record `pending` is on stable storage before anything is done; when it cannot be, nothing is done (Unavailable,
   which the front answers with 503);
2. it is done;
3. a record `success` or `failure`, of the same transaction, is on stable storage before anybody is told.

So whoever reads the log, and wherever a process or Redis broke off, may conclude:

- *no record*: it was not begun, and nothing of it was done;
- *pending* and nothing after it: it was begun; all, some or nothing of it was done, and nobody was told that it was.
  What was begun may be repeated, and then has records of its own;
- *pending, failure*: it was refused, and `detail` says why. A tenant's deletion that finds no tenant any more removes
  what an earlier one left behind;
- *pending, success*: all of it was done.

One record before the effect that says "success" would be shorter, and untrue of what broke off: a log that testifies
to an erasure must not testify to one that never was. One record after the effect would miss what broke off between.
A record may be there although its writer was told that it is not, when the reply was lost; by the above it is true
all the same: `pending` claims nothing, and an outcome is only written once it is known.
"""

import contextlib
import itertools
import uuid
from collections.abc import AsyncGenerator, AsyncIterator
from datetime import timedelta

import structlog
from msgspec import Struct
from msgspec.structs import replace
from redis.asyncio import Redis

from retention import keyspace
from retention.acting import acting
from retention.appending import Appending, encode, reaching_log
from retention.chain import ORIGIN, Chain, Event, Link, Linked, Outcome, Record, public
from retention.connection import script
from retention.errors import AuditBroken, RetentionError, Unavailable
from retention.seal import Key

_PAGE = 1000
_TRIMMED_AT_ONCE = 10_000

_log = structlog.get_logger()


class Ends(Struct, frozen=True):
    """Where the log begins, behind what was let go, and where it ends."""

    floor: Link
    head: Link


class Doing(Struct):
    """What is being done, for whoever does it to say more of it."""

    count: int = 0


class Audit:
    """The audit log of one cell, begun with its key. Raises Unavailable without Redis, AuditBroken after tampering.

    A record is kept for `retention`, and a little longer.
    """

    def __init__(self, redis: Redis, key: Key, *, retention: timedelta) -> None:
        self._redis = redis
        self._chain = Chain(key)
        self._retention = retention
        self._appending = Appending(redis, self._chain)
        self._trim = script(redis, "trim")
        self._restart = script(redis, "restart")
        self._page = script(redis, "page")

    async def restart(self) -> None:
        """Begin the log anew, in the place of one that was tampered with, which goes. Its first record says so.

        Its number is the microseconds of Redis's clock, which is more than any record had before. A stream takes only
        ids above its last, so nothing of an earlier log can be put back; and where numbers go on from cannot be read
        from the old one, since whoever tampered with it chose that, too.
        """
        with reaching_log():
            seconds, microseconds = await self._redis.time()
        floor = Link(seconds * 1_000_000 + microseconds, ORIGIN.hash)
        record = _record("volant.audit-log.restart", "success")
        encoded = encode(record, seconds, microseconds)
        head = self._chain.follow(floor, encoded)
        with reaching_log():
            await self._restart(
                keys=[keyspace.AUDIT, keyspace.AUDIT_ENDS],
                args=[
                    self._chain.attest("floor", floor),
                    self._chain.attest("head", head),
                    f"{head.seq}-0",
                    encoded,
                    head.hash,
                ],
            )

    @contextlib.asynccontextmanager
    async def recording(
        self, event: Event, *, tenant: str = "", target: str = "", detail: str = ""
    ) -> AsyncIterator[Doing]:
        """Record what is done in the block, before and after: see the module's text.

        After Unavailable, and after an error that is none of the domain's, nobody knows, and it stays pending.
        """
        doing = Doing()
        record = _record(event, "pending", tenant=tenant, target=target, detail=detail)
        await self._appending.append(record)
        try:
            yield doing
        except Unavailable:
            raise
        except RetentionError as error:
            await self._appending.append(replace(record, outcome="failure", detail=type(error).__name__))
            raise
        await self._appending.append(replace(record, outcome="success", count=doing.count))

    async def write(
        self, event: Event, outcome: Outcome, *, target: str = "", source: str = "", detail: str = "", count: int = 0
    ) -> None:
        """Append one record of something that has no effect of its own. When this returns, it is on stable storage."""
        await self._appending.append(
            _record(event, outcome, target=target, source=source, detail=detail, count=count),
        )

    async def close(self) -> None:
        """Wait a little for records that are being written."""
        await self._appending.close()

    async def ends(self) -> Ends:
        """Return where the log begins and ends."""
        with reaching_log():
            return self._ends(await self._redis.hmget(keyspace.AUDIT_ENDS, ["floor", "head"]))

    async def pages(self) -> AsyncGenerator[list[Linked]]:
        """Give all records, the oldest first, some at a time, each checked before it is given.

        Raises AuditBroken where something is missing, out of place or changed; what was given until then is good.
        """
        last: Link | None = None
        while True:
            with reaching_log():
                stored, raw = await self._page(
                    keys=[keyspace.AUDIT, keyspace.AUDIT_ENDS], args=[f"({last.seq}-0" if last else "-", _PAGE]
                )
            found = [(id_, dict(zip(words[::2], words[1::2], strict=True))) for id_, words in raw]
            ends = self._ends(stored)
            if last is None or ends.floor.seq > last.seq:  # what came next was let go since
                last = ends.floor
            page, broken = self._checked(last, found)
            if page:
                last = page[-1].link
                yield page
            if broken is not None:
                raise broken
            if len(found) < _PAGE:
                break
        if last != ends.head:
            raise AuditBroken(f"the audit log ends with record {last.seq}, and should with record {ends.head.seq}")

    async def trim(self) -> int:
        """Let go of records whose time is over; return of how many. A long log takes several calls.

        What goes is checked first: the new floor never vouches for what somebody else has put there. From a break on
        nothing goes, and the service's own log says so.
        """
        try:
            return await self._let_go()
        except AuditBroken as error:
            _log.error("the audit log was tampered with", reason=str(error))
            return 0

    async def _let_go(self) -> int:
        floor = last = (await self.ends()).floor
        with reaching_log():
            seconds, _ = await self._redis.time()
        over = (seconds - self._retention.total_seconds()) * 1000
        async with contextlib.aclosing(self.pages()) as pages:
            async for page in pages:
                old = list(itertools.takewhile(lambda linked: linked.record.time < over, page))
                last = old[-1].link if old else last
                if len(old) < len(page) or last.seq - floor.seq >= _TRIMMED_AT_ONCE:
                    break
        if last == floor:
            return 0
        with reaching_log():
            gone = await self._trim(
                keys=[keyspace.AUDIT, keyspace.AUDIT_ENDS],
                args=[self._chain.attest("floor", floor), self._chain.attest("floor", last), f"{last.seq + 1}-0"],
            )
        return last.seq - floor.seq if gone else 0

    def _checked(
        self, before: Link, found: list[tuple[bytes, dict[bytes, bytes]]]
    ) -> tuple[list[Linked], AuditBroken | None]:
        """Return what is good of a page, and what is wrong after that."""
        page: list[Linked] = []
        for id_, fields in found:
            try:
                page.append(self._chain.check(page[-1].link if page else before, id_, fields))
            except AuditBroken as error:
                return page, error
        return page, None

    def _ends(self, stored: list[bytes | None]) -> Ends:
        floor, head = stored
        return Ends(self._chain.attested("floor", floor), self._chain.attested("head", head))


def _record(
    event: Event,
    outcome: Outcome,
    *,
    tenant: str = "",
    target: str = "",
    source: str = "",
    detail: str = "",
    count: int = 0,
) -> Record:
    by = acting()
    return Record(
        time=0,  # until it is appended
        event=event,
        outcome=outcome,
        actor=by.actor,
        transaction=by.transaction or uuid.uuid4().hex,
        tenant=public(tenant),
        target=public(target),
        source=source,
        detail=detail,
        count=count,
    )
