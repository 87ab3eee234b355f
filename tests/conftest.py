"""The fixtures of all tests."""

from hypothesis import settings

from tests.clouds import azure, s3
from tests.javascript import drive, node
from tests.killing import keep_quiet_about_the_killed
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
    "azure",
    "calling",
    "drive",
    "fresh_stack",
    "node",
    "nothing_is_kept_forever",
    "other_redis",
    "other_redis_server",
    "redis",
    "redis_server",
    "s3",
    "stack",
]

# How long an example takes is the machine's matter.
settings.register_profile("patient", deadline=None)
settings.load_profile("patient")

keep_quiet_about_the_killed()
