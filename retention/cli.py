"""The `volant` command line: administration here, the rest joined from the other packages.

Commands come from the entry point group `volant.commands`, so that packages which never import each
other meet in one command.
"""

import asyncio
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import asynccontextmanager
from importlib.metadata import entry_points
from typing import TypeVar, get_type_hints

import click
import msgspec

from retention import log
from retention.bootstrap import Retention, open_retention
from retention.errors import KeyUnavailable, NotFound, RetentionError, SettingsError, Unavailable
from retention.job import TenantId
from retention.settings import Settings, load

T = TypeVar("T")


@click.group()
def volant() -> None:
    """Administer Volant, and use it."""


@click.group()
def tenant() -> None:
    """Create, list and delete tenants."""


@tenant.command("create")
@click.argument("name")
def create_tenant(name: str) -> None:
    """Add a tenant and print its id."""

    async def create(retention: Retention) -> str:
        return (await retention.tenants.create(name, now=await retention.jobs.now())).id

    click.echo(_with_retention(create))


@tenant.command("list")
def list_tenants() -> None:
    """Print every tenant: id, time of creation, name."""
    for known in _with_retention(lambda retention: retention.tenants.all()):
        click.echo(f"{known.id}  {known.created:%Y-%m-%dT%H:%M:%SZ}  {known.name}")


@tenant.command("delete")
@click.argument("tenant_id")
@click.confirmation_option(prompt="This erases the tenant's keys and all its jobs, at once and for good. Go on?")
def delete_tenant(tenant_id: str) -> None:
    """Take away a tenant with everything it has."""
    erased = _with_retention(lambda retention: retention.jobs.delete_tenant(TenantId(tenant_id)))
    click.echo(f"deleted, with {erased} jobs")


@click.group()
def apikey() -> None:
    """Create, list and revoke API keys."""


@apikey.command("create")
@click.argument("tenant_id")
def create_key(tenant_id: str) -> None:
    """Print a new API key. It is not kept and cannot be shown again."""

    async def create(retention: Retention) -> str:
        return await retention.tenants.create_key(TenantId(tenant_id), now=await retention.jobs.now())

    click.echo(_with_retention(create))


@apikey.command("list")
@click.argument("tenant_id")
def list_keys(tenant_id: str) -> None:
    """Print a tenant's keys: public id, time of creation."""
    for key in _with_retention(lambda retention: retention.tenants.keys(TenantId(tenant_id))):
        click.echo(f"{key.id}  {key.created:%Y-%m-%dT%H:%M:%SZ}")


@apikey.command("revoke")
@click.argument("key_id")
def revoke_key(key_id: str) -> None:
    """Make a key useless, from the next request on. KEY_ID is the middle part of the key."""
    _with_retention(lambda retention: retention.tenants.revoke(key_id))
    click.echo("revoked")


@click.command()
def settings() -> None:
    """Print every setting in force, with its meaning, as a configuration file."""
    in_force = msgspec.to_builtins(_loaded(), enc_hook=str)
    for name, annotation in get_type_hints(Settings, include_extras=True).items():
        value = in_force[name]
        click.echo(f"# {annotation.__metadata__[0].description}")
        click.echo(f"# {name} =\n" if value is None else f"{name} = {msgspec.json.encode(value).decode()}\n")


commands: list[click.Command] = [tenant, apikey, settings]
"""What this package adds to the command line."""


def main() -> None:
    """Run the command line. Exits 2 on wrong use, 1 when a command could not do its work."""
    for entry in sorted(entry_points(group="volant.commands"), key=lambda entry: entry.name):
        for command in entry.load():
            volant.add_command(command)
    volant()


def _loaded() -> Settings:
    try:
        return load()
    except SettingsError as error:
        raise click.ClickException(str(error)) from error


def _with_retention(action: Callable[[Retention], Awaitable[T]]) -> T:
    log.configure("warning")
    configured = _loaded()

    async def run() -> T:
        async with _opened(configured) as retention:
            return await action(retention)

    return asyncio.run(run())


@asynccontextmanager
async def _opened(configured: Settings) -> AsyncIterator[Retention]:
    try:
        async with open_retention(configured, role="admin") as retention:
            yield retention
    except NotFound as error:
        raise click.ClickException(f"there is no {error}") from error
    except Unavailable as error:
        raise click.ClickException(f"Redis cannot be reached, or refuses: {error}") from error
    except (SettingsError, KeyUnavailable) as error:
        raise click.ClickException(str(error)) from error
    except RetentionError as error:
        raise click.ClickException(type(error).__name__) from error
