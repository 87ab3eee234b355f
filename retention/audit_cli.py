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

from retention.admin import with_retention
from retention.audit import Audit
from retention.bootstrap import Retention
from retention.chain import Link, Linked


class Checkpoint(Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """What is kept outside to prove later that the log goes on from there: the number of a record and its hash."""

    seq: int
    hash: str


@click.group()
def audit() -> None:
    """Read, verify and export the log of what was done to keys, tenants, credentials and data."""


@audit.command("list")
@click.argument("tenant_id", required=False)
@click.option("--last", type=click.IntRange(min=1), default=100, help="How many, at most; 100 unless given.")
def list_records(tenant_id: str | None, last: int) -> None:
    """Print the last records, or a tenant's: number, time, event, outcome, and what there is beside.

    The whole log is verified on the way.
    """
    kept: deque[Linked] = deque(maxlen=last)

    def collect(linked: Linked) -> None:
        if tenant_id is None or linked.record.tenant == tenant_id:
            kept.append(linked)

    try:
        with_retention(lambda retention: _each(retention.audit, collect))
    finally:  # what comes before a break is good
        for linked in kept:
            click.echo(_line(linked))


@audit.command("export")
@click.option(
    "--checkpoint",
    type=click.Path(dir_okay=False, path_type=Path),
    help="Write the number and the hash of the last record into this file, for `verify`.",
)
def export(checkpoint: Path | None) -> None:
    """Print every record as a JSON object on a line of its own. The log is verified on the way."""

    def write(linked: Linked) -> None:
        click.echo(_object(linked))

    end = with_retention(lambda retention: _each(retention.audit, write))
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
def verify(checkpoint: Path | None) -> None:
    """Prove that no record was changed, moved, added or taken out. Where one was, a sentence says so, and exit 1."""
    before = _read(checkpoint) if checkpoint is not None else None

    async def check(retention: Retention) -> tuple[Link, Link]:
        met: list[Link] = []

        def compare(linked: Linked) -> None:
            if before is not None and linked.link.seq == before.seq:
                met.append(linked.link)

        floor = (await retention.audit.ends()).floor
        if before is not None and floor.seq == before.seq:
            met.append(floor)
        end = await _each(retention.audit, compare)
        if before is not None and before.seq < floor.seq:
            raise click.ClickException(
                f"record {before.seq} of the checkpoint was let go, its time was over: the log begins after it"
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
def restart() -> None:
    """Begin the log anew after it was tampered with: until then nothing is done that it must tell of."""
    with_retention(lambda retention: retention.audit.restart())
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
