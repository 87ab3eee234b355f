"""The `volant request-log` commands: see what the request log holds, take it out, and empty it."""

import os
import stat
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path

import click

from retention.admin import one_cell, with_retention
from retention.audit import Audit
from retention.bootstrap import Retention
from retention.cells import Cell
from retention.errors import NotFound
from retention.job import JobId, TenantId
from retention.request_log import Logged, Opened


@click.group("request-log")
def request_log() -> None:
    """See, export and purge audio and transcripts that are kept to improve the service."""


@request_log.command("list")
@click.argument("tenant_id", required=False)
@one_cell
def list_entries(tenant_id: str | None, cell: str | None) -> None:
    """Print every entry, or a tenant's: time of acceptance, tenant, job, bytes of sealed audio. No content."""
    tenant = TenantId(tenant_id) if tenant_id else None

    async def collect(retention: Retention) -> list[Logged]:
        cells = await _cells(retention, tenant, cell)
        return sorted(
            [each for cell in cells for each in await cell.request_log.all(tenant)], key=lambda it: it.created
        )

    for logged in with_retention(collect):
        click.echo(f"{logged.created:%Y-%m-%dT%H:%M:%SZ}  {logged.tenant}  {logged.job}  {logged.size}")


@request_log.command("export")
@click.argument("tenant_id")
@click.argument("job_id")
@click.option(
    "--to",
    type=click.Path(file_okay=False, path_type=Path),
    required=True,
    help="A directory of your own to which nobody else can write; made if it is absent.",
)
def export(tenant_id: str, job_id: str, to: Path) -> None:
    """Write an entry in clear: JOB.audio as it was uploaded, JOB.results.json, JOB.submission.json."""

    async def write(retention: Retention) -> None:
        opened, audit = await _open(retention, TenantId(tenant_id), JobId(job_id))
        with _own(to) as directory:
            try:
                async with audit.recording("volant.request-log.read", tenant=tenant_id, target=job_id):
                    await _write(opened, directory)
            except OSError as error:
                raise click.ClickException(f"{to} cannot be written to: {error.strerror}") from error

    with_retention(write)
    click.echo(f"exported to {to}")


@request_log.command("purge")
@click.argument("tenant_id", required=False)
@one_cell
@click.confirmation_option(prompt="This erases the request log, or the tenant's part of it, for good. Go on?")
def purge(tenant_id: str | None, cell: str | None) -> None:
    """Erase all entries, or a tenant's, at once. The jobs themselves stay."""
    tenant = TenantId(tenant_id) if tenant_id else None

    async def erase(retention: Retention) -> int:
        erased = 0
        for each in await _cells(retention, tenant, cell):
            async with each.audit.recording("volant.request-log.delete", tenant=tenant or "") as doing:
                doing.count = await (each.request_log.erase_tenant(tenant) if tenant else each.request_log.erase_all())
            erased += doing.count
        return erased

    click.echo(f"purged {with_retention(erase)} entries")


async def _cells(retention: Retention, tenant: TenantId | None, cell: str | None) -> list[Cell]:
    """Return the named cell, or else all of the tenant, or all. Of a tenant that is not known, nothing is anywhere."""
    if cell is None and tenant is not None:
        with suppress(NotFound):
            return [await retention.cells.get(name) for name in (await retention.tenants.get(tenant)).cells]
    return await retention.cells.named(cell)


async def _open(retention: Retention, tenant: TenantId, job: JobId) -> tuple[Opened, Audit]:
    """Return an entry from whichever of the tenant's cells has it, and that one's audit log.

    Raises NotFound, and what `RequestLog.open` does.
    """
    for each in await _cells(retention, tenant, None):
        with suppress(NotFound):
            return await each.request_log.open(tenant, job), each.audit
    raise NotFound(job)


async def _write(opened: Opened, directory: int) -> None:
    """Write all files of an entry, or none."""
    job = opened.logged.job
    written: list[str] = []
    try:
        with _new(f"{job}.audio", directory, written) as file:
            async for piece in opened.audio:
                _write_all(file, piece)
        for kind, content in (("results", opened.results), ("submission", opened.submission)):
            with _new(f"{job}.{kind}.json", directory, written) as file:
                _write_all(file, content)
    except BaseException:
        for name in written:
            os.unlink(name, dir_fd=directory)
        raise


@contextmanager
def _own(path: Path) -> Iterator[int]:
    """Open a directory, made if it is absent, and see that it is the operator's own."""
    try:
        path.mkdir(mode=0o700, exist_ok=True)
        directory = os.open(path, os.O_RDONLY | os.O_DIRECTORY | os.O_NOFOLLOW | os.O_CLOEXEC)
    except OSError as error:
        raise click.ClickException(f"{path} cannot be used: {error.strerror}") from error
    try:
        found = os.fstat(directory)
        if found.st_uid != os.geteuid() or stat.S_IMODE(found.st_mode) & 0o022:
            raise click.ClickException(f"{path} must be your own, and nobody else may write to it: make it 0700")
        yield directory
    finally:
        os.close(directory)


@contextmanager
def _new(name: str, directory: int, written: list[str]) -> Iterator[int]:
    """Make a file for its owner only, where there is none, and note its name."""
    try:
        file = os.open(name, os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_CLOEXEC, 0o600, dir_fd=directory)
    except FileExistsError as error:
        raise click.ClickException(f"{name} is there already") from error
    written.append(name)
    try:
        yield file
    finally:
        os.close(file)


def _write_all(file: int, content: bytes) -> None:
    view = memoryview(content)
    while view:
        view = view[os.write(file, view) :]
