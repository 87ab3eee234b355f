"""The key of its own that a tenant has, or is to have, in the cell in which it is, or to which it goes."""

from contextlib import suppress
from datetime import datetime
from typing import NamedTuple

from retention.cells import Cell
from retention.errors import KeyDisabled, KeyRefused, KeyUnavailable, NotFound
from retention.job import TenantId
from retention.keys import KeyId, KeyState, TenantKey
from retention.tenant import Tenant


class NewKey(NamedTuple):
    """A key that a tenant is to be given."""

    expires: datetime | None
    is_first: bool
    """Whether there is nothing of the tenant yet: all is under the key at once. Else workers bring under it what is."""


async def own_key(cell: Cell, tenant: TenantId) -> TenantKey | None:
    """Return the key of its own that a tenant has in a cell, in whatever state it is."""
    with suppress(NotFound):
        return await cell.custody.get(KeyId(tenant))
    return None


async def can_be_read(cell: Cell, tenant: TenantId) -> bool:
    """Tell whether a key of the tenant's own, if there is one, lets what is in a cell be read."""
    own = await own_key(cell, tenant)
    with suppress(KeyDisabled, KeyUnavailable):
        if own is not None:
            own.reading()
        return True
    return False


async def new_key(known: Tenant, wanted: Tenant, *, left: Cell, place: Cell) -> NewKey | None:
    """Return which key a tenant is to be given in the cell `place`, that of `wanted`, as it comes there from `left`.

    Under Premium it is to have one, and after a move if it had one. Raises KeyRefused when it is to bring that itself,
    or when its key does not let it go.
    """
    moves = wanted.cell != known.cell
    own = await own_key(left, known.id)
    if moves and own is not None and not own.purged:
        try:
            own.reading()
        except KeyDisabled:
            raise KeyRefused(f"the tenant's key in the cell {left.name} is {own.state.name.lower()}") from None
    there = await own_key(place, known.id)
    if there is not None and not (moves and there.purged):
        return None
    if own is None and wanted.plan != "premium":
        return None
    if own is not None and own.imported:
        raise KeyRefused(
            f"its owner brought the tenant's key: before the move it is to be in the cell {place.name}, too,"
            f" with `volant key import-token` and `volant key import`, both with `--cell {place.name}`"
        )
    if own is not None and own.state is not KeyState.ACTIVE:
        raise KeyRefused(
            f"the tenant's key in the cell {left.name} is {'purged' if own.purged else own.state.name.lower()}:"
            " nothing new comes under it, and so it does not under another by a move"
        )
    return NewKey(expires=own.expires if own else None, is_first=wanted.cell not in known.cells)


async def give_key(place: Cell, tenant: TenantId, new: NewKey) -> None:
    """Give a tenant its new key, unless another command does so at the same moment: then that one is its key."""
    with suppress(KeyRefused):
        await place.custody.create(tenant, expires=new.expires)
        if new.is_first:
            await place.custody.rotation.rewrap(KeyId(tenant))
