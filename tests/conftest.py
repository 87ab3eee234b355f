"""The fixtures of all tests."""

from tests.stack import fresh_stack, nothing_is_kept_forever, redis, redis_server, stack

__all__ = ["fresh_stack", "nothing_is_kept_forever", "redis", "redis_server", "stack"]
