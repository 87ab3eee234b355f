"""The fixtures of all tests."""

from tests.javascript import drive, node
from tests.stack import (
    calling,
    fresh_stack,
    nothing_is_kept_forever,
    other_redis,
    other_redis_server,
    redis,
    redis_server,
    stack,
)

__all__ = [
    "calling",
    "drive",
    "fresh_stack",
    "node",
    "nothing_is_kept_forever",
    "other_redis",
    "other_redis_server",
    "redis",
    "redis_server",
    "stack",
]
