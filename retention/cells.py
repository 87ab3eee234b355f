"""The cells of an installation: what one of them holds, and how a process has all of them at hand.

The home cell is open for as long as the process works. Any other is opened when it is first needed, so that one that
cannot be reached, or whose root key or audio store is not as it must be, is the trouble of its own tenants alone.
"""

import asyncio
from collections.abc import AsyncIterator, Callable
from contextlib import AbstractAsyncContextManager, AsyncExitStack, asynccontextmanager
from dataclasses import dataclass
from datetime import timedelta

import structlog
from redis.asyncio import Redis

from retention.accepting import JobAcceptance
from retention.audit import Audit
from retention.callbacks import Callbacks
from retention.caretaking import Caretaker
from retention.cell_settings import HOME
from retention.custody import Custody
from retention.egress import Egress
from retention.ending import end
from retention.erasures import ErasureHorizon
from retention.errors import KeyUnavailable, RetentionError, SettingsError, Unavailable
from retention.holding import JobHolding
from retention.imports import KeyImports
from retention.keyring import Keyring
from retention.leases import Leases
from retention.offers import Offers
from retention.outbox import Outbox
from retention.privileges import Privileges
from retention.quotas import Quotas
from retention.readiness import Readiness
from retention.registrations import Registrations
from retention.request_log import RequestLog
from retention.service import JobService
from retention.store import JobStore
from retention.telling import Telling
from retention.tenants import Tenants

LOOK_EVERY = timedelta(seconds=5)
"""How often a front looks at the cells that are not its home, for the log."""

_log = structlog.get_logger()


@dataclass(frozen=True, kw_only=True)
class Cell:
    """One cell: a Redis, an audio store and keys, and all that works on them."""

    name: str
    acceptance: JobAcceptance
    jobs: JobService
    request_log: RequestLog
    audit: Audit
    tenants: Tenants
    quotas: Quotas
    registrations: Registrations
    callbacks: Callbacks
    telling: Telling
    outbox: Outbox
    egress: Egress
    holding: JobHolding
    leases: Leases
    notification_leases: Leases
    caretaker: Caretaker
    erasures: ErasureHorizon
    custody: Custody
    imports: KeyImports
    offers: Offers
    readiness: Readiness
    privileges: Privileges
    keyring: Keyring
    store: JobStore
    redis: Redis


class Cells:
    """All cells, as one process has them at hand."""

    def __init__(
        self, home: Cell, names: tuple[str, ...], opening: Callable[[str], AbstractAsyncContextManager[Cell]]
    ) -> None:
        self.home = home
        self.names = (HOME, *names)
        self._opening = opening
        self._stack = AsyncExitStack()
        self._opened: dict[str, asyncio.Task[Cell]] = {}
        self._watching: list[asyncio.Task[None]] = []

    @classmethod
    @asynccontextmanager
    async def around(
        cls, home: Cell, names: tuple[str, ...], opening: Callable[[str], AbstractAsyncContextManager[Cell]]
    ) -> AsyncIterator["Cells"]:
        """Give all cells, and close at the end those that were opened."""
        cells = cls(home, names, opening)
        async with cells._stack:
            try:
                yield cells
            finally:
                for task in (*cells._watching, *cells._opened.values()):
                    await end(task, again_after=2.0)  # it may have connections to close

    async def get(self, name: str) -> Cell:
        """Return a cell, opened if it is not yet. All who wait for that share one attempt.

        Raises Unavailable when its Redis cannot be reached; SettingsError and KeyUnavailable when there is no such
        cell, or when its root key or audio store is not as it must be.
        """
        if name == HOME:
            return self.home
        if name not in self.names:
            raise SettingsError(f"there is no cell {name} in the settings")
        task = self._opened.get(name)
        if task is None or (task.done() and (task.cancelled() or task.exception())):
            task = self._opened[name] = asyncio.create_task(self._stack.enter_async_context(self._opening(name)))
            task.add_done_callback(_ask)
        try:
            return await asyncio.shield(task)
        except Unavailable as error:
            raise Unavailable(f"cell {name}: {error}") from error

    def at_hand(self) -> list[Cell]:
        """Return the cells that are open."""
        done = [task for task in self._opened.values() if task.done() and not task.cancelled()]
        return [self.home, *(task.result() for task in done if task.exception() is None)]

    async def serving(self, name: str) -> Cell:
        """Return a cell for a request: whatever is wrong with it is Unavailable, and the trouble of its tenants."""
        try:
            return await self.get(name)
        except (SettingsError, KeyUnavailable) as error:
            raise Unavailable(f"cell {name}: {error}") from error

    async def named(self, name: str | None) -> list[Cell]:
        """Return the one cell of that name, or all. Raises what `get` does."""
        return [await self.get(each) for each in ([name] if name else self.names)]

    def watch(self) -> None:
        """From now on open cells as soon as they can be, and log when one is not fit, why, and when it is fit again."""
        self._watching = [asyncio.create_task(self._watch(name)) for name in self.names[1:]]

    async def _watch(self, name: str) -> None:
        before: str | None = None
        while True:
            reason = ""
            try:
                await (await self.serving(name)).jobs.check()
            except RetentionError as error:
                reason = str(error) or type(error).__name__
            if reason != before:
                if reason:
                    _log.warning("cell not ready", cell=name, reason=reason)
                else:
                    _log.info("cell ready", cell=name)
            before = reason
            await asyncio.sleep(LOOK_EVERY.total_seconds())


def _ask(task: asyncio.Task[Cell]) -> None:
    """Ask how it ended, or asyncio would log an error that nobody has waited for."""
    if not task.cancelled():
        task.exception()
