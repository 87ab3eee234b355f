"""The `volant` command line: administration here, the rest joined from the other packages.

Commands come from the entry point group `volant.commands`, so that packages which never import each
other meet in one command.
"""

from collections.abc import Mapping
from datetime import UTC, datetime
from importlib.metadata import entry_points

import click

from retention.addresses import parse_cidrs
from retention.admin import loaded, with_retention
from retention.audit_cli import audit
from retention.bootstrap import Retention
from retention.errors import SettingsError
from retention.import_cli import imports
from retention.job import JobId, TenantId
from retention.key_cli import key as tenant_key
from retention.limits_cli import limit_option, show_limits
from retention.outbox import Dead
from retention.printing import as_toml
from retention.request_log_cli import request_log
from retention.root_cli import root


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

    click.echo(with_retention(create))


@tenant.command("list")
def list_tenants() -> None:
    """Print every tenant: id, time of creation, name; the endpoints and networks that serve it, if not all do."""
    for known in with_retention(lambda retention: retention.tenants.all()):
        limits: list[str] = [known.endpoints] if known.endpoints != "both" else []
        limits += [" ".join(known.networks)] if known.networks else []
        served = f"  ({', '.join(limits)})" if limits else ""
        click.echo(f"{known.id}  {known.created:%Y-%m-%dT%H:%M:%SZ}  {known.name}{served}")


@tenant.command("update")
@click.argument("tenant_id")
@click.option("--name", help="Its name, for people.")
@click.option(
    "--callback-signature",
    type=click.Choice(["sha256", "sha1", "default"]),
    help="The hash of its callback signatures; default: the service's.",
)
@click.option(
    "--learning-opt-out/--no-learning-opt-out",
    default=None,
    help="Whether nothing more of it is kept in the request log. What is there goes with `request-log purge`.",
)
@click.option(
    "--endpoints",
    type=click.Choice(["public", "private", "both"]),
    help="The listeners that serve it: the public ones, the private ones, or both.",
)
@click.option("--networks", help='Where it is served: "10.1.0.0/16 fd00:1::/64"; "" for everywhere.')
@limit_option
def update_tenant(
    tenant_id: str,
    *,
    name: str | None,
    callback_signature: str | None,
    learning_opt_out: bool | None,
    endpoints: str | None,
    networks: str | None,
    limits: Mapping[str, float | None],
) -> None:
    """Change what is known of a tenant. What is not named stays."""
    changes: dict[str, object] = {"name": name} if name is not None else {}
    if callback_signature:
        changes["callback_signature"] = None if callback_signature == "default" else callback_signature
    if learning_opt_out is not None:
        changes["learning_opt_out"] = learning_opt_out
    if endpoints:
        changes["endpoints"] = endpoints
    if networks is not None:
        try:
            changes["networks"] = tuple(map(str, parse_cidrs(networks, of="--networks")))
        except SettingsError as error:
            raise click.UsageError(str(error)) from error
    with_retention(lambda retention: retention.tenants.update(TenantId(tenant_id), limits=limits, **changes))
    click.echo("updated")


tenant.add_command(show_limits)


@tenant.command("delete")
@click.argument("tenant_id")
@click.confirmation_option(prompt="This erases the tenant's keys and all its jobs, at once and for good. Go on?")
def delete_tenant(tenant_id: str) -> None:
    """Take away a tenant with everything it has."""
    erased = with_retention(lambda retention: retention.jobs.delete_tenant(TenantId(tenant_id)))
    click.echo(f"deleted, with {erased} jobs")


@click.group()
def apikey() -> None:
    """Create, list, update and revoke API keys."""


@apikey.command("create")
@click.argument("tenant_id")
@limit_option
def create_key(tenant_id: str, *, limits: Mapping[str, float | None]) -> None:
    """Print a new API key. It is not kept and cannot be shown again."""

    async def create(retention: Retention) -> str:
        return await retention.tenants.create_key(TenantId(tenant_id), now=await retention.jobs.now(), limits=limits)

    click.echo(with_retention(create))


