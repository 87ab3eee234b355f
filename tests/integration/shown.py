"""What the files of a Redis show, and having it rewrite them."""

from contextlib import suppress
from dataclasses import dataclass
from datetime import timedelta
from pathlib import Path

from redis.asyncio import Redis

from deploy.processes import RedisServer
from retention import keyspace
from retention.erasures import ErasureHorizon
from retention.job import Job
from tests.integration.cell import Cell
from tests.stack import wait_until

_PIECE = 12  # bytes: what is compressed stays in runs of 32 that begin anywhere


@dataclass(frozen=True, kw_only=True)
class Files:
    """A Redis of its own with its directory, and a cell in it."""

    directory: Path
    server: RedisServer
    cell: Cell

    def show(self, secret: bytes) -> bool:
        return shown(self.directory, secret)


def shown(place: Path, secret: bytes) -> bool:
    """Tell whether a file, or any in a directory, holds a part of what is random."""
    content = b"".join(map(_content, (place, *place.rglob("*"))))
    return any(secret[start : start + _PIECE] in content for start in range(len(secret) - _PIECE))


def _content(path: Path) -> bytes:
    with suppress(FileNotFoundError):  # Redis has replaced it, or removed it, since it was listed
        return path.read_bytes() if path.is_file() else b""
    return b""


def horizon(redis: Redis, *, every: timedelta = timedelta(0)) -> ErasureHorizon:
    return ErasureHorizon(redis, rewrite_every=every)


async def wrapped_key(cell: Cell, job: Job) -> bytes:
    """Return what is random of a job's wrapped key."""
    key: bytes = (await cell.redis.hget(keyspace.job(job.tenant, job.id), "key")).partition(b":")[2]
    assert len(key) > 3 * _PIECE
    return key


async def rewritten(found: ErasureHorizon) -> None:
    """Return when the file shows nothing that was erased, as the horizon sees it."""

    async def clean() -> bool:
        await found.tend()
        status = await found.status()
        return status.oldest is None and not status.doubts

    await wait_until(clean)


async def vanished(files: Files, secret: bytes) -> None:
    """Return when no file shows this. Redis removes a file that it has replaced a little later."""

    async def gone() -> bool:
        return not files.show(secret)

    await wait_until(gone)
