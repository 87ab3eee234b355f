"""How fast a customer with 10,000 jobs is erased, and how long others wait meanwhile.

Another tenant looks up a job and lists its jobs all the time: from a task of the process that erases, on the same event
loop, and from a process of its own. How long each read takes is compared with what it takes when nothing is erased.
Run it with `make bench`; a number as argument is another number of jobs.
"""

import asyncio
import multiprocessing
import statistics
import sys
import time
from collections.abc import Sequence
from multiprocessing.connection import Connection
from pathlib import Path

from msgspec import Struct
from redis.asyncio import Redis

from deploy.processes import RedisServer, temporary_directory
from retention.job import JobId, TenantId
from retention.seal import Key
from tests.integration.cell import Cell, open_cell
from tests.integration.crowd import CUSTOMER, crowd

JOBS = 10_000
OTHERS_JOBS = 100
PAUSE = 0.002
"""Seconds between two reads: neighbours that ask as fast as they can would measure themselves."""

AT_MOST = 0.050
"""Seconds that an erasure may add to the slowest hundredth of the reads."""

Read = tuple[float, float]
"""When a read began, by the machine's monotonic clock, and how many seconds it took."""


class Neighbour(Struct, frozen=True, kw_only=True):
    """Who reads, and what."""

    tenant: TenantId
    job: JobId


async def read(cell: Cell, neighbour: Neighbour, until: asyncio.Event) -> list[Read]:
    """Read by turns a job and the list, and time it."""
    reads: list[Read] = []
    while not until.is_set():
        for ask in (
            lambda: cell.jobs.look_up(neighbour.tenant, neighbour.job),
            lambda: cell.jobs.latest(neighbour.tenant),
        ):
            began = time.monotonic()
            await ask()
            reads.append((began, time.monotonic() - began))
            await asyncio.sleep(PAUSE)
    return reads


def read_elsewhere(url: str, directory: Path, root: bytes, neighbour: Neighbour, parent: Connection) -> None:
    """Read in this process until told to end, and tell what it took."""

    async def main() -> None:
        async with Redis.from_url(url) as redis:
            cell = await open_cell(redis, directory, root=Key(root))
            end = asyncio.Event()
            asyncio.get_running_loop().add_reader(parent.fileno(), end.set)
            parent.send("ready")
            parent.send(await read(cell, neighbour, end))

    asyncio.run(main())


async def fill(cell: Cell, size: int) -> Neighbour:
    """Write the jobs of the customer, and those of a neighbour of another tenant."""
    other = await cell.tenants.create("neighbour", now=await cell.store.now())
    began = time.monotonic()
    await crowd(cell, size)
    jobs = await crowd(cell.of(other.id), OTHERS_JOBS)
    waiting = len(cell.recordings())
    print(f"{size} jobs of one customer, {waiting} with audio, written in {time.monotonic() - began:.1f} s")
    return Neighbour(tenant=other.id, job=jobs[2].id)


async def measure(size: int) -> bool:
    """Print what it took; return whether others had to wait for too long."""
    with temporary_directory() as directory:
        server = RedisServer(directory / "redis")
        try:
            async with Redis.from_url(server.url) as redis:
                root = Key.random()
                cell = await open_cell(redis, directory / "audio", root=root)
                neighbour = await fill(cell, size)
                ours, theirs = multiprocessing.get_context("spawn").Pipe()
                reader = multiprocessing.get_context("spawn").Process(
                    target=read_elsewhere,
                    args=(server.url, directory / "audio", root.raw(), neighbour, theirs),
                    daemon=True,
                )
                reader.start()
                try:
                    return await compare(cell, neighbour, ours)
                finally:
                    ours.close()
                    reader.kill()
                    reader.join()
        finally:
            server.stop()


async def compare(cell: Cell, neighbour: Neighbour, elsewhere: Connection) -> bool:
    """Let both neighbours read with nothing going on, while the customer is erased, and with nothing going on again."""
    await asyncio.to_thread(elsewhere.recv)
    end = asyncio.Event()
    here = asyncio.create_task(read(cell, neighbour, end))
    await asyncio.sleep(5)
    began = time.monotonic()
    erased = await cell.jobs.erase_customer(cell.tenant, CUSTOMER)
    ended = time.monotonic()
    await asyncio.sleep(5)
    end.set()
    elsewhere.send("end")
    seconds = ended - began
    print(f"erased {erased} in {seconds:.2f} s, {erased / seconds:.0f} a second; reads of another tenant in ms:")
    failed = False
    for name, reads in (("same event loop", await here), ("other process", await asyncio.to_thread(elsewhere.recv))):
        during = [took for start, took in reads if start < ended and start + took > began]
        without = [took for start, took in reads if start >= ended or start + took <= began]
        print(f"  {name:16} without {shown(without)}   while erasing {shown(during)}")
        failed |= p99(during) - p99(without) > AT_MOST
    return failed


def p99(values: Sequence[float]) -> float:
    return statistics.quantiles(values, n=100)[98]


def shown(values: Sequence[float]) -> str:
    figures = {"p50": statistics.median(values), "p99": p99(values), "max": max(values)}
    return " ".join(f"{name} {value * 1000:6.1f}" for name, value in figures.items()) + f" ({len(values)})"


if __name__ == "__main__":
    sys.exit(asyncio.run(measure(int(sys.argv[1]) if len(sys.argv) > 1 else JOBS)))
