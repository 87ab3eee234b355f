"""The audio store for a directory: sealed audio at `<root>/<tenant>/<job>` until its job is final.

Knows nothing of keys. A recording appears whole and durable or not at all: it is written to a file
without a name (O_TMPFILE), synced, and only then linked, so that a killed process leaves nothing.
"""

import asyncio
import contextlib
import os
import random
import tempfile
import time
from collections.abc import AsyncIterable, AsyncIterator, Callable, Iterator
from datetime import timedelta
from pathlib import Path
from typing import TypeVar, TypeVarTuple

from retention.audio import NAME, PIECE, checked
from retention.errors import AudioMissing, SettingsError, Unavailable
from retention.job import JobId, TenantId

_MOST_LISTED = 10_000

Result = TypeVar("Result")
Arguments = TypeVarTuple("Arguments")


class AudioDirectory:
    """Sealed audio in one directory tree on one file system. Raises Unavailable when it is full or broken."""

    def __init__(self, root: Path) -> None:
        self._root = root
        self._lasting: set[Path] = set()

    async def prepare(self) -> None:
        """Make the root, for its owner only. Raises SettingsError when it cannot serve."""
        try:
            await in_thread(self._prepare)
        except (Unavailable, FileExistsError) as error:
            raise SettingsError(f"audio: {self._root} cannot be used: {error}") from error

    async def write(self, tenant: TenantId, job: JobId, sealed: AsyncIterable[bytes]) -> int:
        """Store a recording; return its size in bytes.

        On stable storage when this returns, and absent when it raises: what `sealed` raises,
        FileExistsError for a name that is taken, or CancelledError.
        """
        path, size, waiting = self._path(tenant, job), 0, bytearray()
        async with _opened(self._unnamed, path.parent) as file:
            async for piece in sealed:
                waiting += piece
                if len(waiting) >= PIECE:
                    size += await in_thread(_write_all, file, waiting)
                    waiting = bytearray()
            size += await in_thread(_write_all, file, waiting)
            try:
                await in_thread(_publish, file, path)
            except BaseException:
                await in_thread(_withdraw, file, path)
                raise
        return size

    async def read(self, tenant: TenantId, job: JobId) -> AsyncIterator[bytes]:
        """Return a recording in pieces of at most 256 KiB. Raises AudioMissing."""
        async with _opened(_open, self._path(tenant, job)) as file:
            while piece := await in_thread(os.read, file, PIECE):
                yield piece

    async def holds(self, tenant: TenantId, job: JobId) -> bool:
        """Tell whether a recording is there."""
        return await in_thread(self._path(tenant, job).exists)

    async def remove(self, tenant: TenantId, *jobs: JobId) -> None:
        """Remove recordings, durably. One that is not there is removed already."""
        await in_thread(_unlink, *(self._path(tenant, job) for job in jobs))

    async def remove_tenant(self, tenant: TenantId) -> None:
        """Remove every recording of a tenant. Its directory stays: an upload may be about to publish into it."""
        await in_thread(self._remove_tenant, self._root / checked(tenant))

    async def older_than(self, age: timedelta) -> list[tuple[TenantId, JobId]]:
        """Return the recordings that were stored longer ago; of more than 10,000, as many at random.

        So each is returned sooner or later, and how soon is not promised.
        """
        return await in_thread(self._older_than, time.time() - age.total_seconds())

    async def check(self) -> None:
        """Return when recordings can be stored. Leaves nothing."""
        await in_thread(self._check)

    def _prepare(self) -> None:
        if not self._root.is_dir():
            self._root.mkdir(mode=0o700, parents=True, exist_ok=True)
            sync_directory(self._root.parent)
        if self._root.stat().st_mode & 0o022:
            raise SettingsError(f"audio: others can write to {self._root}: make it 0700")
        with tempfile.TemporaryDirectory(dir=self._root, prefix=".") as probe:
            file = _nameless(self._root)
            try:
                _publish(file, Path(probe, "probe"))
            finally:
                os.close(file)

    def _check(self) -> None:
        file = _nameless(self._root)
        try:
            os.write(file, b"\0")
        finally:
            os.close(file)

    def _unnamed(self, directory: Path) -> int:
        """Open a file without a name in a tenant's directory."""
        self._make(directory)
        return _nameless(directory)

    def _make(self, directory: Path) -> None:
        """See that a tenant's directory is there, and lasts."""
        with contextlib.suppress(FileExistsError):
            directory.mkdir(mode=0o700)
            self._lasting.discard(directory)
        if directory not in self._lasting:
            # Also when another made it: its sync may be still to come, and our 201 must not be before it.
            sync_directory(self._root)
            self._lasting.add(directory)

    def _remove_tenant(self, directory: Path) -> None:
        with contextlib.suppress(FileNotFoundError):
            for path in list(directory.iterdir()):
                path.unlink(missing_ok=True)
            sync_directory(directory)

    def _older_than(self, moment: float) -> list[tuple[TenantId, JobId]]:
        found: list[tuple[TenantId, JobId]] = []
        for seen, name in enumerate(self._stored_before(moment)):
            # A fixed part would hide the rest for as long as the jobs of that part wait.
            if seen < _MOST_LISTED:
                found.append(name)
            elif (place := random.randrange(seen + 1)) < _MOST_LISTED:
                found[place] = name
        return found

    def _stored_before(self, moment: float) -> Iterator[tuple[TenantId, JobId]]:
        for directory in self._root.iterdir():
            if not (NAME.fullmatch(directory.name) and directory.is_dir()):
                continue
            with os.scandir(directory) as entries:
                for entry in entries:
                    with contextlib.suppress(FileNotFoundError):
                        if NAME.fullmatch(entry.name) and entry.stat().st_mtime < moment:
                            yield TenantId(directory.name), JobId(entry.name)

    def _path(self, tenant: TenantId, job: JobId) -> Path:
        return self._root / checked(tenant) / checked(job)