@apikey.command("list")
@click.argument("tenant_id")
def list_keys(tenant_id: str) -> None:
    """Print a tenant's keys: public id, time of creation."""
    for key in with_retention(lambda retention: retention.tenants.keys(TenantId(tenant_id))):
        click.echo(f"{key.id}  {key.created:%Y-%m-%dT%H:%M:%SZ}")


@apikey.command("update")
@click.argument("key_id")
@limit_option
def update_key(key_id: str, *, limits: Mapping[str, float | None]) -> None:
    """Change the limits of a key. KEY_ID is the middle part of the key."""
    with_retention(lambda retention: retention.tenants.update_key(key_id, limits))
    click.echo("updated")


@apikey.command("revoke")
@click.argument("key_id")
def revoke_key(key_id: str) -> None:
    """Make a key useless, from the next request on. KEY_ID is the middle part of the key."""
    with_retention(lambda retention: retention.tenants.revoke(key_id))
    click.echo("revoked")


@click.group()
def callbacks() -> None:
    """See whom tenants want to be told, and what could not be told."""


@callbacks.command("list")
@click.argument("tenant_id")
def list_callbacks(tenant_id: str) -> None:
    """Print a tenant's callback URLs: time of registration, whether signed, URL without its query."""
    for known in with_retention(lambda retention: retention.registrations.all(TenantId(tenant_id))):
        signed = "signed" if known.secret else "unsigned"
        click.echo(f"{known.created:%Y-%m-%dT%H:%M:%SZ}  {signed:<8}  {known.url.partition('?')[0]}")


@callbacks.command("dead")
def list_dead() -> None:
    """Print every notification that is not tried any more: tenant, job, event, time of the event, tries."""

    async def collect(retention: Retention) -> list[Dead]:
        return [dead async for dead in retention.outbox.dead()]

    for dead in with_retention(collect):
        since = datetime.fromtimestamp(dead.pending.since / 1000, UTC)
        told = f"{dead.pending.event}  {since:%Y-%m-%dT%H:%M:%SZ}  {dead.pending.tries}"
        click.echo(f"{dead.tenant}  {dead.job}  {told}")


@callbacks.command("replay")
@click.argument("tenant_id")
@click.argument("job_id")
def replay(tenant_id: str, job_id: str) -> None:
    """Try a job's dead notifications again, for another day."""
    revived = with_retention(lambda retention: retention.outbox.revive(TenantId(tenant_id), JobId(job_id)))
    if not revived:
        raise click.ClickException("there is no such dead notification")
    click.echo(f"{revived} to be sent")


@click.group()
def erasure() -> None:
    """See what the files of Redis may still show of what was erased."""


@erasure.command("status")
def erasure_status() -> None:
    """Print the oldest erasure that a file of Redis could still show, and until when they show none."""
    found = with_retention(lambda retention: retention.erasures.status())
    click.echo(f"oldest erasure that the files may still show: {_second(found.oldest)}")
    click.echo(f"nothing is left in them of erasures before: {_second(found.clean_until)}")


def _second(moment: datetime | None) -> str:
    return f"{moment:%Y-%m-%dT%H:%M:%SZ}" if moment else "none"


@click.command()
def settings() -> None:
    """Print every setting in force, with its meaning, as a configuration file."""
    click.echo(as_toml(loaded()), nl=False)


for command in imports:
    tenant_key.add_command(command)

commands: list[click.Command] = [
    *(tenant, apikey, tenant_key, callbacks, request_log, erasure),
    *(root, audit, settings),
]
"""What this package adds to the command line."""


def main() -> None:
    """Run the command line. Exits 2 on wrong use, 1 when a command could not do its work."""
    for entry in sorted(entry_points(group="volant.commands"), key=lambda entry: entry.name):
        for command in entry.load():
            volant.add_command(command)
    volant()
