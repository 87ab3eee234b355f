"""Whether Redis refuses what a process must not do: the rules of `deploy/users.acl`, seen from within.

Each probe is a command that would do nothing if it were let through: it names what is not there, or an argument that
does not exist, or it is queued and given up. Redis asks about permission before it looks at either.
"""

from typing import Literal

import structlog
from redis.asyncio import Redis
from redis.exceptions import NoPermissionError, ResponseError

from retention import keyspace
from retention.connection import reaching_redis

Role = Literal["api", "worker", "notifier", "admin"]

_log = structlog.get_logger()

_NOWHERE = "-"

_EVERYBODY: tuple[tuple[str, ...], ...] = (
    ("FLUSHALL", _NOWHERE),
    ("FLUSHDB", _NOWHERE),
    ("CONFIG", "GET", _NOWHERE),
    ("ACL", "WHOAMI"),
    ("KEYS", _NOWHERE),
    ("MODULE", "LIST"),
    ("SHUTDOWN", _NOWHERE),
    ("EVAL", "return 0", "0"),
    ("GET", _NOWHERE),
)
"""What no process may: emptying, configuring, listing and stopping Redis, and keys that are not Volant's."""

_CHANGES_TENANTS = (("HDEL", keyspace.TENANTS, _NOWHERE), ("HDEL", keyspace.API_KEYS, _NOWHERE))

_CHANGES_KEYS = (
    ("HDEL", keyspace.WRAPPED_KEYS, _NOWHERE),
    ("HDEL", keyspace.TENANT_KEYS, _NOWHERE),
    ("HSETNX", keyspace.TENANT_KEYS, _NOWHERE, _NOWHERE),
)
"""The last is how a purged key could be forged, whose data workers would erase."""

_CUTS_THE_AUDIT_LOG = (("HDEL", keyspace.AUDIT_ENDS, _NOWHERE), ("XDEL", keyspace.AUDIT, "0-1"))

FORBIDDEN: dict[Role, tuple[tuple[str, ...], ...]] = {
    "api": (
        *_EVERYBODY,
        *_CHANGES_TENANTS,
        *_CHANGES_KEYS,
        ("HDEL", keyspace.OFFER, _NOWHERE),
        *_CUTS_THE_AUDIT_LOG,
        ("XTRIM", keyspace.AUDIT, "MINID", "0"),
        ("SCAN", "0"),
    ),
    "worker": (
        *_EVERYBODY,
        *_CHANGES_TENANTS,
        ("HGET", keyspace.API_KEYS, _NOWHERE),
        ("HDEL", keyspace.WRAPPED_KEYS, _NOWHERE),
        *_CUTS_THE_AUDIT_LOG,
        ("SCAN", "0"),
    ),
    "notifier": (
        *_EVERYBODY,
        *_CHANGES_TENANTS,
        ("HGET", keyspace.API_KEYS, _NOWHERE),
        *_CHANGES_KEYS,
        ("ZREM", keyspace.DUE, _NOWHERE),
        ("ZREM", keyspace.RECOGNITION.name, _NOWHERE),
        *_CUTS_THE_AUDIT_LOG,
        ("XTRIM", keyspace.AUDIT, "MINID", "0"),
        ("SCAN", "0"),
    ),
    "admin": _EVERYBODY,
}
"""What each role must not do, as commands."""


class Privileges:
    """What Redis lets this process do. Raises Unavailable when Redis cannot be reached."""

    def __init__(self, redis: Redis, *, role: Role, named: bool) -> None:
        self._redis = redis
        self._role: Role = role
        self._named = named
        self.least: Literal["held", "exceeded", "no user"] = "no user"
        """Whether all that this process must not do is refused, if it has a user of its own."""

    async def check(self) -> None:
        """Ask, and say in the log what is let through that should not be."""
        if not self._named:
            _log.warning("Redis user is the default one: it may do everything", role=self._role)
            return
        excess = [command for command in FORBIDDEN[self._role] if await self._may(command)]
        self.least = "exceeded" if excess else "held"
        if excess:
            _log.error(
                "Redis lets this role do more than it must",
                role=self._role,
                reason=", ".join(" ".join(command[:2]) for command in excess),
            )
        else:
            _log.info("Redis lets this role do no more than it must", role=self._role)

    async def _may(self, command: tuple[str, ...]) -> bool:
        with reaching_redis():
            if command[0] == "HSETNX":  # what is not there is what it would add
                async with self._redis.pipeline(transaction=False) as pipe:
                    for each in (("MULTI",), command, ("DISCARD",)):
                        pipe.execute_command(*each)
                    _, queued, _ = await pipe.execute(raise_on_error=False)
                    return not isinstance(queued, NoPermissionError)
            try:
                await self._redis.execute_command(*command)
            except NoPermissionError:
                return False
            except ResponseError:
                return True  # let through, and found wanting
        return True
