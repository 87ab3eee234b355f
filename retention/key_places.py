"""In which cells a command for a tenant's key acts, and what it says of each.

Older jobs of a tenant that has moved are under the key of the cell in which they are. So what is to hold for all that
a tenant has is done in all its cells, those that it has left first, whatever goes wrong in one of them; and the command
is given again until it went wrong in none.
"""

from collections.abc import Awaitable, Callable
from contextlib import suppress
from typing import Literal

import click
from msgspec import Struct

from retention.admin import sentence
from retention.bootstrap import Retention
from retention.cell_settings import HOME
from retention.cells import Cell
from retention.custody import Custody
from retention.errors import KeyRefused, NotFound, RetentionError
from retention.job import TenantId
from retention.keys import KeyId, KeyState, TenantKey


class Change(Struct, frozen=True, kw_only=True):
    """What is to be done to a key."""

    do: Callable[[Custody], Awaitable[TenantKey]]
    wanted: frozenset[KeyState]
    """As what it is to be found afterwards: where it is so already, or purged, nothing is left to do."""
    say: Callable[[TenantKey], str]
    """Words for what was done."""


_MOVED = "the tenant has moved meanwhile: give the command again"


async def cells_of(retention: Retention, key_id: str, cell: str | None) -> tuple[str, ...]:
    """Return the cell that is named, or else all of a key's tenant, its present one last; of `common` the home cell."""
    if cell is None:
        with suppress(NotFound):  # the cell says so, in words of its own
            return (await retention.tenants.get(TenantId(key_id))).cells
    return (cell or HOME,)


async def place_of(retention: Retention, key_id: str, cell: str | None) -> Cell:
    """Return the cell that is named, or else the one in which the tenant of a key is now; of `common` the home cell."""
    return await retention.cells.get((await cells_of(retention, key_id, cell))[-1])


async def cells_with_a_key(retention: Retention, key_id: str, names: tuple[str, ...]) -> tuple[str, ...]:
    """Return in which of some cells there is, or may be, such a key. Raises NotFound when there is none at all."""
    found = []
    for name in names:
        try:
            await (await retention.cells.get(name)).custody.get(KeyId(key_id))
        except NotFound:
            continue
        except RetentionError:
            pass  # whoever acts there is told
        found.append(name)
    if not found:
        raise NotFound(f"key {key_id}")
    return tuple(found)


async def change_in(
    retention: Retention, key_id: str, cell: str | None, change: Change, *, names: tuple[str, ...] | None = None
) -> None:
    """Do this to a key in all cells that are meant, and print what came of it. `names`: the operator agreed to these.

    Raises ClickException unless all is done. What goes wrong in the only cell is raised as it is; of several it is no
    trouble that one is as wanted already: the command may have broken off.
    """
    meant = await cells_of(retention, key_id, cell)
    if meant != (names := names or meant):
        raise click.ClickException(f"{_MOVED}; nothing was done")
    if len(names) == 1:
        click.echo(change.say(await change.do((await retention.cells.get(names[0])).custody)))
    else:
        came: dict[str, str] = {}
        for name in names:
            came[name], said = await _attempt(retention, key_id, name, change)
            click.echo(f"cell {name}: {said}")
        if failed := [name for name, outcome in came.items() if outcome == "failed"]:
            raise click.ClickException(f"not done in {' and '.join(failed)}: the command can be given again")
        if not {"done", "so already"} & {*came.values()}:
            raise NotFound(f"key {key_id}")
        if "done" not in came.values():
            raise click.ClickException("nothing was changed")
    if await cells_of(retention, key_id, cell) != names:
        raise click.ClickException(_MOVED)


async def _attempt(
    retention: Retention, key_id: str, name: str, change: Change
) -> tuple[Literal["done", "so already", "none", "failed"], str]:
    try:
        custody = (await retention.cells.get(name)).custody
        try:
            return "done", change.say(await change.do(custody))
        except KeyRefused as error:
            key = await custody.get(KeyId(key_id))
            return "so already" if key.state in change.wanted or key.purged else "failed", str(error)
    except NotFound:
        return "none", "there is no key of the tenant's own; what it has there is under `common`"
    except RetentionError as error:
        return "failed", sentence(error).removeprefix(f"cell {name}: ")
