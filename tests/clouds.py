"""Object stores on this machine: moto's S3, Microsoft's Azurite, and a server that speaks Google's XML interface.

The first two run as processes; each test takes a prefix of its own in their one bucket.
"""

import base64
import hmac
import http.client
import os
import re
import shutil
import sys
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass, field
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import obstore
import pytest
from obstore.store import S3Store

from deploy.processes import Process, temporary_directory
from tests.javascript import NODE
from tests.missing import missing

_LISTENING = re.compile(r"(?:Running on|listens on) http://127\.0\.0\.1:(\d+)")
_S3_KEYS = {"access_key_id": "test", "secret_access_key": "test"}
# The account that every Azurite has, as its documentation gives it.
_ACCOUNT = "devstoreaccount1"
_ACCOUNT_KEY = "Eby8vdM02xNOcqFlqUwJPLlmEtlCDXJ1OUzFT50uSRZ6IFsuFq2UVErCz4I6tq/K1SZFPTOtr/KBHBeksoGMGw=="


@dataclass(frozen=True, kw_only=True)
class Cloud:
    """A bucket. `url` and `options` are what Volant is told."""

    url: str
    port: int
    options: Mapping[str, Any] = field(repr=False)

    def options_file(self, directory: Path) -> Path:
        """Write the options as an operator does, and return the file."""
        path = directory / "object-store.toml"
        lines = [f'{name} = "{value}"' for name, value in self.options.items() if name != "client"]
        path.write_text("\n".join([*lines, "[client]", "allow_http = true", ""]))
        path.chmod(0o600)
        return path


@pytest.fixture(scope="session")
def s3() -> Iterator[Cloud]:
    """Give a bucket of moto's S3, over HTTP."""
    with moto() as port:
        _request(port, "PUT", "/recordings")
        options = {**_S3_KEYS, "region": "us-east-1", "endpoint": f"http://127.0.0.1:{port}"}
        yield Cloud(url="s3://recordings", port=port, options={**options, "client": {"allow_http": True}})


@pytest.fixture(scope="session")
def azure() -> Iterator[Cloud]:
    """Give a container of Azurite. It may be `missing`."""
    program = NODE / "node_modules/.bin/azurite-blob"
    if not shutil.which("node") or not program.exists():
        missing("Azurite is not installed: install node (18.3 or newer) and npm, then `make .venv/.node`")
    flags = ["--blobPort", "0", "--inMemoryPersistence", "--silent", "--disableTelemetry", "--skipApiVersionCheck"]
    with _serving("azurite", [str(program), *flags]) as port:
        _make_container(port, "recordings")
        options = {
            "account_name": _ACCOUNT,
            "account_key": _ACCOUNT_KEY,
            "endpoint": f"http://127.0.0.1:{port}/{_ACCOUNT}",
        }
        yield Cloud(url="az://recordings", port=port, options={**options, "client": {"allow_http": True}})


def unfinished_uploads(cloud: Cloud, key: str) -> int:
    """Count the uploads in parts that S3 still has of an object, or of all under a prefix."""
    return _request(cloud.port, "GET", f"/recordings?uploads&prefix={key}").count(b"<UploadId>")


@contextmanager
def moto(**environment: str) -> Iterator[int]:
    """Give the port of a moto of one's own."""
    command = [str(Path(sys.executable).with_name("moto_server")), "-H", "127.0.0.1", "-p", "0"]
    with _serving("moto", command, environment) as port:
        yield port


@contextmanager
def _serving(name: str, command: list[str], environment: Mapping[str, str] | None = None) -> Iterator[int]:
    with temporary_directory() as directory:
        process = Process(name, command, log=directory / "log", environment=os.environ | dict(environment or {}))
        try:
            process.wait_until(lambda: _LISTENING.search(process.printed()) is not None, "listening")
            found = _LISTENING.search(process.printed())
            assert found
            yield int(found[1])
        finally:
            process.stop(patience=0)


def _request(port: int, method: str, path: str, headers: Mapping[str, str] | None = None) -> bytes:
    connection = http.client.HTTPConnection("127.0.0.1", port, timeout=60)
    try:
        connection.request(method, path, headers=dict(headers or {}))
        answer = connection.getresponse()
        content = answer.read()
    finally:
        connection.close()
    assert answer.status < http.HTTPStatus.BAD_REQUEST, content
    return content


def _make_container(port: int, name: str) -> None:
    """Create it, signed with the account's key: obstore cannot create one."""
    date, version = f"{datetime.now(UTC):%a, %d %b %Y %H:%M:%S} GMT", "2021-08-06"
    path = f"/{_ACCOUNT}/{name}"
    signed = f"PUT{chr(10) * 12}x-ms-date:{date}\nx-ms-version:{version}\n/{_ACCOUNT}{path}\nrestype:container"
    tag = base64.b64encode(hmac.digest(base64.b64decode(_ACCOUNT_KEY), signed.encode(), "sha256"))
    _request(
        port,
        "PUT",
        f"{path}?restype=container",
        {"x-ms-date": date, "x-ms-version": version, "Authorization": f"SharedKey {_ACCOUNT}:{tag.decode()}"},
    )


def objects(cloud: Cloud, prefix: str) -> dict[str, bytes]:
    """Return what S3 has under a prefix: names without it, and contents."""
    store = _seen_from_outside(cloud, prefix)
    names = [meta["path"] for page in obstore.list(store) for meta in page]
    return {name: bytes(obstore.get(store, name).bytes()) for name in names}


def store_object(cloud: Cloud, prefix: str, name: str) -> None:
    """Put something into S3 that Volant knows nothing of."""
    obstore.put(_seen_from_outside(cloud, prefix), name, b"something")


def _seen_from_outside(cloud: Cloud, prefix: str) -> S3Store:
    config: Any = {name: value for name, value in cloud.options.items() if name != "client"}
    return S3Store("recordings", prefix=prefix, config=config, client_options=cloud.options["client"])
