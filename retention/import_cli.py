"""The `volant key` commands with which a customer brings a key: a token from here, their material, back to here."""

import os
from datetime import timedelta
from pathlib import Path
from typing import get_args

import click
import msgspec

from retention.admin import with_retention
from retention.bootstrap import Retention
from retention.byok import Algorithm, ImportToken, encrypt, weakness
from retention.cells import Cell
from retention.errors import CellRefused, KeyRefused, NotFound, SettingsError
from retention.job import TenantId
from retention.key_cli import bring_under, cell_option, expires_option, moment
from retention.key_places import place_of
from retention.keyring import check_value
from retention.keys import KeyState, TenantKey
from retention.private_files import read_private
from retention.seal import Key

_MOST = 1 << 16

_READABLE = click.Path(exists=True, dir_okay=False, path_type=Path)
_NEW = click.Path(dir_okay=False, path_type=Path)
_algorithm = click.option(
    "--algorithm",
    type=click.Choice(get_args(Algorithm)),
    default=get_args(Algorithm)[0],
    show_default=True,
    help="How the material is encrypted.",
)


@click.command("import-token")
@click.argument("tenant_id")
@cell_option
def import_token(tenant_id: str, cell: str | None) -> None:
    """Print a token, with which a tenant's key can be imported once, within ten minutes. The last one is good no more.

    Nothing in it is secret, but see to it that the customer gets this one and no other. With --cell the key may be
    brought into a cell before the tenant is moved there.
    """
    tenant = TenantId(tenant_id)

    async def make(retention: Retention) -> ImportToken:
        if cell is not None:
            try:
                await retention.tenancy.prepare(tenant, cell)
            except (CellRefused, NotFound):
                home = retention.cells.home
                async with home.audit.recording("volant.key.import-token", tenant=tenant, target=tenant):
                    raise
        return await (await place_of(retention, tenant, cell)).imports.token(tenant)

    token = with_retention(make)
    click.echo(msgspec.json.format(msgspec.json.encode(token), indent=2))


@click.command("prepare")
@click.option("--token", "token_file", type=_READABLE, required=True, help="The token, as it was printed.")
@click.option("--material", type=_READABLE, required=True, help="The key: 32 random bytes, in a file of mode 0600.")
@click.option("--out-material", type=_NEW, required=True, help="Where to write the material, encrypted.")
@click.option("--out-proof", type=_NEW, required=True, help="Where to write the proof that you have it.")
@_algorithm
def prepare(*, token_file: Path, material: Path, out_material: Path, out_proof: Path, algorithm: Algorithm) -> None:
    """Encrypt a key of yours for import. For the customer: needs no Redis and no settings.

    Prints the key check value, which the import prints, too, if all is well.
    """
    try:
        token = msgspec.json.decode(_read(token_file), type=ImportToken)
    except msgspec.MsgspecError as error:
        raise click.ClickException(f"{token_file} is not a token: {error}") from error
    try:
        raw = read_private(material)
        if why := weakness(raw):
            raise KeyRefused(f"{material} holds no key: {why}")
        wrapped, proof = encrypt(token, Key(raw), algorithm)
    except (SettingsError, KeyRefused) as error:
        raise click.ClickException(str(error)) from error
    for path, content in ((out_material, wrapped), (out_proof, proof)):
        _write(path, content)
    click.echo(f"key check value {check_value(Key(raw))}")


@click.command("import")
@click.argument("tenant_id")
@click.option("--token", required=True, help="The token's id. It is spent by this, whatever comes of it.")
@click.option("--material", type=_READABLE, required=True, help="The encrypted material.")
@click.option("--proof", type=_READABLE, required=True, help="The proof that its sender has it.")
@_algorithm
@cell_option
@expires_option
def import_material(
    tenant_id: str,
    *,
    token: str,
    material: Path,
    proof: Path,
    algorithm: Algorithm,
    cell: str | None,
    expires: timedelta | None,
) -> None:
    """Take a customer's key: as the tenant's own, as a new version of it, or, of a destroyed one, what it had before.

    Prints the key check value, to be compared with the customer's.
    """
    tenant, wrapped, shown = TenantId(tenant_id), _read(material), _read(proof)

    async def begin(place: Cell) -> TenantKey:
        taken = await place.imports.material(tenant, token, wrapped=wrapped, proof=shown, algorithm=algorithm)
        found = await place.custody.import_material(tenant, taken, expires=await moment(place, expires))
        click.echo(f"key check value {check_value(taken)}")
        if found.state is KeyState.DESTROYED:
            click.echo("the key has further versions that were imported: import their material, too")
        return found

    bring_under(tenant, cell, begin)


imports: tuple[click.Command, ...] = (import_token, prepare, import_material)
"""What this adds to the commands for keys."""


def _read(path: Path) -> bytes:
    """Return what is in a file that is as short as all here are."""
    try:
        with path.open("rb") as file:
            content = file.read(_MOST + 1)
    except OSError as error:
        raise click.ClickException(f"{path} cannot be read: {error.strerror}") from error
    if len(content) > _MOST:
        raise click.ClickException(f"{path} is too long")
    return content


def _write(path: Path, content: bytes) -> None:
    try:
        with os.fdopen(os.open(path, os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_CLOEXEC, 0o600), "wb") as file:
            file.write(content)
    except OSError as error:
        raise click.ClickException(f"{path} cannot be written: {error.strerror}") from error
