"""The `volant` command line: administration here, the rest joined from the other packages.

Commands come from the entry point group `volant.commands`, so that packages which never import each
other meet in one command.
"""

from collections.abc import Mapping
from datetime import UTC, datetime
from importlib.metadata import entry_points

import click

from retention.addresses import parse_cidrs
from retention.admin import at_cell, loaded, one_cell, with_retention
from retention.audit_cli import audit
from retention.bootstrap import Retention
from retention.cell_settings import HOME
from retention.erasures import Erasures
from retention.errors import SettingsError
from retention.import_cli import imports
from retention.job import JobId, TenantId
from retention.key_cli import key as tenant_key
from retention.limits_cli import limit_option, show_limits
from retention.outbox import Dead
from retention.printing import as_toml
from retention.registrations import Registration
from retention.request_log_cli import request_log
from retention.root_cli import root
from retention.tenant import Plan
from retention.tenants import ApiKey

_PLANS = click.Choice(["plus", "premium"])


@click.group()
def volant() -> None:
    """Administer Volant, and use it."""


@click.group()
def tenant() -> None:
    """Create, list, update, limit and delete tenants."""


@tenant.command("create")
@click.argument("name")
@click.option(
    "--plan",
    type=_PLANS,
    default="plus",
    help="plus: in a cell that tenants share; premium: in a cell of its own. Default: plus.",
)
@click.option("--cell", default=HOME, help=f"The cell, by its name in the settings. Default: {HOME}.")
def create_tenant(name: str, *, plan: Plan, cell: str) -> None:
    """Add a tenant and print its id."""
    click.echo(with_retention(lambda retention: retention.tenancy.create(name, plan=plan, cell=cell)).id)


@tenant.command("list")
def list_tenants() -> None:
    """Print every tenant: id, time of creation, plan, cell, name; endpoints and networks that serve it, if not all."""
    for known in with_retention(lambda retention: retention.tenants.all()):
        limits: list[str] = [known.endpoints] if known.endpoints != "both" else []
        limits += [" ".join(known.networks)] if known.networks else []
        served = f"  ({', '.join(limits)})" if limits else ""
        created = f"{known.created:%Y-%m-%dT%H:%M:%SZ}"
        click.echo(f"{known.id}  {created}  {known.plan:<7}  {known.cell}  {known.name}{served}")


@tenant.command("update")
@click.argument("tenant_id")
@click.option("--name", help="Its name, for people.")
@click.option("--plan", type=_PLANS, help="Its plan, as for `create`: premium needs a cell of its own.")
@click.option("--cell", help="The cell to which its new jobs go. Older ones are read where they are until they expire.")
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
    plan: Plan | None,
    cell: str | None,
    callback_signature: str | None,
    learning_opt_out: bool | None,
    endpoints: str | None,
    networks: str | None,
    limits: Mapping[str, float | None],
) -> None:
    """Change what is known of a tenant. What is not named stays. May be repeated, should it break off."""
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
    with_retention(
        lambda retention: retention.tenancy.update(TenantId(tenant_id), plan=plan, cell=cell, limits=limits, **changes)
    )
    click.echo("updated")


tenant.add_command(show_limits)


@tenant.command("cells")
@click.argument("tenant_id")
def list_cells(tenant_id: str) -> None:
    """Print where a tenant is, and then where it was: cell, when it left, jobs and request log entries still there."""

    async def count(retention: Retention) -> list[tuple[str, str, int, int]]:
        known = await retention.tenants.get(TenantId(tenant_id))
        left = {each.cell: _second(each.moved) for each in known.former}
        counted: list[tuple[str, str, int, int]] = []
        for name in reversed(known.cells):
            cell, jobs = await retention.cells.get(name), 0
            while entries := await cell.store.all_of(known.id, after=jobs):
                jobs += len(entries)
            counted.append((name, left.get(name, "present"), jobs, len(await cell.request_log.all(known.id))))
        return counted

    for cell, left, jobs, logged in with_retention(count):
        click.echo(f"{cell}  {left:<20}  {jobs}  {logged}")


@tenant.command("delete")
@click.argument("tenant_id")
@click.confirmation_option(prompt="This erases the tenant's keys and all its jobs, at once and for good. Go on?")
def delete_tenant(tenant_id: str) -> None:
    """Take away a tenant with everything it has, in all cells. May be repeated, should it break off."""
    erased = with_retention(lambda retention: retention.tenancy.delete(TenantId(tenant_id)))
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
        now = await retention.cells.home.jobs.now()
        return await retention.tenants.create_key(TenantId(tenant_id), now=now, limits=limits)

    click.echo(with_retention(create))


@apikey.command("list")
@click.argument("tenant_id")
def list_keys(tenant_id: str) -> None:
    """Print a tenant's keys: public id, time of creation."""

    async def of_tenant(retention: Retention) -> list[ApiKey]:
        return await retention.tenants.keys((await retention.tenants.get(TenantId(tenant_id))).id)

    for key in with_retention(of_tenant):
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

    async def registered(retention: Retention) -> list[Registration]:
        known = await retention.tenants.get(TenantId(tenant_id))
        return await (await retention.cells.get(known.cell)).registrations.all(known.id)

    for known in with_retention(registered):
        signed = "signed" if known.secret else "unsigned"
        click.echo(f"{known.created:%Y-%m-%dT%H:%M:%SZ}  {signed:<8}  {known.url.partition('?')[0]}")


@callbacks.command("dead")
@one_cell
def list_dead(cell: str | None) -> None:
    """Print every notification that is not tried any more: tenant, job, event, time of the event, tries."""

    async def collect(retention: Retention) -> list[Dead]:
        return [dead for each in await retention.cells.named(cell) async for dead in each.outbox.dead()]

    for dead in with_retention(collect):
        since = datetime.fromtimestamp(dead.pending.since / 1000, UTC)
        told = f"{dead.pending.event}  {since:%Y-%m-%dT%H:%M:%SZ}  {dead.pending.tries}"
        click.echo(f"{dead.tenant}  {dead.job}  {told}")


@callbacks.command("replay")
@click.argument("tenant_id")
@click.argument("job_id")
def replay(tenant_id: str, job_id: str) -> None:
    """Try a job's dead notifications again, for another day."""

    async def revive(retention: Retention) -> int:
        known = await retention.tenants.get(TenantId(tenant_id))
        cells = [await retention.cells.get(name) for name in known.cells]
        return sum([await cell.outbox.revive(known.id, JobId(job_id)) for cell in cells])

    revived = with_retention(revive)
    if not revived:
        raise click.ClickException("there is no such dead notification")
    click.echo(f"{revived} to be sent")


@click.group()
def erasure() -> None:
    """See what the files of Redis may still show of what was erased."""


@erasure.command("status")
@at_cell
def erasure_status(cell: str) -> None:
    """Print the oldest erasure that a file of Redis could still show, and until when they show none."""

    async def look(retention: Retention) -> Erasures:
        return await (await retention.cells.get(cell)).erasures.status()

    found = with_retention(look)
    unknown = "not known" if found.doubts else "none"
    click.echo(f"oldest erasure that the files may still show: {_second(found.oldest, unknown)}")
    click.echo(f"nothing is left in them of erasures before: {_second(found.clean_until, unknown)}")
    for doubt in found.doubts:
        click.echo(f"but: {doubt}")


def _second(moment: datetime | None, nothing: str = "") -> str:
    return f"{moment:%Y-%m-%dT%H:%M:%SZ}" if moment else nothing


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
