"""The limits of tenants and API keys on the command line."""

from collections.abc import Mapping

import click

from retention.admin import with_retention
from retention.bootstrap import Retention
from retention.job import TenantId
from retention.limits import NAMES, Limit, Limits, parse
from retention.quotas import Used


def _parsed(_context: click.Context, _option: click.Parameter, texts: tuple[str, ...]) -> Mapping[Limit, float | None]:
    try:
        return dict(parse(texts))
    except ValueError as error:
        raise click.BadParameter(str(error)) from error


limit_option = click.option(
    "--limit",
    "limits",
    multiple=True,
    callback=_parsed,
    metavar="NAME=NUMBER",
    help=f"A limit, or NAME=none, NAME=default. Names: {', '.join(NAMES)}. May be given several times.",
)


@click.command("limits")
@click.argument("tenant_id")
def show_limits(tenant_id: str) -> None:
    """Print the limits in force of a tenant and of its API keys, and what is used of each, in its present cell."""

    async def collect(retention: Retention) -> list[tuple[str, Limits, Used]]:
        tenant = await retention.tenants.get(TenantId(tenant_id))
        keys = await retention.tenants.keys(tenant.id)
        used = (await retention.cells.get(tenant.cell)).quotas.used
        return [
            ("tenant", retention.tenants.in_force(tenant), await used(tenant.id)),
            *[(key.id, key.limits, await used(tenant.id, key.id)) for key in keys],
        ]

    collected = with_retention(collect)
    click.echo(f"{'whose':<14}{'limit':<9}{'most':>16}{'used':>16}")
    for whose, limits, used in collected:
        for name in NAMES:
            most = limits.of(name)
            now = f"{getattr(used, name):.15g}" if hasattr(used, name) else ""
            click.echo(f"{whose:<14}{name:<9}{'none' if most is None else f'{most:.15g}':>16}{now:>16}".rstrip())
