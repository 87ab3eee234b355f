"""The connections of a process: never more than it has room for, so that there is always some for who comes next.

Where there is none, a connection that is only waited on makes it: of those that have not asked for anything yet and
those that have had their answer, whichever are more, the one that has been so for longest; and if there is none of
either, the one whose request has been under way for longest without a good credential. Who opens very many loses his
own. Where all are under way with requests of tenants, the newcomer is not let in.
"""

import asyncio
import resource
from collections.abc import Iterator
from typing import Generic, Protocol, TypeVar

import structlog

MOST = 2048
"""Connections at most: as many that are idle, with TLS, hold 200 MiB, of the 512 that the unit allows (MemoryMax)."""

SPARE = 256
"""Files that the process may have open besides: of Redis, of audio, and connections that nobody has looked at yet."""

SAID_EVERY = 60.0
"""Seconds between two lines in the log about it."""

_log = structlog.get_logger()


class Member(Protocol):
    """A connection."""

    def drop(self) -> None:
        """End it now, whatever it has not sent yet."""


M = TypeVar("M", bound=Member)


class Crowd(Generic[M]):
    """All of them, and which are only waited on."""

    def __init__(self) -> None:
        most, _ = resource.getrlimit(resource.RLIMIT_NOFILE)
        self._most = min(MOST, max(1, most - SPARE)) if most != resource.RLIM_INFINITY else MOST
        self._all: set[M] = set()
        self._new: dict[M, None] = {}
        self._idle: dict[M, None] = {}
        self._asking: dict[M, None] = {}
        self._said = -SAID_EVERY

    def __iter__(self) -> Iterator[M]:
        return iter(tuple(self._all))

    def enter(self, member: M) -> None:
        """Count one that has not asked for anything yet. It, too, is dropped where no other can be."""
        if len(self._all) >= self._most:
            self._make_room(member)
        self._all.add(member)
        self._new[member] = None

    def ask(self, member: M) -> None:
        """Have one behind all others that ask for something, from its request on."""
        self.admit(member)
        if member in self._all:
            self._asking[member] = None

    def admit(self, member: M) -> None:
        """Leave one alone, from its credential on."""
        for waited_on in self._new, self._idle, self._asking:
            waited_on.pop(member, None)

    def answer(self, member: M) -> None:
        """Have one behind all others that have had their answers, from then on."""
        self.admit(member)
        if member in self._all:
            self._idle[member] = None

    def leave(self, member: M) -> None:
        """Forget one that has ended."""
        self.admit(member)
        self._all.discard(member)

    def _make_room(self, newcomer: M) -> None:
        waited_on = max(self._new, self._idle, key=len) or self._asking
        victim = next(iter(waited_on), newcomer)
        self.admit(victim)
        victim.drop()
        now = asyncio.get_running_loop().time()
        if now >= self._said + SAID_EVERY:
            self._said = now
            _log.warning("no room for more connections", connections=self._most)
