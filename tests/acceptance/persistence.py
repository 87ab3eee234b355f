"""What Redis writes to disk, and how to make it write so that a search finds what is there."""

import redis

from deploy.stack import Stack
from tests.stack import wait_until


def hide_nothing(stack: Stack) -> None:
    """Let Redis write snapshots that are not compressed, and remember every command as a slow one."""
    with redis.Redis.from_url(stack.redis_url) as client:
        for name, value in (("rdbcompression", "no"), ("slowlog-log-slower-than", 0), ("slowlog-max-len", 10000)):
            client.config_set(name, value)


async def save(stack: Stack) -> None:
    """Let Redis rewrite its log, and write a snapshot."""
    with redis.Redis.from_url(stack.redis_url) as client:

        async def at_rest() -> bool:
            state = client.info("persistence")
            return not (state["aof_rewrite_in_progress"] or state["rdb_bgsave_in_progress"])

        for write in (client.bgrewriteaof, client.bgsave):
            await wait_until(at_rest)
            write()
        await wait_until(at_rest)
        assert client.info("persistence")["rdb_last_bgsave_status"] == "ok"
