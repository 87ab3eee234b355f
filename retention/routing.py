"""The front's way to a tenant's cells: new jobs go to its present one, older ones are found where they are.

Whoever changes something in all cells of a tenant reads its record again afterwards, and begins anew if it has moved
meanwhile. A move makes its new cell known first and carries callback URLs there after that, so that what was taken
back before the move is not there to be carried, and what is taken back after it is taken back in both.
"""

from collections.abc import AsyncIterator
from contextlib import suppress
from datetime import datetime, timedelta

from retention.cells import Cell, Cells
from retention.errors import NotFound, NotRegistered, Superseded, TenantGone
from retention.job import Callback, Event, Job, JobId, TenantId
from retention.registrations import Registration
from retention.store import LISTED
from retention.tenant import Tenant


class Routes:
    """Which cells are a tenant's. Raises TenantGone, and Unavailable when the home cell, or one of them, is away."""

    def __init__(self, cells: Cells, *, life: timedelta) -> None:
        """`life` is how long after it was left a cell may still have a job that can be read."""
        self._cells = cells
        self._life = life

    @property
    def home(self) -> Cell:
        """The cell that knows all tenants."""
        return self._cells.home

    async def known(self, tenant: TenantId) -> Tenant:
        """Return a tenant's record."""
        try:
            return await self.home.tenants.get(tenant)
        except NotFound:
            raise TenantGone(tenant) from None

    async def of(self, tenant: TenantId) -> Cell:
        """Return the cell to which its new jobs go."""
        return await self.cell((await self.known(tenant)).cell)

    async def cell(self, name: str) -> Cell:
        """Return a cell."""
        return await self._cells.serving(name)

    async def readable(self, tenant: TenantId) -> list[str]:
        """Return its cell, and then those that it has left in which there may be a job that can still be read."""
        known = await self.known(tenant)
        if not known.former:
            return [known.cell]
        now = await self.home.jobs.now()
        return [known.cell, *(each.cell for each in reversed(known.former) if now < each.moved + self._life)]

    async def everywhere(self, tenant: TenantId) -> AsyncIterator[list[Cell]]:
        """Give all cells of a tenant, those that it has left first; and again, if it has moved meanwhile."""
        done: tuple[str, ...] = ()
        while (names := (await self.known(tenant)).cells) != done:
            yield [await self.cell(name) for name in names]
            done = names


class RoutedJobs:
    """The jobs of all tenants, as the front sees them. Raises TenantGone and Unavailable."""

    def __init__(self, routes: Routes) -> None:
        self._routes = routes

    async def look_up(self, tenant: TenantId, job: JobId) -> tuple[Job, bytes | None]:
        """See `JobService.look_up`."""
        for name in await self._routes.readable(tenant):
            try:
                return await (await self._routes.cell(name)).jobs.look_up(tenant, job)
            except NotFound:
                continue
        raise NotFound(job)

    async def latest(self, tenant: TenantId) -> list[tuple[Job, str]]:
        """See `JobService.latest`."""
        found: list[tuple[Job, str]] = []
        for name in await self._routes.readable(tenant):
            found += await (await self._routes.cell(name)).jobs.latest(tenant)
        return sorted(found, key=lambda each: each[0].created, reverse=True)[:LISTED]

    async def delete(self, tenant: TenantId, job: JobId) -> None:
        """See `JobService.delete`. What is over may be in the request log of any cell."""
        for name in reversed((await self._routes.known(tenant)).cells):
            try:
                return await (await self._routes.cell(name)).jobs.delete(tenant, job)
            except NotFound:
                continue
        raise NotFound(job)

    async def erase_customer(self, tenant: TenantId, customer: str) -> int:
        """See `JobService.erase_customer`. All cells are reached, also those that are not read any more."""
        erased = 0
        async for cells in self._routes.everywhere(tenant):
            labels = frozenset(cell.keyring.tag(tenant, customer) for cell in cells)
            for cell in cells:
                erased += await cell.jobs.erase_customer(tenant, customer, labels=labels)
        return erased

    async def check(self) -> None:
        """Return when the home cell is fit. What is wrong with another concerns its tenants, and is in the log."""
        await self._routes.home.jobs.check()


class RoutedCallbacks:
    """The callback URLs of all tenants, as the front sees them. Raises TenantGone and Unavailable."""

    def __init__(self, routes: Routes) -> None:
        self._routes = routes

    async def register(
        self, tenant: TenantId, url: str, secret: str | None, *, customer: str | None, began: datetime, at: Cell
    ) -> bool:
        """See `Callbacks.register`. `at` is the tenant's cell, by whose clock it began.

        What is pending in the cells that it has left is told with the new secret, and bears the label, too.
        Raises Superseded when the tenant has moved meanwhile.
        """
        known = await self._routes.known(tenant)
        earlier = [await self._routes.cell(former.cell) for former in known.former]
        moments = [await cell.jobs.now() for cell in earlier]  # before it counts: an erasure from here on is heeded
        new = await at.callbacks.register(tenant, url, secret, customer=customer, began=began)
        for cell, moment in zip(earlier, moments, strict=True):
            there = await cell.registrations.find(tenant, url)
            if there is not None:
                await cell.registrations.keep(tenant, url, secret or there.secret, customer=customer, began=moment)
        if (await self._routes.known(tenant)).cells != (*(cell.name for cell in earlier), at.name):
            raise Superseded(tenant)
        return new

    async def unregister(self, tenant: TenantId, url: str) -> None:
        """See `Callbacks.unregister`."""
        was_there = False
        async for cells in self._routes.everywhere(tenant):
            for cell in cells:
                was_there |= await cell.registrations.remove(tenant, url)
        if not was_there:
            raise NotRegistered(url)

    async def subscribe(self, tenant: TenantId, url: str, events: tuple[Event, ...], *, at: Cell) -> Callback:
        """See `Callbacks.subscribe`. `at` is the cell to which the job goes: a URL is brought there if need be."""
        try:
            return await at.callbacks.subscribe(tenant, url, events)
        except NotRegistered:
            for former in reversed((await self._routes.known(tenant)).former):
                if former.carried:
                    continue
                source = await self._routes.cell(former.cell)
                if there := await source.registrations.find(tenant, url):
                    await carry(tenant, there, source, at)
                    return await at.callbacks.subscribe(tenant, url, events)
            raise


async def carry(tenant: TenantId, known: Registration, source: Cell, target: Cell) -> None:
    """Have a callback URL known in another cell, too, unless it is taken back at its source meanwhile.

    It does not count before that has been looked at, though whoever carries it break off in between.
    """
    while True:
        adopted = await target.registrations.adopt(tenant, known)
        if await source.registrations.find(tenant, known.url) is None:
            return await target.registrations.disown(tenant, known, adopted)
        with suppress(Superseded):  # taken back, registered anew, or carried by another meanwhile
            return await target.registrations.settle(tenant, known, adopted)
