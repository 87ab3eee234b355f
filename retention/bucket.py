"""A bucket of an object store: S3, Google Cloud Storage or Azure Blob Storage, by obstore.

Its errors are ours here: the library's own name endpoints, objects and keys in their texts, and none of that is
passed on.
"""

import asyncio
import atexit
import time
import tomllib
import uuid
from collections.abc import AsyncIterator, Iterator
from contextlib import contextmanager, suppress
from datetime import timedelta
from pathlib import Path
from typing import Any

import obstore
import structlog
from obstore.exceptions import AlreadyExistsError, BaseError, PermissionDeniedError, UnauthenticatedError
from obstore.store import AzureStore, GCSStore, S3Store

from retention.errors import AudioMissing, SettingsError, Unavailable
from retention.log import failure
from retention.private_files import read_secret

PART = 5 << 20
"""Bytes of a part of a large object: the least that S3 and Google take, so that an upload holds little memory."""

_KINDS = {"s3": S3Store, "gs": GCSStore, "az": AzureStore}
_PATIENCE = {"read_timeout": "60s", "timeout": "5m"}
"""Half a minute, the library's own, is too short for S3 to make one object of many parts."""

_REMOVED_AT_ONCE = 20

# The library's threads let go of Python's objects just after a call has returned; one that comes to it while the
# interpreter goes away aborts the process (PyO3/pyo3-async-runtimes#40). At exit they get the time to.
atexit.register(time.sleep, 0.1)

_log = structlog.get_logger()


class Bucket:
    """A prefix of a bucket. Raises Unavailable, always in the same words, when it refuses or cannot be reached."""

    def __init__(self, url: str, options: dict[str, Any]) -> None:
        """Name it, without asking whether it is there. `options` are obstore's; `client` has those of HTTP.

        Raises SettingsError for options that this kind of store does not take.
        """
        scheme, _, place = url.partition("://")
        name, _, prefix = place.partition("/")
        config = {option: value for option, value in options.items() if option != "client"}
        if scheme == "s3":
            # Its request to remove many reports every refusal alike, and not everything that speaks S3 knows it.
            config.setdefault("disable_bulk_delete", True)
        try:
            self._store: S3Store | GCSStore | AzureStore = _KINDS[scheme](
                name,
                prefix=prefix or None,
                config=config,
                client_options={**_PATIENCE, **options.get("client", {})},
                retry_config={"max_retries": 4, "retry_timeout": timedelta(seconds=30)},
            )
        except (BaseError, TypeError, ValueError) as error:
            raise SettingsError(f"audio: {scheme}:// does not take these options: {type(error).__name__}") from None

    async def prepare(self, prefix: str) -> None:
        """See that objects can be created, once each, listed and removed. Leaves nothing. Raises SettingsError."""
        probe = f"{prefix}/probe-{uuid.uuid4()}"
        try:
            await self._create(probe, b"\0")
            with suppress(AlreadyExistsError):
                await self._create(probe, b"\0")
                raise SettingsError("audio: this object store overwrites where it is asked to create")
            await anext(aiter(obstore.list(self._store, prefix)))
            await obstore.delete_async(self._store, probe)
            with suppress(FileNotFoundError):  # S3 says 403 for what is not there to whom it does not let list
                await obstore.head_async(self._store, probe)
        except FileNotFoundError:
            raise SettingsError("audio: there is no such bucket") from None
        except (PermissionDeniedError, UnauthenticatedError):
            raise SettingsError(
                "audio: the object store refuses: credentials must allow to put, get, list and delete objects"
            ) from None
        except BaseError as error:
            raise SettingsError(f"audio: the object store cannot be used: {type(error).__name__}") from None

    async def create(self, path: str, data: bytes) -> None:
        """Store a small object, in one request. Raises FileExistsError, unless what is there is this very object."""
        with _reaching(missing=Unavailable):
            try:
                await self._create(path, data)
            except AlreadyExistsError:
                # An answer that was lost on its way has the library ask again, and find what it stored.
                if await obstore.get_range_async(self._store, path, start=0, end=len(data) + 1) != data:
                    raise

    async def put(self, path: str, parts: AsyncIterator[bytes]) -> None:
        """Store a large object in parts. Nobody sees it before the last one; what `parts` raises is passed on."""
        with _reaching(missing=Unavailable):
            await obstore.put_async(self._store, path, parts, use_multipart=True, chunk_size=PART, max_concurrency=1)

    async def overwrite(self, path: str, data: bytes) -> None:
        """Store a small object, whatever was there."""
        with _reaching(missing=Unavailable):
            await obstore.put_async(self._store, path, data, use_multipart=False)

    async def copy(self, path: str, to: str) -> None:
        """Copy an object within the bucket; S3 does so up to 5 GiB. Raises AudioMissing."""
        with _reaching():
            await obstore.copy_async(self._store, path, to)

    async def size(self, path: str) -> int:
        """Return the bytes of an object. Raises AudioMissing."""
        with _reaching():
            return (await obstore.head_async(self._store, path))["size"]

    async def holds(self, path: str) -> bool:
        """Tell whether an object is there."""
        try:
            await self.size(path)
        except AudioMissing:
            return False
        return True

    async def read(self, path: str, start: int, end: int) -> memoryview:
        """Return bytes of an object. Raises AudioMissing."""
        with _reaching():
            return memoryview(await obstore.get_range_async(self._store, path, start=start, end=end))

    async def names(self, prefix: str, *, after: str = "") -> AsyncIterator[list[str]]:
        """Give the names under a prefix, in order, a page at a time; only those after another."""
        with _reaching(missing=Unavailable):
            async for page in obstore.list(self._store, prefix, offset=after or None, chunk_size=1000):
                # Azure's listing begins with the name itself, and an old one at the very first.
                yield [meta["path"] for meta in page if meta["path"] > after]

    async def remove(self, paths: list[str]) -> None:
        """Remove objects. One that is not there is removed already."""
        for start in range(0, len(paths), _REMOVED_AT_ONCE):
            some = [self._remove(path) for path in paths[start : start + _REMOVED_AT_ONCE]]
            for done in await asyncio.gather(*some, return_exceptions=True):
                if done is not None:
                    raise done

    async def _create(self, path: str, data: bytes) -> None:
        await obstore.put_async(self._store, path, data, mode="create", use_multipart=False)

    async def _remove(self, path: str) -> None:
        with suppress(AudioMissing), _reaching():
            await obstore.delete_async(self._store, path)


def open_bucket(url: str, options_file: Path | None) -> Bucket:
    """Return the bucket of a URL. Raises SettingsError.

    The file, of its owner only, holds credentials, region, endpoint and so on. What it does not say comes from where
    the platform's own tools would look.
    """
    try:
        return Bucket(url, tomllib.loads(read_secret(options_file).decode()) if options_file else {})
    except ValueError:
        raise SettingsError(f"audio_credentials_file: {options_file} cannot be read as TOML") from None


@contextmanager
def _reaching(*, missing: type[AudioMissing | Unavailable] = AudioMissing) -> Iterator[None]:
    """Turn the library's errors into ours. `missing`: what it means that something is not there."""
    try:
        yield
    except AlreadyExistsError:
        raise FileExistsError("the name is taken") from None
    except (BaseError, FileNotFoundError) as error:
        if isinstance(error, FileNotFoundError) and missing is AudioMissing:
            raise AudioMissing("not in the audio store") from None
        _log.warning("the object store refuses", **failure(error))
        raise Unavailable("the audio store refuses, or cannot be reached") from None
