"""How long what was erased is still in the files of Redis, and how that ends.

Redis appends to a file what it is told, so that an erased key, though nobody can read it, is in that file until it is
rewritten from what there is. Erasures note when the oldest of them was that no rewrite has covered; the caretaker has
the file rewritten, not more often than a setting says. A rewrite covers what was erased before it began.

A rewrite that broke off, with Redis or with the process that asked for it, covers nothing. So it counts only when
Redis has said that it began, is still the same run of Redis, and says that the last one went well.
"""

from collections.abc import Awaitable, Callable
from datetime import UTC, datetime, timedelta
from typing import Any

import structlog
from msgspec import Struct
from redis.asyncio import Redis
from redis.exceptions import ResponseError

from retention import keyspace
from retention.connection import reaching_redis, script

_log = structlog.get_logger()


class Erasures(Struct, frozen=True, kw_only=True):
    """What Redis's files may still show: the oldest erasure, if any, and until when they are known to show none."""

    oldest: datetime | None
    clean_until: datetime | None


def noting(redis: Redis) -> Callable[[Any], Awaitable[None]]:
    """Return what adds to a pipeline that something is erased in it."""
    note = script(redis, "noted", "note")

    async def add(pipe: Any) -> None:
        await note(keys=[keyspace.ERASURES], client=pipe)

    return add


class ErasureHorizon:
    """The files of one cell's Redis. Raises Unavailable when it cannot be reached."""

    def __init__(self, redis: Redis, *, rewrite_every: timedelta) -> None:
        self._redis = redis
        self._every_ms = rewrite_every // timedelta(milliseconds=1)
        self._begin = script(redis, "rewrite")
        self._end = script(redis, "rewritten")
        self._forked = script(redis, "forked")

    async def status(self) -> Erasures:
        """Return what the files may still show."""
        with reaching_redis():
            since, waiting, clean = await self._redis.hmget(keyspace.ERASURES, ["since", "waiting", "clean"])
        moments = [int(moment) for moment in (since, waiting) if moment is not None]
        return Erasures(
            oldest=_moment(min(moments)) if moments else None, clean_until=_moment(int(clean)) if clean else None
        )

    async def tend(self) -> None:
        """Have the file rewritten when that is due, and see how the last rewrite went."""
        with reaching_redis():
            info = await self._redis.info()
            waiting, run, forked = await self._redis.hmget(keyspace.ERASURES, ["waiting", "run", "forked"])
        busy = bool(info["aof_rewrite_in_progress"] or info["aof_rewrite_scheduled"])
        here = str(info["run_id"])
        if waiting is not None:
            same = run is not None and run.decode() == here
            if same and forked and busy:
                return
            await self._ended(well=bool(same and forked) and info["aof_last_bgrewrite_status"] == "ok")
        if not busy and (began := await self._due(here)):
            await self._rewrite(began)

    async def _due(self, run: str) -> int:
        with reaching_redis():
            return int(await self._begin(keys=[keyspace.ERASURES], args=[run, self._every_ms]))

    async def _rewrite(self, began: int) -> None:
        try:
            with reaching_redis():
                await self._redis.bgrewriteaof()
        except ResponseError as error:
            # Another began in between, and may show what was erased a moment ago; or this Redis does not let us.
            _log.warning("Redis does not rewrite its file", error=type(error).__name__)
            await self._ended(well=False)
            return
        with reaching_redis():
            await self._forked(keys=[keyspace.ERASURES], args=[began])

    async def _ended(self, *, well: bool) -> None:
        with reaching_redis():
            await self._end(keys=[keyspace.ERASURES], args=[int(well)])


def _moment(milliseconds: int) -> datetime:
    return datetime.fromtimestamp(milliseconds / 1000, UTC)
