"""Fixtures that are real: a Redis server, and whole stacks of processes. Also how to wait for a condition."""

import asyncio
import subprocess
import time
from collections.abc import AsyncIterator, Awaitable, Callable, Iterator, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import ExitStack, asynccontextmanager, contextmanager, suppress
from datetime import UTC, datetime, timedelta
from fnmatch import fnmatchcase
from pathlib import Path
from typing import Protocol

import msgspec
import pytest
import redis as blocking
from redis.asyncio import Redis

from deploy.acl import make_users
from deploy.processes import RedisServer, find_redis_server, temporary_directory
from deploy.stack import Stack
from retention.audit import Audit
from retention.keyring import Keyring
from retention.keyspace import OFFER, PERSISTENT
from retention.privileges import FORBIDDEN
from retention.roots.file import FileRoot
from retention.tenants import Tenants
from tests.recognizers import CALLING, EMBEDDED


async def wait_until(holds: Callable[[], Awaitable[object]], *, within: float = 60.0) -> None:
    """Return when `holds` gives something true; fail after `within` seconds.

    It is asked the less often the longer it takes, so that tests that wait leave the processor to others.
    """
    began = time.monotonic()
    while not await holds():
        waited = time.monotonic() - began
        assert waited < within, f"not within {within} s"
        await asyncio.sleep(min(max(0.02, waited / 20), 0.25))


async def end_tasks() -> None:
    """End what a test has left running, such as the audit log's writer: it would connect anew to what is closed now."""
    left = asyncio.all_tasks() - {asyncio.current_task()}
    for task in left:
        task.cancel()
    await asyncio.gather(*left, return_exceptions=True)


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
    with blocking.Redis.from_url(redis_url) as client:
        client.set(OFFER, msgspec.json.encode(EMBEDDED))


def assert_all_expire(redis_url: str) -> None:
    """Fail if a key has no expiry, other than those that may have none."""
    kept = kept_forever(redis_url)
    assert kept == [], f"these keys have no expiry: {kept}"


PROBED = {
    (role, what)
    for role, commands in FORBIDDEN.items()
    for command, *arguments in commands
    for what in (command.lower(), f"{command}|{''.join(arguments[:1])}".lower(), *arguments)
}
"""What is refused when processes ask whether it is, by user."""


def assert_nothing_was_denied(redis_url: str) -> None:
    """Fail if Redis refused a process anything but what its own check at the start must find refused."""
    with blocking.Redis.from_url(redis_url, decode_responses=True) as client:
        if not client.info("server")["redis_version"].startswith("6."):
            denied = {(each["username"], each["object"]) for each in client.acl_log(1000)}
            assert denied <= PROBED, denied - PROBED


UNLIMITED = {"limit_submits": "0", "limit_polls": "0", "limit_tokens": "0"}
"""The settings of stacks whose clients are in a greater hurry than a tenant may be."""


class StartStack(Protocol):
    """Start a stack of its own for one test."""

    def __call__(self, *, workers: int = 1, cells: Sequence[str] = (), **settings: str) -> Stack: ...


class StackUnderTest(Stack):
    """A stack whose tenants are made by this process: the `volant` command would start Python twice for each."""

    def new_tenant(self, name: str = "development") -> tuple[str, str]:
        """See `Stack`. Its own thread, since a test may have an event loop that is running."""
        with ThreadPoolExecutor(1) as thread:
            return thread.submit(asyncio.run, self._created(name)).result()

    async def _created(self, name: str) -> tuple[str, str]:
        now = datetime.now(UTC)
        async with tenants_of(self) as tenants:
            tenant = (await tenants.create(name, now=now)).id
            return tenant, await tenants.create_key(tenant, now=now)


@asynccontextmanager
async def tenants_of(stack: Stack) -> AsyncIterator[Tenants]:
    """Give the tenants of a stack, as an operator has them."""
    async with Redis.from_url(stack.redis_url) as redis:
        root = FileRoot.open(stack.data / "root.key", create=True)
        keyring = await Keyring.open(redis, root)
        await keyring.make_common()
        audit = Audit(redis, keyring.audit, retention=timedelta(days=365))
        yield Tenants(redis, audit)


@pytest.fixture(scope="session")
def redis_server() -> Iterator[RedisServer]:
    """Give a real Redis with `deploy/redis.conf` on a unix socket; VOLANT_REDIS_SERVER chooses which."""
    with temporary_directory() as directory:
        server = RedisServer(directory)
        yield server
        server.stop()


@pytest.fixture(scope="session")
def other_redis_server() -> Iterator[RedisServer]:
    """Give the Redis of a second cell."""
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
    await end_tasks()
    await client.aclose()


@pytest.fixture
async def other_redis(other_redis_server: RedisServer) -> AsyncIterator[Redis]:
    """Give a client of the second cell's empty Redis, likewise."""
    client = Redis.from_url(other_redis_server.url)
    await client.flushall()
    yield client
    await end_tasks()
    await client.aclose()
    assert_all_expire(other_redis_server.url)


@pytest.fixture(scope="session")
def stack() -> Iterator[Stack]:
    """Give the API, a worker and a Redis as real processes, shared by all tests: use a tenant of your own.

    Whatever the tests leave without expiry makes the last of them fail.
    """
    with running_stack() as running:
        yield running


@pytest.fixture(scope="session")
def calling() -> Iterator[Stack]:
    """Give a stack with the scripted engine that may call receivers on this machine, shared like `stack`."""
    with running_stack(CALLING) as running:
        yield running


@pytest.fixture
def fresh_stack() -> Iterator[StartStack]:
    """Give what starts a stack for this test alone, to break it; settings by name (`lease="3"`).

    Whatever the test leaves without expiry makes it fail.
    """
    with ExitStack() as cleanup:

        def start(*, workers: int = 1, cells: Sequence[str] = (), **settings: str) -> Stack:
            return cleanup.enter_context(running_stack(settings, workers=workers, cells=cells))

        yield start


def users_under_test(directory: Path) -> Path | None:
    """Make Redis's users, beside the default one, which stays for the tests' own look at it; None before Redis 7.

    So whatever a stack does in a test, it does within `deploy/users.acl`.
    """
    version = subprocess.run([find_redis_server(), "--version"], capture_output=True, text=True, check=True).stdout
    if " v=6." in version:
        return None
    users = make_users(directory / "users")
    rules = users.read_text().replace("user default reset off", "user default on nopass ~* &* +@all")
    users.write_text(rules)
    return users.parent


@contextmanager
def running_stack(
    settings: Mapping[str, str] | None = None,
    *,
    workers: int = 1,
    cells: Sequence[str] = (),
    ca: Path | None = None,
) -> Iterator[Stack]:
    """Give a stack, and fail if something in it has no expiry at the end, unless no Redis answers then."""
    with (
        temporary_directory() as directory,
        StackUnderTest(
            directory,
            settings={**UNLIMITED, **(settings or {})},
            workers=workers,
            cells=cells,
            users=users_under_test(directory),
            ca=ca,
        ) as running,
    ):
        if not workers:
            offer_without_a_worker(running.redis_url)
        yield running
        for url in (running.redis_url, *(server.url for server in running.cells.values())):
            with suppress(blocking.ConnectionError, blocking.TimeoutError):
                assert_all_expire(url)
                assert_nothing_was_denied(url)
