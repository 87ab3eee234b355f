"""The connection to a cell's Redis: how it is opened, and how its troubles are named.

The API rides out broken connections here (every script is safe to repeat); longer outages, and a
Redis that is silent, become `Unavailable`, which it answers with 503. A worker is told of every one,
and waits them all out: it has to know of an outage to leave the leases alone that lapsed in it.
"""

import re
import ssl
from collections.abc import Awaitable, Callable, Iterator, Sequence
from contextlib import contextmanager
from datetime import timedelta
from importlib.resources import files
from pathlib import Path
from typing import Any, TypeVar

from redis.asyncio import ConnectionPool, Redis
from redis.asyncio.retry import Retry
from redis.backoff import ExponentialWithJitterBackoff
from redis.commands.core import AsyncScript
from redis.exceptions import (
    ConnectionError as RedisConnectionError,
    MasterDownError,
    NoPermissionError,
    OutOfMemoryError,
    ReadOnlyError,
    RedisError,
    ResponseError,
)

from retention.cell_settings import CellSettings
from retention.errors import SettingsError, Unavailable
from retention.private_files import read_secret

AtOnce = Callable[..., Awaitable[list[Any]]]
"""What `at_once` returns."""

T = TypeVar("T")

_BATCH = 1000

REPLY_WITHIN = 5.0
"""Seconds after which a silent Redis counts as gone. Longer than any blocking command we send."""


def connect(settings: CellSettings, *, retries: int) -> Redis:
    """Return a client for the cell's Redis, which repeats a broken command so many times. Connects when first used.

    Raises SettingsError for a file that will not do.
    """
    password = read_secret(settings.redis_password_file) if settings.redis_password_file else None
    pool = _Pool.from_url(
        settings.redis_url,
        username=settings.redis_user or None,
        password=password,
        **_tls(settings),
        socket_timeout=REPLY_WITHIN,
        socket_connect_timeout=2.0,
        health_check_interval=30,
        # A reply that is late is not waited for again: a client hangs long enough as it is.
        retry=Retry(ExponentialWithJitterBackoff(base=0.05, cap=0.5), retries, (RedisConnectionError,)),
    )
    return Redis.from_pool(pool)


class _Pool(ConnectionPool):  # type: ignore[misc] # it has no types
    """The library's, but for its lock: it connects under it, so that all would wait for a Redis that is silent in turn.

    Which connection is whose is settled before anything is waited for.
    """

    async def get_connection(self, *_: Any, **__: Any) -> Any:
        """Return a connection that is ready."""
        connection = self.get_available_connection()
        try:
            await self.ensure_connection(connection)
        except BaseException:
            # Half set up, it would be taken for ready the next time: in another database, or as nobody.
            await connection.disconnect(nowait=True)
            await self.release(connection)
            raise
        return connection


def _tls(settings: CellSettings) -> dict[str, Any]:
    """Return what verifies Redis, and us if it asks, for a URL of rediss://; the client's defaults check no name."""
    if not settings.redis_url.startswith("rediss://"):
        return {}
    try:
        # Now, since a client that cannot read them would only say that it has no connection.
        trial = ssl.create_default_context(cafile=settings.redis_ca_file)
        if settings.redis_certificate and settings.redis_key_file:
            read_secret(settings.redis_key_file)
            trial.load_cert_chain(settings.redis_certificate, settings.redis_key_file, password="")
    except OSError as error:
        raise SettingsError(f"redis_ca_file, redis_certificate or redis_key_file will not do: {error}") from error
    return {
        "ssl_cert_reqs": "required",
        "ssl_check_hostname": True,
        "ssl_min_version": ssl.TLSVersion.TLSv1_2,
        "ssl_ca_certs": _path(settings.redis_ca_file),
        "ssl_certfile": _path(settings.redis_certificate),
        "ssl_keyfile": _path(settings.redis_key_file),
    }


def _path(file: Path | None) -> str | None:
    return str(file) if file else None


def script(redis: Redis, *names: str) -> AsyncScript:
    """Return the Lua script of these parts, which loads itself again after a restart of Redis."""
    parts = files("retention").joinpath("lua")
    return redis.register_script("".join(parts.joinpath(f"{name}.lua").read_text() for name in names))


def at_once(redis: Redis) -> AtOnce:
    """Return what does commands in one step, also while Redis is full, and returns their replies.

    `keys` and `members` are for `retention.erasures.erasing`.
    """
    run = script(redis, "full", "noted", "at_once")

    async def do(*commands: Sequence[Any], keys: Sequence[str] = (), members: Sequence[str] = ()) -> list[Any]:
        words = (word for command in commands for word in (len(command), *command))
        replies: list[Any] = await run(keys=keys, args=[len(members), *members, *words])
        return replies

    return do


def batches(words: Sequence[T]) -> Iterator[Sequence[T]]:
    """Give what a command is to have in parts, for `at_once`: Lua's stack has no room for 8,000 words."""
    return (words[start : start + _BATCH] for start in range(0, len(words), _BATCH))


async def alone(do: AtOnce, lock: str, token: str, *, during: timedelta, prolong: bool = False) -> bool:
    """Take a lock for so long, unless it is the token's already. Returns False while another holds it.

    It spares work that is done twice, no more: whoever was held up may find another at it. Also while Redis is full.
    Only who gets on may `prolong` what he has, for so long from now: else one that fails would keep it from all others.
    """
    life = during // timedelta(milliseconds=1)
    with reaching_redis():
        taken, holder = await do(("SET", lock, token, "NX", "PX", life), ("GET", lock))
        if taken or holder != token.encode():
            return bool(taken)
        return not prolong or await do(("PEXPIRE", lock, life)) == [1]


@contextmanager
def reaching_redis() -> Iterator[None]:
    """Name every trouble of Redis Unavailable: gone, silent, read-only, full, or refusing for want of durability."""
    try:
        yield
    except (RedisError, OSError) as error:
        if isinstance(error, ResponseError) and not _is_refusal(error):
            raise
        raise Unavailable(f"Redis cannot be reached, or refuses: {_cause(error)}") from error


def _cause(error: Exception) -> str:
    """Return what the client's error is, and what the system's was below it. Redis's own words might quote anything."""
    below = error.__cause__ or error.__context__
    said = f" ({below.strerror})" if isinstance(below, OSError) and below.strerror else ""
    return f"{type(below if isinstance(below, RedisError) else error).__name__}{said}"


def _is_refusal(error: ResponseError) -> bool:
    """Tell a Redis that will not, for now, from one that was asked something wrong.

    The client names some refusals by class and takes the code out of the text; Redis 6.2 wraps what a
    script was refused into a text of its own; a blocked command ends with UNBLOCKED when a role changes.
    """
    named = (OutOfMemoryError, ReadOnlyError, NoPermissionError, MasterDownError)
    return isinstance(error, named) or _REFUSED.search(str(error)) is not None


_REFUSED = re.compile(
    r"(^|-)(OOM|MISCONF|READONLY|LOADING|MASTERDOWN|NOREPLICAS|BUSY|NOPERM|NOAUTH|UNBLOCKED)\b"
    r"|The user executing the script can't"
)
