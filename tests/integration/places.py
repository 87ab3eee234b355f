"""The four places where audio may be, for one test each: a directory, and the three kinds of bucket."""

import os
import time
from collections.abc import AsyncIterator, Callable, Mapping
from contextlib import asynccontextmanager
from dataclasses import dataclass, replace
from pathlib import Path
from types import SimpleNamespace
from uuid import uuid4

import obstore
import pytest
from obstore.store import AzureStore, GCSStore, S3Store

from retention import audio_objects
from retention.audio import AudioStore, LoggedAudio
from retention.audio_directory import AudioDirectory
from retention.audio_objects import AudioObjects, LoggedObjects
from retention.bucket import Bucket
from retention.logged_directory import LoggedDirectory
from tests.clouds import Cloud, unfinished_uploads
from tests.google import GoogleStorage

KINDS = ("directory", "s3", "az", "gs")


@dataclass(frozen=True, kw_only=True)
class Place:
    """A place: its two stores, and what can be seen of it from outside."""

    audio: AudioStore
    logged: LoggedAudio
    another: Callable[[], AudioStore]
    names: Callable[[], list[str]]
    unfinished: Callable[[], int]
    age: Callable[[], None]
    lose: Callable[[], AudioStore]
    settings: Mapping[str, str]
    """What a process is told to have its audio there."""


@asynccontextmanager
async def place_of(
    kind: str, request: pytest.FixtureRequest, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> AsyncIterator[Place]:
    """Give a place of this kind, with nothing in it."""
    if kind == "directory":
        yield _directory(tmp_path / "audio")
    elif kind == "gs":
        server = GoogleStorage()
        async with server.serving():
            options = {"base_url": f"http://127.0.0.1:{server.port}", "bearer_token": "test"}
            cloud = Cloud(url="gs://recordings", port=server.port, options={**options, "client": {"allow_http": True}})
            yield _bucket(cloud, tmp_path, monkeypatch, lambda: sorted(server.objects), lambda: len(server.uploads))
    else:
        cloud = request.getfixturevalue({"s3": "s3", "az": "azure"}[kind])
        yield _bucket(cloud, tmp_path, monkeypatch)


def _directory(root: Path) -> Place:
    def names() -> list[str]:
        return sorted(str(path.relative_to(root)) for path in root.rglob("*") if path.is_file())

    def age() -> None:
        aged = time.time() - 61
        for name in names():
            os.utime(root / name, (aged, aged))

    def lose() -> AudioStore:
        root.rename(root.with_name("elsewhere"))
        return AudioDirectory(root)

    return Place(
        audio=AudioDirectory(root),
        logged=LoggedDirectory(root),
        another=lambda: AudioDirectory(root),
        names=names,
        unfinished=lambda: 0,
        age=age,
        lose=lose,
        settings={"audio": str(root)},
    )


def _bucket(
    cloud: Cloud,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    names: Callable[[], list[str]] | None = None,
    unfinished: Callable[[], int] | None = None,
) -> Place:
    prefix = f"cell-{uuid4()}"
    cloud = replace(cloud, url=f"{cloud.url}/{prefix}")
    bucket = Bucket(cloud.url, dict(cloud.options))

    def listed() -> list[str]:
        raw = {"s3": S3Store, "az": AzureStore, "gs": GCSStore}[cloud.url[:2]](
            "recordings",
            config={name: value for name, value in cloud.options.items() if name != "client"},
            client_options=cloud.options["client"],
        )
        return sorted(meta["path"] for page in obstore.list(raw, prefix) for meta in page)

    def age() -> None:
        # Not the clock itself, by which the event loop goes.
        monkeypatch.setattr(audio_objects, "time", SimpleNamespace(monotonic=lambda: time.monotonic() + 61))

    def lose() -> AudioStore:
        # Nobody listens on this port.
        place = "base_url" if cloud.url[:2] == "gs" else "endpoint"
        return AudioObjects(Bucket(cloud.url, {**cloud.options, place: "http://127.0.0.1:1/secret-place"}))

    return Place(
        audio=AudioObjects(bucket),
        logged=LoggedObjects(bucket),
        another=lambda: AudioObjects(Bucket(cloud.url, dict(cloud.options))),
        names=lambda: [name.removeprefix(f"{prefix}/") for name in (names or listed)()],
        unfinished=unfinished or (lambda: unfinished_uploads(cloud, prefix) if cloud.url[:2] == "s3" else 0),
        age=age,
        lose=lose,
        settings={"audio": cloud.url, "audio_credentials_file": str(cloud.options_file(tmp_path))},
    )
