"""How long what was erased is still in the files of Redis, and how that ends.

Redis appends to a file what it is told, so that an erased key, though nobody can read it, is in that file until it is
rewritten from what there is. Erasures note when the oldest of them was that no rewrite has covered; the caretaker has
the file rewritten, not more often than a setting says. A rewrite covers what was erased before it began.

What runs out by itself is erased at its moment, whoever notes it and when: until then it is overdue in `due`, in the
request log's list or in `expiring`, and counts from there.

A rewrite that broke off, with Redis or with the process that asked for it, covers nothing. So it counts only when
Redis has said that it began, is still the same run of Redis, and says that the last one went well. Nor does one count
for another run: a replica that was promoted has what this one noted, and a file of its own.
"""

from collections.abc import AsyncIterator, Awaitable, Callable, Mapping, Sequence
from datetime import UTC, datetime, timedelta
from typing import Any

import structlog
from msgspec import Struct
from redis.asyncio import Redis
from redis.exceptions import ResponseError

from retention import keyspace
from retention.connection import at_once, reaching_redis, script
from retention.entries import parse

_PAGE = 1000
_WANTED: dict[str, tuple[object, str]] = {
    "aof_enabled": (1, "Redis writes no append-only file now, and one from before may be there"),
    "role": ("master", "this Redis is a replica: its file is its own"),
}

_log = structlog.get_logger()


class Erasures(Struct, frozen=True, kw_only=True):
    """What Redis's files may still show: the oldest erasure, if any, and until when they are known to show none."""

    oldest: datetime | None
    clean_until: datetime | None
    doubts: tuple[str, ...] = ()
    """Why they may show older ones: sentences."""


def erasing(redis: Redis) -> Callable[..., Awaitable[list[Any]]]:
    """Return what erases by commands, in one step in which that is noted, and returns their replies.

    Of what runs out by itself it is told in which sorted set its `moments` are, and the `members` that are erased.
    """
    do = at_once(redis)

    async def erase(*commands: Sequence[Any], moments: str = "", members: Sequence[str] = ()) -> list[Any]:
        return await do(*commands, keys=[keyspace.ERASURES, *([moments] if moments else [])], members=members)

    return erase


class ErasureHorizon:
    """The files of one cell's Redis. Raises Unavailable when it cannot be reached."""

    def __init__(self, redis: Redis, *, rewrite_every: timedelta) -> None:
        self._redis = redis
        self._every_ms = rewrite_every // timedelta(milliseconds=1)
        self._begin = script(redis, "full", "noted", "rewrite")
        self._end = script(redis, "rewritten")
        self._forked = script(redis, "full", "forked")
        self._told: datetime | None = None

    async def status(self) -> Erasures:
        """Return what the files may still show."""
        moments = [moment async for moment in self._overdue()]  # first: what is noted meanwhile shows below
        noted, info = await self._noted()
        moments += [int(noted[name]) for name in ("since", "waiting") if name in noted]
        oldest = _moment(min(moments)) if moments else None
        snapshot = _snapshot(info)
        doubts = [sentence for field, (fit, sentence) in _WANTED.items() if info[field] != fit]
        if noted.get("rewritten") != info["run_id"]:
            doubts.append("since Redis started, its file was not rewritten yet: it may be another one than before")
        clean = None if doubts or "clean" not in noted else _moment(int(noted["clean"]))
        if snapshot:
            doubts.append(f"a snapshot (RDB) of {snapshot:%Y-%m-%dT%H:%M:%SZ} shows what was erased since")
        if clean:
            clean = min(moment for moment in (clean, oldest, snapshot) if moment)
        return Erasures(oldest=oldest, clean_until=clean, doubts=tuple(doubts))

    async def tend(self) -> None:
        """Have the file rewritten when that is due, and see how the last rewrite went."""
        noted, info = await self._noted()
        self._warn_of(_snapshot(info))
        busy = bool(info["aof_rewrite_in_progress"] or info["aof_rewrite_scheduled"])
        here = str(info["run_id"])
        if "waiting" in noted:
            asked = noted.get("run") == here and "forked" in noted
            if asked and busy:
                return
            if "forked" in noted and not asked:
                _log.warning("Redis ended as it rewrote its file: remove temp-*.aof from its directory, if it is left")
            well = info["aof_last_bgrewrite_status"] == "ok" and bool(info["aof_enabled"])
            await self._ended(int(noted["began"]), well=asked and well)
        if not busy and (began := await self._due(here)):
            await self._rewrite(began)

    async def _noted(self) -> tuple[dict[str, str], dict[str, Any]]:
        """Return what is noted, and what Redis says of itself, in that moment or later.

        Later does no harm: what is decided by the two is written only if the rewrite that was noted is still the one.
        """
        with reaching_redis():
            async with self._redis.pipeline(transaction=False) as pipe:
                pipe.hgetall(keyspace.ERASURES)
                pipe.info()
                noted, info = await pipe.execute()
        return {name.decode(): value.decode() for name, value in noted.items()}, info

    async def _overdue(self) -> AsyncIterator[int]:
        """Give the moments at which something ran out that nobody has noted yet: the first one of each kind."""
        with reaching_redis():
            seconds, microseconds = await self._redis.time()
            now = seconds * 1000 + microseconds // 1000
            for list_ in (keyspace.LOG, keyspace.EXPIRING):
                for _, moment in await self._redis.zrangebyscore(list_, "-inf", now, start=0, num=1, withscores=True):
                    yield int(moment)
            for least, zero in (0, 0), ("-inf", keyspace.LOOK):
                start = 0
                while due := await self._redis.zrangebyscore(
                    keyspace.DUE, least, now - zero, start=start, num=_PAGE, withscores=True
                ):
                    async with self._redis.pipeline(transaction=False) as pipe:
                        for entry in (parse(member) for member, _ in due):
                            pipe.exists(keyspace.job(entry.tenant, entry.job))
                        there = await pipe.execute()
                    if 0 in there:
                        yield int(due[there.index(0)][1]) + zero
                        break
                    start += _PAGE

    def _warn_of(self, snapshot: datetime | None) -> None:
        if snapshot and snapshot != self._told:
            _log.warning('Redis writes snapshots (RDB), which show what was erased since: set save ""')
        self._told = snapshot

    async def _due(self, run: str) -> int:
        with reaching_redis():
            return int(await self._begin(keys=[keyspace.ERASURES, keyspace.EXPIRING], args=[run, self._every_ms]))

    async def _rewrite(self, began: int) -> None:
        try:
            with reaching_redis():
                await self._redis.bgrewriteaof()
        except ResponseError as error:
            # Another began in between, and may show what was erased a moment ago; or this Redis does not let us.
            _log.warning("Redis does not rewrite its file", error=type(error).__name__)
            await self._ended(began, well=False)
            return
        with reaching_redis():
            await self._forked(keys=[keyspace.ERASURES], args=[began])

    async def _ended(self, began: int, *, well: bool) -> None:
        with reaching_redis():
            await self._end(keys=[keyspace.ERASURES], args=[int(well), began])


def _snapshot(info: Mapping[str, Any]) -> datetime | None:
    """Return when this run of Redis wrote its last snapshot, if any. Redis 6 counts none: to it its start is one."""
    started = info["server_time_usec"] // 1_000_000 - info["uptime_in_seconds"]
    wrote = info.get("rdb_saves", info["rdb_last_save_time"] > started + 1)
    return datetime.fromtimestamp(info["rdb_last_save_time"], UTC) if wrote else None


def _moment(milliseconds: int) -> datetime:
    return datetime.fromtimestamp(milliseconds / 1000, UTC)
