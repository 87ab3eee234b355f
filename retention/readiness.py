"""Whether Redis is fit to keep promises: reachable, writable, never evicting, and writing an append-only file."""

from redis.asyncio import Redis

from retention.connection import reaching_redis
from retention.errors import Unavailable


class Readiness:
    """Asks Redis about itself with `INFO`, which every role may."""

    def __init__(self, redis: Redis) -> None:
        self._redis = redis

    async def check(self) -> None:
        """Return when Redis is fit. Raises Unavailable, with a sentence for the log."""
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
