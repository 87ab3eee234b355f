"""What a test does where the machine lacks something that could be installed."""

import os
from typing import NoReturn

import pytest


def missing(reason: str) -> NoReturn:
    """Skip the test; fail it in CI, where nothing that can be installed may be missing."""
    if os.environ.get("CI") == "true":
        pytest.fail(reason)
    pytest.skip(reason)


def lacking(what: str) -> NoReturn:
    """Skip a test of what the embedded Redis has not; fail it in CI unless just that one was asked for."""
    if os.environ.get("VOLANT_REDIS_SERVER") == "embedded":
        pytest.skip(f"the embedded Redis has no {what}")
    missing(f"this Redis has no {what}: on Debian and Ubuntu, apt-get install redis-server")
