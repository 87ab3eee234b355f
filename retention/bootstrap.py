"""The one place that names the concrete parts and puts them together."""

import asyncio
import resource
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from dataclasses import dataclass
from typing import Literal

import structlog
from redis.asyncio import Redis

from retention.audio import AudioDirectory
from retention.caretaking import Caretaker
from retention.connection import connect, reaching_redis
from retention.errors import Unavailable
from retention.holding import JobHolding
from retention.keyring import Keyring, read_root_key
from retention.leases import Leases
from retention.log import failure
from retention.queue import JobQueue
from retention.readiness import Readiness
from retention.service import JobService
from retention.settings import Settings
from retention.store import JobStore
from retention.tenants import Tenants

_log = structlog.get_logger()


@dataclass(frozen=True, kw_only=True)
class Retention:
    """What a process is given."""

    jobs: JobService
    tenants: Tenants
    holding: JobHolding
    leases: Leases
    caretaker: Caretaker
    readiness: Readiness
    redis: Redis


@asynccontextmanager
async def open_retention(settings: Settings, *, role: Literal["api", "worker", "admin"]) -> AsyncIterator[Retention]:
    """Open everything that keeps jobs, for as long as the block lasts.

    A service waits for Redis; an administrator's command fails at once, with Unavailable. Raises
    SettingsError and KeyUnavailable when the root key or the audio directory is not as it must be.
    """
    resource.setrlimit(resource.RLIMIT_CORE, (0, 0))  # a core dump would put keys and audio on the disk, in clear
    root = read_root_key(settings.root_key_file, create=settings.create_root_key)
    audio = AudioDirectory(settings.audio_directory)
    await audio.prepare()
    async with connect(settings, retries=0 if role == "worker" else 3) as redis:
        await _reach(redis, wait=role != "admin")
        store = JobStore(redis, rescue_after=settings.rescue_after)
        queue = JobQueue(redis, patience=settings.patience)
        tenants = Tenants(redis)
        keyring = await Keyring.open(redis, root)
        readiness = Readiness(redis)
        jobs = JobService(
            store=store,
            audio=audio,
            keyring=keyring,
            queue=queue,
            tenants=tenants,
            readiness=readiness,
            patience=settings.patience,
        )
        leases = Leases(redis, lease=settings.lease)
        yield Retention(
            jobs=jobs,
            tenants=tenants,
            holding=JobHolding(store=store, audio=audio, keyring=keyring, leases=leases),
            leases=leases,
            caretaker=Caretaker(store=store, audio=audio, queue=queue, orphan_after=settings.orphan_after),
            readiness=readiness,
            redis=redis,
        )
        await jobs.close()


async def _reach(redis: Redis, *, wait: bool) -> None:
    while True:
        try:
            with reaching_redis():
                await redis.ping()
                return
        except Unavailable as error:
            if not wait:
                raise
            _log.warning("waiting for Redis", **failure(error))
            await asyncio.sleep(1)
