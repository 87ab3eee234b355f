"""Many requests of one client slow nobody else, and least of all those that are refused for the sake of limits.

A refusal is remembered for whoever presents the same credential: until there is room again, and a second at most, the
next request is refused without being looked at. Refusals of one credential leave at a steady pace, so that a client
which repeats them at once waits in a queue of its own. So do its brief requests, and of its uploads the beginnings,
each piece of audio and the last look at the credential: one of them is served at a time, and what waits for the client
or for a store is in nobody's way. Who leaves many answers untaken waits for himself. Each process does so for itself,
in memory.
"""

import asyncio
import hashlib
from collections import OrderedDict
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from dataclasses import dataclass
from datetime import timedelta
from weakref import WeakValueDictionary

from aiohttp import web

from retention.errors import LimitReached
from retention.limits import Count

REMEMBERED = 1.0
"""Seconds for which a refusal is remembered at most: a limit may be raised, and a key revoked, meanwhile."""

PACE = 0.05
"""Seconds between two refusals of the same credential. The first one after a pause does not wait."""

MOST = 64
"""Refusals of a credential that wait at once. Further ones are given at once and end their connection."""

AT_ONCE = 1
"""Requests of a credential that are served at once; further ones wait for each other. The event loop then has no
more of them before whatever another's request waits for."""

UNREAD = 32
"""Answers to a credential that are made and not taken yet, at most: each is in memory. Further requests wait."""

PATIENCE = 1.0
"""Seconds that a request waits for others of its credential at most: what they wait for may be away."""

BANDWIDTH = 64 << 20
"""Bytes of audio that a process takes in for a credential in a second at most. Most of its time is then others'."""

CREDENTIALS = 10_000
"""Credentials that are remembered at most. Beyond, the one that was refused first is forgotten."""


LAST: web.RequestKey[bool] = web.RequestKey("LAST")
"""Whether the connection ends with the answer."""

_Name = tuple[bytes, Count]


@dataclass(slots=True)
class _Refused:
    limit: str = ""
    until: float = 0.0
    """How long it is remembered."""
    again: float = 0.0
    """When it is worth to come again."""
    turn: float = 0.0
    """When the next refusal may leave."""
    waiting: int = 0


class _Places:
    """Those of a credential."""

    def __init__(self) -> None:
        self.served = asyncio.Semaphore(AT_ONCE)
        self.unread = asyncio.Semaphore(UNREAD)


class Turn:
    """A place among those of a credential that are served at once: taken or not, left and taken again."""

    def __init__(self, places: _Places) -> None:
        self._places = places
        self._taken = False
        self._is_unread = False

    async def take(self) -> None:
        """Wait for it, but not for long."""
        try:
            async with asyncio.timeout(PATIENCE):
                self._taken = await self._places.served.acquire()
        except TimeoutError:
            pass

    def leave(self) -> None:
        """Let the next one be served, if it was taken."""
        if self._taken:
            self._taken = False
            self._places.served.release()

    async def spend(self, size: int) -> None:
        """Keep it for as long as so many bytes may take, and then leave it."""
        await asyncio.sleep(size / BANDWIDTH)
        self.leave()

    @asynccontextmanager
    async def left(self) -> AsyncIterator[None]:
        """Let others be served while the block waits for the client."""
        self.leave()
        yield
        await self.take()

    async def reserve(self) -> None:
        """Wait until the client has taken enough of its other answers. The answer counts as not taken from now on."""
        async with self.left():
            self._is_unread = await self._places.unread.acquire()

    def read(self) -> None:
        """Count the answer no more: it was taken, or never will be."""
        if self._is_unread:
            self._is_unread = False
            self._places.unread.release()


class Admission:
    """Who was refused lately, and who is being served."""

    def __init__(self) -> None:
        self._refused: OrderedDict[_Name, _Refused] = OrderedDict()
        self._places: WeakValueDictionary[bytes, _Places] = WeakValueDictionary()

    @asynccontextmanager
    async def watch(
        self, request: web.Request, credential: str, counts: Count, *, long: bool = False
    ) -> AsyncIterator[Turn]:
        """Remember what the block raises as LimitReached, and raise it in the place of the block while it is known.

        In either case it is raised when it is its turn. The block has taken a turn, unless it is a `long` one.
        """
        digest = hashlib.blake2b(credential.encode(errors="surrogateescape"), digest_size=16).digest()
        name = (digest, counts)
        refused = self._known(name)
        if refused is None:
            turn = Turn(self._places.setdefault(digest, _Places()))
            try:
                if not long:
                    await turn.take()
                refused = self._known(name)  # others may have been refused while this one waited
                if refused is None:
                    yield turn
                    return
            except LimitReached as error:
                if error.limit != counts.kind:
                    raise  # something else, which the next request may be small enough for
                refused = self._remember(name, error)
            finally:
                turn.leave()
        await self._pace(request, refused)
        raise LimitReached(refused.limit, timedelta(seconds=refused.again - asyncio.get_running_loop().time()))

    def _known(self, name: _Name) -> _Refused | None:
        refused = self._refused.get(name)
        return refused if refused and refused.until > asyncio.get_running_loop().time() else None

    def _remember(self, name: _Name, error: LimitReached) -> _Refused:
        refused = self._refused.setdefault(name, _Refused())
        if len(self._refused) > CREDENTIALS:
            self._refused.popitem(last=False)
        now, wait = asyncio.get_running_loop().time(), error.wait.total_seconds()
        refused.limit, refused.again, refused.until = error.limit, now + wait, now + min(wait, REMEMBERED)
        return refused

    async def _pace(self, request: web.Request, refused: _Refused) -> None:
        now = asyncio.get_running_loop().time()
        if refused.waiting >= MOST:
            request[LAST] = True
            return
        refused.turn = max(now, refused.turn + PACE)
        refused.waiting += 1
        try:
            await asyncio.sleep(refused.turn - now)
        finally:
            refused.waiting -= 1
