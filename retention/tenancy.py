"""What an operator does with tenants, across cells: create, change, move, delete.

Every step may be repeated, and every command that broke off is completed by giving it again. A tenant is known in its
cell before the home cell sends jobs there. It is deleted at home first, which takes its credentials; the rest follows
in all its cells, or, when a first try has left no record of which they are, in all there are.
"""

from collections.abc import Mapping
from contextlib import suppress
from types import MappingProxyType
from typing import Any

import msgspec

from retention.cell_settings import HOME
from retention.cells import Cell, Cells
from retention.errors import (
    AuditBroken,
    CellRefused,
    KeyRefused,
    KeyUnavailable,
    NotFound,
    RetentionError,
    SettingsError,
    Unavailable,
)
from retention.job import TenantId
from retention.keys import KeyId
from retention.own_keys import NewKey, can_be_read, give_key, new_key, own_key
from retention.routing import carry
from retention.tenant import Former, Plan, Tenant, is_tenant_id
from retention.tenants import check_separate, new_tenant, replaced


class Tenancy:
    """The tenants of an installation. Raises Unavailable when a cell that it takes cannot be reached."""

    def __init__(self, cells: Cells) -> None:
        self._cells = cells
        self._tenants = cells.home.tenants

    async def create(self, name: str, *, plan: Plan = "plus", cell: str = HOME) -> Tenant:
        """Add a tenant, under Premium with a key of its own.

        What one of the name has left there whose creation broke off is taken away first. Raises CellRefused when it
        cannot live in that cell, SettingsError when there is none.
        """
        place = await self._cells.get(cell)
        tenant = new_tenant(name, now=await self._cells.home.jobs.now(), plan=plan, cell=cell)
        await self._check(tenant)
        await self._check_left(place)
        if plan == "premium":
            await self._clear_begun(name, place)
        if cell != HOME:
            await place.tenants.copy(tenant)
        try:
            if plan == "premium":
                await place.custody.create(tenant.id)
                await place.custody.rotation.rewrap(KeyId(tenant.id))  # there is nothing yet, and so all is under it
            await self._tenants.add(tenant)
        except CellRefused:
            await _clear(place, tenant.id)
            raise
        return await self._settle(tenant.id)

    async def update(
        self,
        tenant: TenantId,
        *,
        plan: Plan | None = None,
        cell: str | None = None,
        limits: Mapping[str, float | None] = MappingProxyType({}),
        **changes: Any,
    ) -> Tenant:
        """Change what is known of a tenant, and move it if another cell is given: its new jobs go there from now on.

        One that has a key of its own, or needs one under Premium, has one there before. Raises NotFound, CellRefused,
        SettingsError; KeyRefused when it is to bring that key itself, or its key is disabled, or was as it moved: who
        disabled it may have looked before the move counted, and nobody else knows of the key in the new cell.
        """
        now = await self._cells.home.jobs.now()

        def changed(known: Tenant) -> Tenant:
            settled = known.settled(cell=cell or known.cell, plan=plan or known.plan, now=now)
            return replaced(settled, limits, changes)

        named = {"plan": plan, "cell": cell, "limits": limits}
        detail = " ".join(sorted({*changes, *(name for name, value in named.items() if value)}))
        known = await self._tenants.get(tenant)
        wanted = changed(known)
        left = await self._cells.get(known.cell) if wanted.cell != known.cell else None
        could_be_read = left and await can_be_read(left, tenant)
        await self._check(wanted)
        if (wanted.cell, wanted.plan) != (known.cell, known.plan):
            await self._check_left(await self._cells.get(wanted.cell))
        for name in wanted.cells:  # before anything is changed: all of them must learn of it
            await self._cells.get(name)
        new = await self._new_key(known, wanted)
        is_new_there = wanted.cell not in {HOME, *known.cells}
        if is_new_there:
            await (await self._cells.get(wanted.cell)).tenants.copy(wanted)
        try:
            if new:
                await give_key(await self._cells.get(wanted.cell), tenant, new)
            await self._tenants.change(tenant, changed, detail=detail)
        except (CellRefused, NotFound):
            if is_new_there:
                await self._withdraw(tenant, await self._cells.get(wanted.cell))
            raise
        await self._settle(tenant, new)
        if left and could_be_read and not await can_be_read(left, tenant):
            raise KeyRefused(
                f"the tenant has moved, and its key in the cell {left.name} was disabled or destroyed meanwhile:"
                f" give that command again, which is to act in the cell {wanted.cell}, too"
            )
        await self._carry(tenant)
        return await self._publish(tenant)

    async def delete(self, tenant: TenantId) -> int:
        """Take away a tenant with everything it has, in all cells. Returns how many jobs went. Raises NotFound.

        A cell that cannot be reached keeps nothing back in the others; the error tells to repeat.
        """
        if not is_tenant_id(tenant):
            raise NotFound(tenant)  # a typing error: there never was such an id
        async with self._cells.home.audit.recording("volant.tenant.delete", tenant=tenant) as doing:
            known = await self._tenants.dismiss(tenant)
            was_there = known is not None
            trouble: RetentionError | None = None
            for name in known.cells if known else self._cells.names:
                try:
                    if name == HOME:
                        await self._cells.home.jobs.clear_tenant(tenant, doing)
                    else:
                        doing.count += await (await self._cells.get(name)).jobs.delete_tenant(tenant)
                    was_there = True
                except NotFound:
                    continue
                except (Unavailable, SettingsError, KeyUnavailable, AuditBroken) as error:
                    trouble = trouble or error
            for name in set(self._cells.names) - {*known.cells} if known else ():
                with suppress(RetentionError):  # none of its cells: but a move that broke off may have left it there
                    place = await self._cells.get(name)
                    await place.tenants.get(tenant)
                    doing.count += await place.jobs.delete_tenant(tenant)
            if trouble:
                raise trouble
            if not was_there:
                raise NotFound(tenant)
        return doing.count

    async def prepare(self, tenant: TenantId, cell: str) -> None:
        """Have a tenant known in a cell to which it is to be moved, so that it can bring its key there before.

        Like a cell that it has left, that one is its own then under Premium, and deletions reach it. Raises NotFound,
        CellRefused, SettingsError.
        """
        place = await self._cells.get(cell)
        now = await self._cells.home.jobs.now()

        def prepared(known: Tenant) -> Tenant:
            if cell in known.cells:
                return known
            former = Former(cell=cell, plan=known.plan, moved=now, carried=True)
            return msgspec.structs.replace(known, former=(*known.former, former))

        if cell not in (await self._tenants.get(tenant)).cells:
            await self._check_left(place)
            await self._tenants.change(tenant, prepared, detail="cell")
            await self._publish(tenant)

    async def _check(self, tenant: Tenant) -> None:
        check_separate(tenant, {known.id: known for known in await self._tenants.all()})

    async def _check_left(self, place: Cell) -> None:
        """Refuse a cell, unless it is everybody's, that has data of a tenant that the home cell does not know.

        Its deletion broke off, or home has lost it; the cell may not know it either. Raises CellRefused.
        """
        there = await place.custody.rotation.tenants() if place.name != HOME else ()
        for tenant in there:  # asked for after that: who is created meanwhile is known
            try:
                await self._tenants.get(tenant)
            except NotFound:
                raise CellRefused(
                    f"cell {place.name}: there is data of a tenant, {tenant}, which {HOME} does not know:"
                    f" `volant tenant delete {tenant}` erases it"
                ) from None

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
                    await _clear(place, tenant)
                raise
            if now_known == known:
                return known
            known = now_known

    async def _clear_begun(self, name: str, place: Cell) -> None:
        """Take away tenants of a name that a cell knows and the home cell does not.

        Their creation broke off: nobody has a credential of theirs, and nothing is there, or the cell were refused.
        """
        there = [known.id for known in await place.tenants.all() if known.name == name]
        at_home = {known.id for known in await self._tenants.all()}
        for tenant in there:
            if tenant not in at_home:
                await _clear(place, tenant)
                with suppress(NotFound):
                    await self._settle(tenant)  # it was made by another command at the same moment

    async def _settle(self, tenant: TenantId, new: NewKey | None = None) -> Tenant:
        """Have a tenant that home knows known in its cells, with its key, whatever another command took it for.

        `new` is the key that it was given. Raises NotFound.
        """
        known = await self._publish(tenant)
        place = await self._cells.get(known.cell)
        if await own_key(place, tenant) is None and (new := new or await self._new_key(known, known)):
            await give_key(place, tenant, new)
        return known

    async def _new_key(self, known: Tenant, wanted: Tenant) -> NewKey | None:
        left, place = await self._cells.get(known.cell), await self._cells.get(wanted.cell)
        return await new_key(known, wanted, left=left, place=place)

    async def _withdraw(self, tenant: TenantId, place: Cell) -> None:
        """Take a tenant out of a cell to which it was not let, unless another command let it in meanwhile.

        Its key goes last, and only while the cell does not know the tenant: whoever lets it in makes it known after
        that, and nothing comes under the key before.
        """
        try:
            if place.name in (await self._tenants.get(tenant)).cells:
                return
            async with place.audit.recording("volant.tenant.delete", tenant=tenant, detail="copy"):
                await place.tenants.dismiss(tenant)
                if place.name in (await self._tenants.get(tenant)).cells:
                    await self._publish(tenant)
                else:
                    await place.keyring.remove(tenant, unless_known=True)
        except NotFound:
            await _clear(place, tenant)

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

        await self._tenants.change(tenant, carried, detail=None)


async def _clear(cell: Cell, tenant: TenantId) -> None:
    """Take a tenant that the home cell does not know out of another cell, with all that it may have there."""
    with suppress(NotFound):
        await cell.jobs.delete_tenant(tenant)