@contextlib.asynccontextmanager
async def _opened(opening: Callable[[Path], int], path: Path) -> AsyncIterator[int]:
    files: list[int] = []
    try:
        await in_thread(lambda: files.append(opening(path)))  # a caller cancelled meanwhile has it closed, too
        yield files[0]
    finally:
        for file in files:
            await in_thread(os.close, file)


async def in_thread(function: Callable[[*Arguments], Result], *arguments: *Arguments) -> Result:
    """Call in a thread, and wait for the end even when cancelled. Errors of the file system are Unavailable.

    A descriptor closed under a running call may be another file's by the time that it is used.
    """
    call = asyncio.get_running_loop().run_in_executor(None, function, *arguments)
    try:
        return await asyncio.shield(call)
    except asyncio.CancelledError:
        while not call.done():
            with contextlib.suppress(asyncio.CancelledError):
                await asyncio.wait([call])
        raise
    except FileExistsError:
        raise
    except OSError as error:
        raise Unavailable(f"the audio store refuses: {error.strerror}") from error


def _open(path: Path) -> int:
    try:
        return os.open(path, os.O_RDONLY | os.O_CLOEXEC)
    except FileNotFoundError as error:
        raise AudioMissing(path.name) from error


def _nameless(directory: Path) -> int:
    return os.open(directory, os.O_TMPFILE | os.O_WRONLY | os.O_CLOEXEC, 0o600)


def _write_all(file: int, data: bytearray) -> int:
    view = memoryview(data)
    while view:
        view = view[os.write(file, view) :]
    return len(data)


def _publish(file: int, path: Path) -> None:
    """Give the file its name, once its content is on stable storage; then the name is, too."""
    os.fsync(file)
    os.utime(file)  # its age counts from now on: syncing a large recording may have taken longer than an orphan lives
    # linkat of a /proc/self/fd path fails (EXDEV) unless it is taken relative to the directory that holds it.
    descriptors = os.open("/proc/self/fd", os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC)
    try:
        os.link(str(file), path, src_dir_fd=descriptors, follow_symlinks=True)
    finally:
        os.close(descriptors)
    sync_directory(path.parent)


def _withdraw(file: int, path: Path) -> None:
    """Take the name away again, unless it is another file's."""
    with contextlib.suppress(FileNotFoundError):
        if os.path.samestat(os.fstat(file), path.stat()):
            _unlink(path)


def _unlink(*paths: Path) -> None:
    """Take names out of one directory; on stable storage when this returns."""
    changed: set[Path] = set()
    for path in paths:
        with contextlib.suppress(FileNotFoundError):
            path.unlink()
            changed.add(path.parent)
    for directory in changed:
        sync_directory(directory)


def sync_directory(directory: Path) -> None:
    opened = os.open(directory, os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC)
    try:
        os.fsync(opened)
    finally:
        os.close(opened)
