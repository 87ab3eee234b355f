"""The `volant key` commands: the keys that wrap tenants' data, their versions and their states.

A key is named by its tenant's id, or `common`: the key of all tenants that have none of their own.
"""

import sys
from collections.abc import Awaitable, Callable
from contextlib import suppress
from datetime import datetime, timedelta
from typing import Any

import click
import msgspec

from retention.admin import loaded, one_cell, with_retention
from retention.bootstrap import Retention
from retention.cell_settings import HOME
from retention.cells import Cell
from retention.errors import KeyRefused, NotFound
from retention.job import TenantId
from retention.key_places import Change, cells_of, cells_with_a_key, change_in, place_of
from retention.keys import COMMON, KeyId, KeyState, TenantKey, check_may_be_destroyed
from retention.rotation import Progress

_INTERRUPTED = 130


class Duration(click.ParamType[timedelta]):
    """A time to come, in seconds or by ISO 8601, as settings have it."""

    name = "duration"

    def convert(self, value: Any, param: click.Parameter | None, ctx: click.Context | None) -> timedelta:
        """See click."""
        try:
            found = msgspec.convert(value, timedelta, strict=False)
        except msgspec.ValidationError:
            found = timedelta(0)
        if found <= timedelta(0):
            self.fail(f"{value!r} is no duration above 0, such as P90D", param, ctx)
        return found


cell_option = click.option("--cell", help="The cell of the key, by its name in the settings.")
every_cell = click.option("--cell", help="The one cell, by its name in the settings. Default: all of the tenant's.")

expires_option = click.option(
    "--expires", type=Duration(), help="From then on nothing new comes under it: P90D, or in seconds."
)


@click.group("key")
def key() -> None:
    """Make, import, rotate, disable and destroy the keys of tenants.

    KEY is the id of the tenant whose own key it is, or `common`: each cell has keys of its own. Unless a cell is named,
    a tenant's key is made, imported and rotated in the cell in which the tenant is now, and disabled, enabled,
    destroyed and restored in all that it has, or had; and `common` is looked for in the home cell.
    """


@key.command("create")
@click.argument("tenant_id")
@cell_option
@expires_option
def create(tenant_id: str, cell: str | None, expires: timedelta | None) -> None:
    """Give a tenant a key of its own, and bring under it what the tenant has."""

    async def begin(place: Cell) -> TenantKey:
        return await place.custody.create(TenantId(tenant_id), expires=await moment(place, expires))

    bring_under(tenant_id, cell, begin)


@key.command("list")
@one_cell
def list_keys(cell: str | None) -> None:
    """Print every key: id, state, versions, who made it, root, dates; how far a rotation is, who holds it; its cell."""

    async def collect(retention: Retention) -> list[tuple[TenantKey, Progress | None, str]]:
        return [
            (each, None if each.settled or each.purged else await place.custody.rotation.progress(each), place.name)
            for place in await retention.cells.named(cell)
            for each in await place.custody.all()
        ]

    for each, progress, name in with_retention(collect):
        click.echo("  ".join(_described(each, progress) + ([] if name == HOME else [f"cell {name}"])))


@key.command("rotate")
@click.argument("key_id", metavar="KEY")
@cell_option
@click.option("--again", is_flag=True, help="Add a version, although not all data is under the last one yet.")
def rotate(key_id: str, *, cell: str | None, again: bool) -> None:
    """Add a version to a key, and bring under it what older ones have wrapped. Content is not touched.

    Where a rotation was broken off, this goes on with it.
    """

    async def begin(place: Cell) -> TenantKey:
        with suppress(NotFound):  # `rotate` says so, in the audit log, too
            found = await place.custody.get(KeyId(key_id))
            if not (found.settled or again) and found.state is KeyState.ACTIVE:
                return found
        return await place.custody.rotate(KeyId(key_id))

    bring_under(key_id, cell, begin)


@key.command("disable")
@click.argument("key_id", metavar="KEY")
@every_cell
def disable(key_id: str, cell: str | None) -> None:
    """Suspend a key: what is under it is neither read nor worked on, and nothing new comes, until it is enabled."""
    change = Change(
        do=lambda custody: custody.disable(KeyId(key_id)),
        wanted=frozenset({KeyState.SUSPENDED, KeyState.DESTROYED}),
        say=lambda _: "disabled: reads are refused within 5 seconds, and work on jobs stops within 30",
    )
    _change(key_id, cell, change)


@key.command("enable")
@click.argument("key_id", metavar="KEY")
@every_cell
def enable(key_id: str, cell: str | None) -> None:
    """Let a suspended key be used again; work on jobs goes on."""
    wanted = frozenset({KeyState.ACTIVE, KeyState.DEACTIVATED})
    _change(key_id, cell, Change(do=lambda custody: custody.enable(KeyId(key_id)), wanted=wanted, say=_state))


