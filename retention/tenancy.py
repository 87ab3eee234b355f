"""What an operator does with tenants, across cells: create, change, move, delete.

Every step may be repeated, and every command that broke off is completed by giving it again. A tenant is known in its
cell before the home cell sends jobs there. It is deleted at home first, which takes its credentials; the rest follows
in all its cells, or, when a first try has left no record of which they are, in all there are.
"""

from typing import Any

import msgspec

from retention.cell_settings import HOME
from retention.cells import Cells
from retention.errors import CellRefused, KeyUnavailable, NotFound, RetentionError, SettingsError, Unavailable
from retention.job import TenantId
from retention.routing import carry
from retention.tenants import Plan, Tenant, check_separate, new_tenant


class Tenancy:
    """The tenants of an installation. Raises Unavailable when a cell that it takes cannot be reached."""

    def __init__(self, cells: Cells) -> None:
        self._cells = cells
        self._tenants = cells.home.tenants

    async def create(self, name: str, *, plan: Plan = "plus", cell: str = HOME) -> Tenant:
        """Add a tenant. Raises CellRefused when it cannot live in that cell, SettingsError when there is none."""
        place = await self._cells.get(cell)
        tenant = new_tenant(name, now=await self._cells.home.jobs.now(), plan=plan, cell=cell)
        await self._check(tenant)
        if cell != HOME:
            await place.tenants.copy(tenant)
        try:
            return await self._tenants.add(tenant)
        except CellRefused:
            await place.tenants.dismiss(tenant.id)
            raise

    async def update(
        self, tenant: TenantId, *, plan: Plan | None = None, cell: str | None = None, **changes: Any
    ) -> Tenant:
        """Change what is known of a tenant, and move it if another cell is given: its new jobs go there from now on.

        Raises NotFound, CellRefused, SettingsError.
        """
        now = await self._cells.home.jobs.now()

        def changed(known: Tenant) -> Tenant:
            settled = known.settled(cell=cell or known.cell, plan=plan or known.plan, now=now)
            return msgspec.structs.replace(settled, **changes)

        known = await self._tenants.get(tenant)
        wanted = changed(known)
        await self._check(wanted)
        for name in wanted.cells:  # before anything is changed: all of them must learn of it
            await self._cells.get(name)
        is_new_there = wanted.cell not in {HOME, *known.cells}
        if is_new_there:
            await (await self._cells.get(wanted.cell)).tenants.copy(wanted)
        try:
            await self._tenants.change(tenant, changed)
        except (CellRefused, NotFound):
            if is_new_there:
                await (await self._cells.get(wanted.cell)).tenants.dismiss(tenant)
            raise
        await self._publish(tenant)
        await self._carry(tenant)
        return await self._publish(tenant)

    async def delete(self, tenant: TenantId) -> int:
        """Take away a tenant with everything it has, in all cells. Returns how many jobs went. Raises NotFound.

        A cell that cannot be reached keeps nothing back in the others; the error tells to repeat.
        """
        known = await self._tenants.dismiss(tenant)
        erased, was_there = 0, known is not None
        trouble: RetentionError | None = None
        for name in known.cells if known else self._cells.names:
            try:
                erased += await (await self._cells.get(name)).jobs.delete_tenant(tenant)
                was_there = True
            except NotFound:
                continue
            except (Unavailable, SettingsError, KeyUnavailable) as error:
                trouble = trouble or error
        if trouble:
            raise trouble
        if not was_there:
            raise NotFound(tenant)
        return erased

    async def _check(self, tenant: Tenant) -> None:
        check_separate(tenant, {known.id: known for known in await self._tenants.all()})

    async def _publish(self, tenant: TenantId) -> Tenant:
        """Have all cells of a tenant know it as the home cell does, whoever else changes it meanwhile.

        Raises NotFound when it was deleted meanwhile, and then no cell knows it.
        """
        known = await self._tenants.get(tenant)
        while True:
            places = [await self._cells.get(name) for name in known.cells if name != HOME]
            for place in places:
                await place.tenants.copy(known)
            try:
                now_known = await self._tenants.get(tenant)
            except NotFound:
                for place in places:
                    await place.tenants.dismiss(tenant)
                raise
            if now_known == known:
                return known
            known = now_known

    async def _carry(self, tenant: TenantId) -> None:
        """Bring callback URLs from the cells that it has left to its present one, the last left first."""
        known = await self._tenants.get(tenant)
        target = await self._cells.get(known.cell)
        for former in reversed(known.former):
            if former.carried:
                continue
            source = await self._cells.get(former.cell)
            for registration in await source.registrations.all(tenant):
                await carry(tenant, registration, source, target)

        def carried(now_known: Tenant) -> Tenant:
            if now_known.cell != known.cell:
                return now_known  # it has moved on; whoever moved it carries on
            done = {former.cell for former in known.former}
            former = tuple(
                msgspec.structs.replace(each, carried=True) if each.cell in done else each for each in now_known.former
            )
            return msgspec.structs.replace(now_known, former=former)

        await self._tenants.change(tenant, carried)
