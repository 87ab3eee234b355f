"""`volant root`: whether the root key can be used."""

import asyncio

import click

from retention import log
from retention.admin import at_cell, loaded
from retention.cell_settings import RootSettings
from retention.errors import KeyUnavailable, RetentionError
from retention.roots import open_root
from retention.seal import Context, Key, Kind


@click.group()
def root() -> None:
    """See whether the root key can be used."""


@root.command("check")
@at_cell
def check_root(cell: str) -> None:
    """Print which root is configured, and try it: it must give a key back, and for its own purpose only."""
    log.configure("warning")
    try:
        asyncio.run(_check(loaded().of_cell(cell)))
    except RetentionError as error:
        raise click.ClickException(str(error)) from error


async def _check(settings: RootSettings) -> None:
    provider = await open_root(settings)
    click.echo(f"root: {provider.name}")
    try:
        key, purpose = Key.random(), Context(kind=Kind.TENANT_KEY, key_id="check")
        wrapped = await provider.wrap(key, purpose)
        if await provider.unwrap(wrapped, purpose) != key:
            raise click.ClickException("it gave another key back than it was given: do not use it")
        try:
            await provider.unwrap(wrapped, Context(kind=Kind.TENANT_KEY, key_id="another"))
        except KeyUnavailable:
            click.echo("wraps and unwraps")
        else:
            raise click.ClickException("it gave a key back for another purpose than it was wrapped for: do not use it")
    finally:
        await provider.close()
