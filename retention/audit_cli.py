"""The `volant audit` commands: read the audit log, prove that it is whole, and take it out."""

import sys
from collections import deque
from collections.abc import Callable
from contextlib import aclosing
from datetime import UTC, datetime
from pathlib import Path

import click
import msgspec
from msgspec import Struct

from retention.admin import at_cell, one_cell, with_retention
from retention.audit import Audit
from retention.bootstrap import Retention
from retention.cell_settings import HOME
from retention.chain import Link, Linked
from retention.errors import NotFound
from retention.job import TenantId


class Checkpoint(Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """What is kept outside to prove later that the log goes on from there: the number of a record and its hash."""

    seq: int
    hash: str


@click.group()
def audit() -> None:
    """Read, verify and export the log of what was done to keys, tenants, credentials and data."""


@audit.command("list")
@click.argument("tenant_id", required=False)
@one_cell
@click.option("--last", type=click.IntRange(min=1), default=100, help="How many, at most; 100 unless given.")
def list_records(tenant_id: str | None, cell: str | None, last: int) -> None:
    """Print the last records, or a tenant's: number, time, event, outcome, and what there is beside.

    The whole log is verified on the way; of a tenant those of home and of all its cells, unless one is named; of one
    that is deleted those of all cells.
    """
    kept: dict[str, deque[Linked]] = {}

    async def collect(retention: Retention) -> None:
        names: tuple[str, ...] = (cell or HOME,)
        if tenant_id and not cell:
            try:
                names += (await retention.tenants.get(TenantId(tenant_id))).cells
            except NotFound:  # one that is deleted: nobody knows any more where it was
                names = retention.cells.names
        for name in dict.fromkeys(names):
            found = kept[name] = deque(maxlen=last)

            def keep(linked: Linked, found: deque[Linked] = found) -> None:
                if tenant_id is None or linked.record.tenant == tenant_id:
                    found.append(linked)

            await _each((await retention.cells.get(name)).audit, keep)

    try:
        with_retention(collect)
    finally:  # what comes before a break is good
        found = [(name, linked) for name, links in kept.items() for linked in links]
        for name, linked in sorted(found, key=lambda each: each[1].record.time)[-last:]:
            click.echo(_line(linked) + ("" if name == HOME else f"  cell={name}"))


@audit.command("export")
@click.option(
    "--checkpoint",
    type=click.Path(dir_okay=False, path_type=Path),
    help="Write the number and the hash of the last record into this file, for `verify`.",
)
@at_cell
def export(checkpoint: Path | None, cell: str) -> None:
    """Print every record as a JSON object on a line of its own. The log is verified on the way."""

    def write(linked: Linked) -> None:
        click.echo(_object(linked))

    async def each(retention: Retention) -> Link:
        return await _each((await retention.cells.get(cell)).audit, write)

    end = with_retention(each)
    if checkpoint is not None:
        try:
            checkpoint.write_bytes(msgspec.json.encode(Checkpoint(seq=end.seq, hash=end.hash.hex())) + b"\n")
        except OSError as error:
            raise click.ClickException(f"{checkpoint} cannot be written: {error.strerror}") from error


@audit.command("verify")
@click.option(
    "--checkpoint",
    type=click.Path(exists=True, dir_okay=False, path_type=Path),
    help="A file that `export` wrote: the log must go on from there.",
)
@at_cell
def verify(checkpoint: Path | None, cell: str) -> None:
    """Prove that no record was changed, moved, added or taken out. Where one was, a sentence says so, and exit 1."""
    before = _read(checkpoint) if checkpoint is not None else None

    async def check(retention: Retention) -> tuple[Link, Link]:
        met: list[Link] = []

        def compare(linked: Linked) -> None:
            if before is not None and linked.link.seq == before.seq:
                met.append(linked.link)

        log = (await retention.cells.get(cell)).audit
        floor = (await log.ends()).floor
        if before is not None and floor.seq == before.seq:
            met.append(floor)
        end = await _each(log, compare)
        if before is not None and before.seq < floor.seq:
            raise click.ClickException(
                f"record {before.seq} of the checkpoint has gone: its time was over, or the log was begun anew"
            )
        if before is not None and before not in met:
            raise click.ClickException(
                f"the log does not go on from the checkpoint: its record {before.seq} is another one or missing"
            )
        return floor, end

    floor, end = with_retention(check)
    click.echo(f"whole, from record {floor.seq + 1} to {end.seq}" if end != floor else "whole, and empty")


@audit.command("restart")
@click.confirmation_option(prompt="This removes the audit log, for good, and begins another. Is it exported? Go on?")
@at_cell
def restart(cell: str) -> None:
    """Begin the log anew after it was tampered with: until then nothing is done that it must tell of."""

    async def anew(retention: Retention) -> None:
        await (await retention.cells.get(cell)).audit.restart()

    with_retention(anew)
    click.echo("restarted")


async def _each(log: Audit, take: Callable[[Linked], object]) -> Link:
    """Give every record to `take`, with a progress bar on standard error, and return the last one's place."""
    ends = await log.ends()
    last = ends.floor
    length = ends.head.seq - ends.floor.seq
    with click.progressbar(length=length, label="verified", file=sys.stderr, hidden=not sys.stderr.isatty()) as bar:
        async with aclosing(log.pages()) as pages:
            async for page in pages:
                for linked in page:
                    take(linked)
                last = page[-1].link
                bar.update(len(page))
    return last


def _read(path: Path) -> Link:
    try:
        checkpoint = msgspec.json.decode(path.read_bytes(), type=Checkpoint)
        return Link(checkpoint.seq, bytes.fromhex(checkpoint.hash))
    except (OSError, msgspec.MsgspecError, UnicodeDecodeError, ValueError) as error:
        raise click.ClickException(f"{path} is not a checkpoint") from error


def _line(linked: Linked) -> str:
    record = linked.record
    beside = {
        name: getattr(record, name)
        for name in ("actor", "tenant", "target", "count", "source", "detail", "transaction")
    }
    shown = (f"{name}={value}" for name, value in beside.items() if value)
    return "  ".join((f"{linked.link.seq}", _time(linked), record.event, record.outcome, *shown))


def _object(linked: Linked) -> str:
    record = {name: value for name, value in msgspec.structs.asdict(linked.record).items() if value not in ("", 0)}
    shown = {"seq": linked.link.seq, **record, "time": _time(linked), "hash": linked.link.hash.hex()}
    return msgspec.json.encode(shown).decode()


def _time(linked: Linked) -> str:
    moment = datetime.fromtimestamp(linked.record.time / 1000, UTC)
    return moment.isoformat(timespec="milliseconds").replace("+00:00", "Z")
