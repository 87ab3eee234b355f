"""A Redis and a directory that many processes share, which can be put back to how they were."""

import os
import shutil
import tempfile
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path

from msgspec import Struct
from redis.asyncio import ConnectionPool, Redis

from retention.job import TenantId
from retention.seal import Key
from tests.crashes.effects import Life, WatchedAudio, WatchedLog, WatchedRedis
from tests.integration.cell import HOUR, Cell, open_cell

_MEMORY = Path("/dev/shm")  # noqa: S108 - nothing here has to outlive the test


class Snapshot(Struct, frozen=True, kw_only=True):
    """All there was at one moment."""

    keys: list[tuple[bytes, bytes, int]]
    """Key, content, and when it expires in unix milliseconds, or 0."""
    files: dict[Path, bytes]


class World:
    """What outlives processes."""

    def __init__(self, url: str, directory: Path) -> None:
        self.directory = directory
        self.pool = ConnectionPool.from_url(url)
        self.redis = Redis(connection_pool=self.pool)
        self.root = Key.random()
        self._loaded: set[str] = set()

    async def process(self, tenant: TenantId | None, life: Life | None = None) -> Cell:
        """Start a process. It knows nothing of those before it."""
        life = life or Life()
        redis = WatchedRedis(life, self.pool)
        cell = await open_cell(
            redis,
            self.directory,
            root=self.root,
            request_log=HOUR,
            audio=WatchedAudio(life, self.directory),
            logged=WatchedLog(life, self.directory),
            tenant=tenant,
        )
        for text in set(redis.texts) - self._loaded:
            await self.redis.script_load(text)  # or the first run would have other effects than those after it
            self._loaded.add(text)
        return cell

    async def snapshot(self) -> Snapshot:
        """Remember everything."""
        keys = []
        seconds, microseconds = await self.redis.time()
        now = seconds * 1000 + microseconds // 1000
        for key in [key async for key in self.redis.scan_iter(count=1000)]:
            left = await self.redis.pttl(key)
            keys.append((key, await self.redis.dump(key), now + left if left > 0 else 0))
        files = {path: path.read_bytes() for path in self.directory.rglob("*") if path.is_file()}
        return Snapshot(keys=keys, files=files)

    async def look(self) -> object:
        """Return what is another one after every change: Redis counts its own."""
        written = (await self.redis.info("persistence"))["rdb_changes_since_last_save"]
        return written, sorted(path for path in self.directory.rglob("*") if path.is_file())

    async def restore(self, snapshot: Snapshot) -> None:
        """Put everything back."""
        async with self.redis.pipeline(transaction=True) as pipe:
            pipe.flushall()
            for key, content, expires in snapshot.keys:
                pipe.restore(key, expires, content, absttl=bool(expires))
            await pipe.execute()
        for path in [path for path in self.directory.rglob("*") if path.is_file()]:
            if path not in snapshot.files:
                path.unlink()
        for path, content in snapshot.files.items():
            path.parent.mkdir(mode=0o700, parents=True, exist_ok=True)
            path.write_bytes(content)


@asynccontextmanager
async def world(url: str) -> AsyncIterator[World]:
    """Give an empty world on a Redis. Nothing of its own is killed, so that nothing has to be on stable storage."""
    directory = Path(tempfile.mkdtemp(prefix="volant-", dir=_MEMORY if os.access(_MEMORY, os.W_OK) else None))
    made = World(url, directory)
    try:
        await made.redis.flushall()
        await made.redis.config_set("appendfsync", "no")
        yield made
    finally:
        await made.redis.config_set("appendfsync", "always")
        await made.redis.flushall()
        await made.redis.aclose()
        await made.pool.aclose()
        shutil.rmtree(directory)
