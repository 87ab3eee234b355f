"""The fixtures of all tests."""

from tests.javascript import drive, node
from tests.stack import fresh_stack, nothing_is_kept_forever, redis, redis_server, stack

__all__ = ["drive", "fresh_stack", "node", "nothing_is_kept_forever", "redis", "redis_server", "stack"]