@key.command("destroy")
@click.argument("key_id", metavar="KEY")
@every_cell
@click.option("--now", "at_once", is_flag=True, help="For good, without a time in which it can be restored.")
@click.option("--yes", is_flag=True, help="Answer the first question. That for the id, with --now, is always asked.")
def destroy(key_id: str, *, cell: str | None, at_once: bool, yes: bool) -> None:
    """Make a key useless at once, and erase what is under it: after the time of the setting `key_grace`, or --now."""
    grace = None if at_once else loaded().key_grace

    async def look(retention: Retention) -> tuple[tuple[str, ...], tuple[str, ...]]:
        names = await cells_of(retention, key_id, cell)
        try:  # before anything is asked
            check_may_be_destroyed(KeyId(key_id))
            return names, await cells_with_a_key(retention, key_id, names)
        except (KeyRefused, NotFound):
            place = await retention.cells.get(names[-1])
            async with place.audit.recording(
                "volant.key.purge" if at_once else "volant.key.destroy",
                tenant="" if key_id == COMMON else key_id,
                target=key_id,
            ):
                raise

    names, having = with_retention(look)
    where = f"in the cell{'s' * (len(having) > 1)} {' and '.join(having)}"
    if at_once:
        question = f"All data of the tenant whose key is {key_id} is erased {where}, at once and for good. Go on?"
    else:
        left = f"{grace}".removesuffix(", 0:00:00")
        question = (
            f"From now on no data of the tenant whose key is {key_id} can be read {where}. After {left} it is erased;"
            " until then `volant key restore` takes this back. Go on?"
        )
    if not yes:
        click.confirm(question, abort=True)
    if at_once and click.prompt("Type the id of the key", err=True) != key_id:
        raise click.ClickException("that is another id: nothing was done")
    change = Change(
        do=lambda custody: custody.destroy(KeyId(key_id), grace=grace),
        wanted=frozenset({KeyState.DESTROYED}),
        say=_destroyed,
    )
    _change(key_id, cell, change, names=names)


@key.command("restore")
@click.argument("key_id", metavar="KEY")
@every_cell
def restore(key_id: str, cell: str | None) -> None:
    """Take the destruction of a key back, before its time is over. One that was imported is imported again instead."""
    wanted = frozenset(KeyState) - {KeyState.DESTROYED}
    _change(key_id, cell, Change(do=lambda custody: custody.restore(KeyId(key_id)), wanted=wanted, say=_state))


async def moment(place: Cell, wait: timedelta | None) -> datetime | None:
    """Return when a time to come is over, by the clock of a cell's Redis."""
    return await place.jobs.now() + wait if wait is not None else None


def _change(key_id: str, cell: str | None, change: Change, *, names: tuple[str, ...] | None = None) -> None:
    with_retention(lambda retention: change_in(retention, key_id, cell, change, names=names))


def bring_under(key_id: str, cell: str | None, begin: Callable[[Cell], Awaitable[TenantKey]]) -> None:
    """Begin with a key or a version of one, and bring under it what it is to wrap. Ctrl-C leaves that to workers."""
    begun: list[TenantKey] = []

    async def bring(retention: Retention) -> bool:
        place = await place_of(retention, key_id, cell)
        begun.append(found := await begin(place))
        custody = place.custody
        if found.state is not KeyState.ACTIVE:
            return found.settled
        click.echo(f"{found.id} wraps with version {found.newest.number}")
        length = await custody.rotation.count(found.id)
        with click.progressbar(length=length, label="rewrapping", file=sys.stderr) as bar:

            async def seen(count: int) -> None:
                bar.update(count)

            return await custody.rotation.rewrap(found.id, seen)

    try:
        settled = with_retention(bring)
    except KeyboardInterrupt:
        if not begun:
            raise
        click.echo(f"\nleft to the workers; `volant key rotate {begun[0].id}` goes on with it here, too", err=True)
        raise click.exceptions.Exit(_INTERRUPTED) from None
    if begun[0].state is not KeyState.ACTIVE:
        click.echo(_state(begun[0]))
    elif settled:
        click.echo("all data is under it")
    else:
        click.echo(f"not all data is under it yet: workers go on, and so does `volant key rotate {begun[0].id}`")


def _state(found: TenantKey) -> str:
    return f"{found.id} is {found.state.name.lower()}"


def _destroyed(found: TenantKey) -> str:
    if found.purge_at:
        return f"destroyed; its data is erased from {_second(found.purge_at)} on, unless it is restored"
    return "destroyed, and its data erased"


def _described(found: TenantKey, progress: Progress | None) -> list[str]:
    """Return the columns of a line, and what else there is to be said."""
    columns = [f"{found.id:<16}", f"{'purged' if found.purged else found.state.name.lower():<11}"]
    if found.versions:
        numbers = ",".join(str(version.number) for version in found.versions)
        made = f"imported {found.newest.check}" if found.imported else "made here"
        columns += [f"v{numbers}", made, found.newest.root]
    columns.append(f"created {_second(found.created)}")
    if found.expires:
        columns.append(f"expires {_second(found.expires)}")
    if found.purge_at:
        columns.append(f"purged {_second(found.purge_at)}")
    if progress:
        columns.append(f"{progress.there} of {progress.to_be} rewrapped")
        if progress.held_by:
            columns.append(f"held by {', '.join(progress.held_by)}")
    return columns


def _second(when: datetime) -> str:
    return f"{when:%Y-%m-%dT%H:%M:%SZ}"
