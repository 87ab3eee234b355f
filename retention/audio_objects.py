"""The audio store for a bucket: sealed audio as objects, `<prefix>/jobs/<tenant>/<job>`, until its job is final.

The request log's recordings are copies beside them, `<prefix>/log/<tenant>/<job>`. What a killed upload may leave,
and the rules of the bucket that remove it, are in the README.
"""

import asyncio
import time
from collections.abc import AsyncIterable, AsyncIterator
from datetime import timedelta

from retention.audio import NAME, PIECE, checked
from retention.bucket import Bucket
from retention.errors import Unavailable
from retention.job import JobId, TenantId
from retention.upload import upload

_FETCHED = 2 << 20
"""Bytes of one request while reading: none lasts as long as a recogniser takes for a recording."""

_MOST_LISTED = 10_000
_CHECKED_FOR = 5.0
_CHECK_WITHIN = 5.0


class AudioObjects:
    """Sealed audio in one bucket. Raises Unavailable when it refuses or cannot be reached."""

    def __init__(self, bucket: Bucket, *, prefix: str = "jobs") -> None:
        self._bucket = bucket
        self._prefix = prefix
        self._checking = asyncio.Lock()
        self._checked_until = 0.0
        self._is_fit = False
        self._seen: dict[str, float] = {}
        self._after = ""  # the window begins after this name
        self._since: float | None = None

    async def prepare(self) -> None:
        """See that recordings can be stored and removed. Leaves nothing. Raises SettingsError when they cannot."""
        await self._bucket.prepare(self._prefix)

    async def write(self, tenant: TenantId, job: JobId, sealed: AsyncIterable[bytes]) -> int:
        """Store a recording; return its size in bytes. See `upload` for what holds when it raises."""
        return await upload(self._bucket, self._path(tenant, job), sealed)

    async def read(self, tenant: TenantId, job: JobId) -> AsyncIterator[bytes]:
        """Return a recording in pieces of at most 256 KiB. Raises AudioMissing, also when it goes meanwhile."""
        path = self._path(tenant, job)
        size = await self._bucket.size(path)
        for start in range(0, size, _FETCHED):
            fetched = await self._bucket.read(path, start, min(start + _FETCHED, size))
            for offset in range(0, len(fetched), PIECE):
                yield bytes(fetched[offset : offset + PIECE])

    async def holds(self, tenant: TenantId, job: JobId) -> bool:
        """Tell whether a recording is there."""
        return await self._bucket.holds(self._path(tenant, job))

    async def remove(self, tenant: TenantId, *jobs: JobId) -> None:
        """Remove recordings, durably. One that is not there is removed already."""
        await self._bucket.remove([self._path(tenant, job) for job in jobs])

    async def remove_tenant(self, tenant: TenantId) -> None:
        """Remove every recording of a tenant."""
        async for paths in self._bucket.names(f"{self._prefix}/{checked(tenant)}"):
            await self._bucket.remove(paths)

    async def older_than(self, age: timedelta) -> list[tuple[TenantId, JobId]]:
        """Return the recordings that this object saw so long ago and sees still: of a window of 10,000, then the next.

        What a store gives as an object's time is by its own clock, and on S3 the begin of its upload: one that took
        long would be old when it is complete.
        """
        now, paths = time.monotonic(), await self._window()
        self._seen = {path: self._seen.get(path, now) for path in paths}
        self._since = now if self._since is None else self._since
        is_full = len(paths) == _MOST_LISTED
        old = [path for path, seen in self._seen.items() if now - seen >= age.total_seconds()]
        if (is_full or self._after) and now - self._since >= age.total_seconds():
            self._after, self._since, self._seen = paths[-1] if is_full else "", None, {}
        return [name for path in old if (name := _name(path))]

    async def check(self) -> None:
        """Return when recordings can be stored. Leaves nothing. Asks every five seconds at most: it has a price."""
        async with self._checking:
            if time.monotonic() >= self._checked_until:
                self._is_fit = await self._can_store()
                self._checked_until = time.monotonic() + _CHECKED_FOR
        if not self._is_fit:
            raise Unavailable("the audio store refuses, or cannot be reached")

    async def _can_store(self) -> bool:
        probe = f"{self._prefix}/probe"
        try:
            async with asyncio.timeout(_CHECK_WITHIN):
                await self._bucket.overwrite(probe, b"\0")
                await self._bucket.remove([probe])
        except (Unavailable, TimeoutError):
            return False
        return True

    async def _window(self) -> list[str]:
        found: list[str] = []
        async for paths in self._bucket.names(self._prefix, after=self._after):
            found += paths
            if len(found) >= _MOST_LISTED:
                break
        return found[:_MOST_LISTED]

    def _path(self, tenant: TenantId, job: JobId) -> str:
        return f"{self._prefix}/{checked(tenant)}/{checked(job)}"


class LoggedObjects(AudioObjects):
    """The recordings of the request log, beside those of jobs."""

    def __init__(self, bucket: Bucket) -> None:
        super().__init__(bucket, prefix="log")
        self._jobs = AudioObjects(bucket)

    async def keep(self, tenant: TenantId, job: JobId) -> int:
        """Copy the recording of a job; return its size in bytes. Raises AudioMissing. S3 makes no copy above 5 GiB."""
        path = self._path(tenant, job)
        await self._bucket.copy(self._jobs._path(tenant, job), path)  # noqa: SLF001 - of the same class
        return await self._bucket.size(path)


def _name(path: str) -> tuple[TenantId, JobId] | None:
    """Return whose recording an object is; None where it is none of ours."""
    match path.split("/")[1:]:
        case [tenant, job] if NAME.fullmatch(tenant) and NAME.fullmatch(job):
            return TenantId(tenant), JobId(job)
        case _:
            return None
