"""An installation of two cells on two real Redis servers, put together as the API does it; and crashes of a command."""

from collections.abc import AsyncIterator, Awaitable, Callable, Iterator, Mapping
from contextlib import asynccontextmanager, contextmanager
from dataclasses import dataclass
from datetime import datetime
from pathlib import Path
from typing import Any

import msgspec
import pytest
from redis.asyncio import Redis
from redis.asyncio.connection import AbstractConnection
from redis.exceptions import ConnectionError as RedisConnectionError

from retention.bootstrap import Retention, open_retention
from retention.cell_settings import CellSettings
from retention.cells import Cell
from retention.job import Callback, Job, JobId, TenantId, Waiting
from retention.settings import Settings
from retention.tenant import Credential
from tests.integration.cell import AUDIO, HOUR, RESULTS, SUBMISSION, spoken
from tests.killing import Crash

URL, SECRET = "https://receiver.example/told?key=canary-in-a-url", "canary-secret"


@dataclass(frozen=True, kw_only=True)
class Installation:
    """Two cells and what routes between them, and a tenant that was made at home."""

    settings: Settings
    retention: Retention
    home: Cell
    acme: Cell
    home_redis: Redis
    acme_redis: Redis
    tenant: TenantId

    async def submit(
        self, tenant: TenantId | None = None, *, customer: str | None = None, callback: bool = False, token: str = ""
    ) -> Waiting:
        """Submit to whichever cell takes the tenant's new jobs."""
        tenant = tenant or self.tenant
        cell = await self.retention.of(tenant)
        told: Callback | None = None
        if callback:
            told = await self.retention.callbacks.subscribe(tenant, URL, ("recognitions.started",), at=cell)
        return await cell.acceptance.submit(
            Credential(tenant=tenant),
            SUBMISSION,
            spoken(AUDIO),
            began=await cell.jobs.now(),
            results_ttl=HOUR,
            customer=customer,
            callback=told,
            user_token=token,
        )

    async def register(self, secret: str | None = SECRET, *, customer: str | None = None) -> None:
        """Register a URL in the tenant's cell, without a challenge."""
        cell = await self.retention.of(self.tenant)
        await cell.registrations.keep(self.tenant, URL, secret, customer=customer, began=await cell.jobs.now())

    async def move(self, cell: str, **options: Any) -> None:
        await self.retention.tenancy.update(self.tenant, cell=cell, **options)

    async def listed(self) -> list[JobId]:
        return [job.id for job, _ in await self.retention.jobs.latest(self.tenant)]

    async def is_at(self, cell: Cell, job: Job) -> bool:
        return await cell.store.read(job.tenant, job.id) is not None

    async def left_ago(self, moment: datetime) -> None:
        """Have the tenant have left its former cells at that moment."""
        known = await self.retention.tenants.get(self.tenant)
        former = tuple(msgspec.structs.replace(each, moved=moment) for each in known.former)
        await self.retention.tenants.update(self.tenant, former=former)


async def finish(cell: Cell, job: Job) -> None:
    """Complete a job as a worker of that cell does."""
    async with cell.holding.hold(job.tenant, job.id) as held:
        assert held is not None
        await cell.holding.finish(held, RESULTS)


def settings_of(redis_url: str, others: Mapping[str, str], directory: Path) -> Settings:
    """Return the settings of a home cell and others, by the addresses of their Redis servers."""
    return Settings(
        redis_url=redis_url,
        root_key_file=directory / "root.key",
        create_root_key=True,
        audio=str(directory / "audio"),
        request_log=True,
        cells={
            name: CellSettings(
                redis_url=url,
                root_key_file=directory / name / "root.key",
                create_root_key=True,
                audio=str(directory / name / "audio"),
            )
            for name, url in others.items()
        },
    )


@asynccontextmanager
async def installed(home: Redis, acme: Redis, directory: Path) -> AsyncIterator[Installation]:
    """Give an installation on these two servers."""
    home_url, acme_url = [f"unix://{redis.connection_pool.connection_kwargs['path']}" for redis in (home, acme)]
    settings = settings_of(home_url, {"acme": acme_url}, directory)
    async with open_retention(settings, role="admin") as retention:
        yield Installation(
            settings=settings,
            retention=retention,
            home=retention.cells.home,
            acme=await retention.cells.get("acme"),
            home_redis=home,
            acme_redis=acme,
            tenant=(await retention.tenancy.create("test")).id,
        )


@contextmanager
def crashing_after(commands: int) -> Iterator[None]:
    """Have the next message to any Redis after so many end in Crash, and all later ones not be sent either."""
    left = commands
    sent = AbstractConnection.send_packed_command

    async def count(self: Any, *arguments: Any, **options: Any) -> Any:
        nonlocal left
        left -= 1
        if left == -1:
            raise Crash
        if left < 0:
            raise RedisConnectionError  # the client, clearing up
        return await sent(self, *arguments, **options)

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(AbstractConnection, "send_packed_command", count)
        try:
            yield
        except Exception as error:
            if left < 0:  # it came to pass in a task of its own, as that of the audit log is
                raise Crash from error
            raise


async def crashes(act: Callable[[], Awaitable[object]], look: Callable[[], Awaitable[None]]) -> int:
    """Do something, over and over, that ends before its first command, its second and so on until it succeeds.

    After each crash, and at the end, `look`. Returns how many crashes there were.
    """
    for commands in range(1000):
        try:
            with crashing_after(commands):
                await act()
        except Crash:
            await look()
            continue
        await look()
        return commands
    raise AssertionError("it never ends")
