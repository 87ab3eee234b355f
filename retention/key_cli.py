"""The `volant key` commands: the keys that wrap tenants' data, their versions and their states.

A key is named by its tenant's id, or `common`: the key of all tenants that have none of their own.
"""

import sys
from collections.abc import Awaitable, Callable
from datetime import datetime, timedelta
from typing import Any

import click
import msgspec

from retention.admin import loaded, with_retention
from retention.bootstrap import Retention
from retention.custody import Custody
from retention.job import TenantId
from retention.keys import KeyId, KeyState, TenantKey

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


expires_option = click.option(
    "--expires", type=Duration(), help="From then on nothing new comes under it: P90D, or in seconds."
)


@click.group("key")
def key() -> None:
    """Make, import, rotate, disable and destroy the keys of tenants.

    KEY is the id of the tenant whose own key it is, or `common`.
    """


@key.command("create")
@click.argument("tenant_id")
@expires_option
def create(tenant_id: str, expires: timedelta | None) -> None:
    """Give a tenant a key of its own, and bring under it what the tenant has."""

    async def begin(retention: Retention) -> TenantKey:
        return await retention.custody.create(TenantId(tenant_id), expires=await moment(retention, expires))

    bring_under(begin)


@key.command("list")
def list_keys() -> None:
    """Print every key: id, state, versions, who made it, root, and its dates; how far a rotation is."""

    async def collect(custody: Custody) -> list[tuple[TenantKey, tuple[int, int] | None]]:
        return [
            (each, None if each.settled or each.purged else await custody.progress(each))
            for each in await custody.all()
        ]

    for each, progress in with_retention(lambda retention: collect(retention.custody)):
        click.echo("  ".join(_described(each, progress)))


@key.command("rotate")
@click.argument("key_id", metavar="KEY")
@click.option("--again", is_flag=True, help="Add a version, although not all data is under the last one yet.")
def rotate(key_id: str, *, again: bool) -> None:
    """Add a version to a key, and bring under it what older ones have wrapped. Content is not touched.

    Where a rotation was broken off, this goes on with it.
    """

    async def begin(retention: Retention) -> TenantKey:
        found = await retention.custody.get(KeyId(key_id))
        goes_on = not (found.settled or again) and found.state is KeyState.ACTIVE
        return found if goes_on else await retention.custody.rotate(KeyId(key_id))

    bring_under(begin)


@key.command("disable")
@click.argument("key_id", metavar="KEY")
def disable(key_id: str) -> None:
    """Suspend a key: what is under it is neither read nor worked on, and nothing new comes, until it is enabled."""
    with_retention(lambda retention: retention.custody.disable(KeyId(key_id)))
    click.echo("disabled: reads are refused within 5 seconds, and work on jobs stops within 30")


@key.command("enable")
@click.argument("key_id", metavar="KEY")
def enable(key_id: str) -> None:
    """Let a suspended key be used again; work on jobs goes on."""
    _say_state(with_retention(lambda retention: retention.custody.enable(KeyId(key_id))))


@key.command("destroy")
@click.argument("key_id", metavar="KEY")
@click.option("--now", "at_once", is_flag=True, help="For good, without a time in which it can be restored.")
@click.option("--yes", is_flag=True, help="Answer the first question. That for the id, with --now, is always asked.")
def destroy(key_id: str, *, at_once: bool, yes: bool) -> None:
    """Make a key useless at once, and erase what is under it: after the time of the setting `key_grace`, or --now."""
    grace = None if at_once else loaded().key_grace
    if at_once:
        question = f"All data of the tenant whose key is {key_id} is erased, at once and for good. Go on?"
    else:
        question = (
            f"From now on no data of the tenant whose key is {key_id} can be read. After {grace} it is erased;"
            " until then `volant key restore` takes this back. Go on?"
        )
    if not yes:
        click.confirm(question, abort=True)
    if at_once and click.prompt("Type the id of the key", err=True) != key_id:
        raise click.ClickException("that is another id: nothing was done")
    destroyed = with_retention(lambda retention: retention.custody.destroy(KeyId(key_id), grace=grace))
    if destroyed.purge_at:
        click.echo(f"destroyed; its data is erased from {_second(destroyed.purge_at)} on, unless it is restored")
    else:
        click.echo("destroyed, and its data erased")


@key.command("restore")
@click.argument("key_id", metavar="KEY")
def restore(key_id: str) -> None:
    """Take the destruction of a key back, before its time is over. One that was imported is imported again instead."""
    _say_state(with_retention(lambda retention: retention.custody.restore(KeyId(key_id))))


async def moment(retention: Retention, wait: timedelta | None) -> datetime | None:
    """Return when a time to come is over, by Redis's clock."""
    return await retention.jobs.now() + wait if wait is not None else None


def bring_under(begin: Callable[[Retention], Awaitable[TenantKey]]) -> None:
    """Begin with a key or a version of one, and bring under it what it is to wrap. Ctrl-C leaves that to workers."""
    begun: list[TenantKey] = []

    async def bring(retention: Retention) -> bool:
        begun.append(found := await begin(retention))
        custody = retention.custody
        if found.state is not KeyState.ACTIVE:
            return found.settled
        click.echo(f"{found.id} wraps with version {found.newest.number}")
        length = await custody.count(found.id)
        with click.progressbar(length=length, label="rewrapping", file=sys.stderr) as bar:
            return await custody.rewrap(found.id, seen=bar.update)

    try:
        settled = with_retention(bring)
    except KeyboardInterrupt:
        if not begun:
            raise
        click.echo(f"\nleft to the workers; `volant key rotate {begun[0].id}` goes on with it here, too", err=True)
        raise click.exceptions.Exit(_INTERRUPTED) from None
    if begun[0].state is not KeyState.ACTIVE:
        _say_state(begun[0])
    elif settled:
        click.echo("all data is under it")
    else:
        click.echo(f"not all data is under it yet: workers go on, and so does `volant key rotate {begun[0].id}`")


def _say_state(found: TenantKey) -> None:
    click.echo(f"{found.id} is {found.state.name.lower()}")


def _described(found: TenantKey, progress: tuple[int, int] | None) -> list[str]:
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
        columns.append(f"{progress[0]} of {progress[1]} rewrapped")
    return columns


def _second(when: datetime) -> str:
    return f"{when:%Y-%m-%dT%H:%M:%SZ}"
