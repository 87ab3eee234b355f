"""Fixtures that are real: a Redis server, and whole stacks of processes. Also how to wait for a condition."""

import asyncio
import time
from collections.abc import AsyncIterator, Awaitable, Callable, Iterator, Mapping
from contextlib import ExitStack, contextmanager, suppress
from fnmatch import fnmatchcase
from typing import Protocol

import msgspec
import pytest
import redis as blocking
from redis.asyncio import Redis

from deploy.processes import RedisServer, temporary_directory
from deploy.stack import Stack
from retention.keyspace import OFFER, PERSISTENT
from retention.offer import Offer


async def wait_until(holds: Callable[[], Awaitable[object]], *, within: float = 20.0) -> None:
    """Return as soon as `holds` gives something true; fail after `within` seconds."""
    give_up = time.monotonic() + within
    while not await holds():
        assert time.monotonic() < give_up, f"not within {within} s"
        await asyncio.sleep(0.02)


def kept_forever(redis_url: str) -> list[str]:
    """Return the keys without expiry, other than those that may have none."""
    with blocking.Redis.from_url(redis_url, decode_responses=True, socket_timeout=5) as client:
        return [
            key
            for key in client.scan_iter(count=1000)
            if client.ttl(key) == -1 and not any(fnmatchcase(key, pattern) for pattern in PERSISTENT)
        ]


def offer_without_a_worker(redis_url: str) -> None:
    """Have the API take jobs for the embedded engine although no worker has ever started."""
    offer = Offer(
        engine="pocketsphinx", languages=("en-US",), features=frozenset({"times", "confidences", "alternatives"})
    )
    with blocking.Redis.from_url(redis_url) as client:
        client.set(OFFER, msgspec.json.encode(offer))


def assert_all_expire(redis_url: str) -> None:
    """Fail if a key has no expiry, other than those that may have none."""
    kept = kept_forever(redis_url)
    assert kept == [], f"these keys have no expiry: {kept}"


class StartStack(Protocol):
    """Start a stack of its own for one test."""

    def __call__(self, *, workers: int = 1, **settings: str) -> Stack: ...


@pytest.fixture(scope="session")
def redis_server() -> Iterator[RedisServer]:
    """Give a real Redis with `deploy/redis.conf` on a unix socket; VOLANT_REDIS_SERVER chooses which."""
    with temporary_directory() as directory:
        server = RedisServer(directory)
        yield server
        server.stop()


@pytest.fixture
def nothing_is_kept_forever(redis_server: RedisServer) -> Iterator[None]:
    """Fail a test that leaves a key without expiry other than those that may stay."""
    with blocking.Redis.from_url(redis_server.url) as client:
        client.flushall()
    yield
    assert_all_expire(redis_server.url)


@pytest.fixture
async def redis(redis_server: RedisServer, nothing_is_kept_forever: None) -> AsyncIterator[Redis]:
    """Give a client of the empty real Redis; whatever the test leaves without expiry makes it fail."""
    del nothing_is_kept_forever
    client = Redis.from_url(redis_server.url)
    yield client
    await client.aclose()


@pytest.fixture(scope="session")
def stack() -> Iterator[Stack]:
    """Give the API, a worker and a Redis as real processes, shared by all tests: use a tenant of your own.

    Whatever the tests leave without expiry makes the last of them fail.
    """
    with _leaving_nothing_forever() as running:
        yield running


@pytest.fixture
def fresh_stack() -> Iterator[StartStack]:
    """Give what starts a stack for this test alone, to break it; settings by name (`lease="3"`).

    Whatever the test leaves without expiry makes it fail.
    """
    with ExitStack() as cleanup:

        def start(*, workers: int = 1, **settings: str) -> Stack:
            return cleanup.enter_context(_leaving_nothing_forever(settings, workers=workers))

        yield start


@contextmanager
def _leaving_nothing_forever(settings: Mapping[str, str] | None = None, *, workers: int = 1) -> Iterator[Stack]:
    """Give a stack, and look before it stops, unless the test has left it without a Redis that answers."""
    with temporary_directory() as directory, Stack(directory, settings=settings, workers=workers) as running:
        if not workers:
            offer_without_a_worker(running.redis_url)
        yield running
        with suppress(blocking.ConnectionError, blocking.TimeoutError):
            assert_all_expire(running.redis_url)
