"""Refusals for the sake of limits are cheap, so that whoever does not heed them slows nobody else.

A refusal is remembered for whoever presents the same credential: until there is room again, and a second at most, the
next request is refused without being looked at. Refusals of one credential leave at a steady pace, so that a client
which repeats them at once waits in a queue of its own. Each process does so for itself, in memory.
"""

import asyncio
import hashlib
from collections import OrderedDict
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from dataclasses import dataclass
from datetime import timedelta

from aiohttp import web

from retention.errors import LimitReached
from retention.limits import Rate

REMEMBERED = 1.0
"""Seconds for which a refusal is remembered at most: a limit may be raised, and a key revoked, meanwhile."""

PACE = 0.01
"""Seconds between two refusals of the same credential. The first one after a pause does not wait."""

MOST = 128
"""Refusals of a credential that wait at once. Further ones are given at once and end their connection."""

CREDENTIALS = 10_000
"""Credentials that are remembered at most. Beyond, the one that was refused first is forgotten."""


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


class Admission:
    """Who was refused lately."""

    def __init__(self) -> None:
        self._refused: OrderedDict[tuple[bytes, Rate], _Refused] = OrderedDict()

    @asynccontextmanager
    async def watch(self, request: web.Request, credential: str, counts: Rate) -> AsyncIterator[None]:
        """Remember what the block raises as LimitReached, and raise it in the place of the block while it is known.

        In either case it is raised when it is its turn.
        """
        now = asyncio.get_running_loop().time()
        name = (hashlib.blake2b(credential.encode(errors="surrogateescape"), digest_size=16).digest(), counts)
        known = self._refused.get(name)
        if known and known.until > now:
            await self._pace(request, known)
            raise LimitReached(known.limit, timedelta(seconds=known.again - now))
        try:
            yield
        except LimitReached as error:
            known = self._refused.setdefault(name, _Refused())
            if len(self._refused) > CREDENTIALS:
                self._refused.popitem(last=False)
            now = asyncio.get_running_loop().time()
            wait = error.wait.total_seconds()
            known.limit, known.again, known.until = error.limit, now + wait, now + min(wait, REMEMBERED)
            await self._pace(request, known)
            raise

    async def _pace(self, request: web.Request, refused: _Refused) -> None:
        now = asyncio.get_running_loop().time()
        if refused.waiting >= MOST:
            if request.protocol is not None:
                request.protocol.close()  # once this is answered
            return
        turn = refused.turn = max(now, refused.turn + PACE)
        refused.waiting += 1
        try:
            await asyncio.sleep(turn - now)
        finally:
            refused.waiting -= 1
