"""Whether a cell is fit to keep promises: its root key can be used, and Redis never evicts and writes to its file."""

import asyncio
import time

from redis.asyncio import Redis

from retention.connection import reaching_redis
from retention.errors import Unavailable
from retention.keyring import FORGET_AFTER
from retention.roots import RootProvider


class Readiness:
    """Asks Redis about itself with `INFO`, which every role may, and now and then the root."""

    def __init__(self, redis: Redis, root: RootProvider) -> None:
        self._redis = redis
        self._root = root
        self._asking = asyncio.Lock()
        self._asked_again_at = 0.0
        self._trouble: Unavailable | None = None

    async def check(self) -> None:
        """Return when Redis and the root are fit. Raises Unavailable, with a sentence for the log."""
        await self._check_redis()
        await self._check_root()

    async def _check_root(self) -> None:
        """Ask the root every half a minute at most: each use has its price, and keys in memory serve for as long."""
        async with self._asking:
            if time.monotonic() >= self._asked_again_at:
                self._trouble = None
                try:
                    await self._root.check()
                except Unavailable as error:
                    self._trouble = error
                self._asked_again_at = time.monotonic() + FORGET_AFTER
        if self._trouble is not None:
            raise Unavailable(str(self._trouble))

    async def _check_redis(self) -> None:
        with reaching_redis():
            info = await self._redis.info()
        wants = {
            "maxmemory_policy": ("noeviction", "Redis may evict jobs: set maxmemory-policy noeviction"),
            "aof_enabled": (1, "Redis would lose jobs: set appendonly yes and appendfsync always"),
            "aof_last_write_status": ("ok", "Redis cannot write its append-only file"),
            "loading": (0, "Redis is still loading its data"),
            "role": ("master", "Redis is a replica, and takes no jobs"),
        }
        for field, (fit, sentence) in wants.items():
            if info.get(field) != fit:
                raise Unavailable(sentence)

    async def run_id(self) -> str:
        """Return what no other Redis has, whatever address this one is reached by; "" when it does not say."""
        with reaching_redis():
            return str((await self._redis.info("server")).get("run_id", ""))

    async def uptime(self) -> int:
        """Return for how many seconds Redis has been up."""
        with reaching_redis():
            return int((await self._redis.info("server"))["uptime_in_seconds"])
