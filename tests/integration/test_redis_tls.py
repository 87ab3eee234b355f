"""Redis over TLS: it is who its certificate names, and nothing below TLS 1.2 is spoken."""

import socket
import ssl
import subprocess
from collections.abc import Callable, Iterator
from contextlib import ExitStack
from pathlib import Path
from typing import Any

import pytest

from deploy.processes import Process, environment, find_redis_server
from deploy.stack import Stack
from retention.connection import connect, reaching_redis
from retention.errors import SettingsError, Unavailable
from retention.settings import Settings
from tests.certificates import Authority
from tests.missing import lacking
from tests.ports import reserved_port

Start = Callable[..., str]


@pytest.fixture
def authority(tmp_path: Path) -> Authority:
    """Give an authority of this test."""
    return Authority(tmp_path)


@pytest.fixture
def start(authority: Authority, tmp_path: Path) -> Iterator[Start]:
    """Give what starts a Redis that speaks TLS alone, for names of its certificate; it gives the port."""
    server = find_redis_server()
    tried = subprocess.run([server, "--tls-port", "none"], capture_output=True, text=True, check=False)
    if "Bad directive" in tried.stdout + tried.stderr:
        lacking("TLS")
    with ExitStack() as cleanup:

        def run(*names: str, **options: str) -> str:
            port = str(cleanup.enter_context(reserved_port()))
            pair = authority.pair("redis", *names)
            given = {
                "port": "0",
                "tls-port": port,
                "tls-cert-file": str(pair["certificate"]),
                "tls-key-file": str(pair["certificate_key"]),
                "tls-ca-cert-file": str(authority.file),
                "tls-auth-clients": "no",
                "appendonly": "yes",
                "dir": str(tmp_path),
                **{name.replace("_", "-"): value for name, value in options.items()},
            }
            words = [word for name, value in given.items() for word in (f"--{name}", value)]
            process = Process("redis", [server, *words], log=tmp_path / "redis.log", environment=environment({}))
            cleanup.callback(process.stop, patience=5)
            process.wait_until(lambda: "Ready to accept connections" in process.printed(), "ready")
            return port

        yield run


async def answers(**settings: Any) -> bool:
    """Tell whether Redis answers with these settings."""
    redis = connect(Settings(**settings), retries=0)
    try:
        with reaching_redis():
            return bool(await redis.ping())
    except Unavailable:
        return False
    finally:
        await redis.aclose()


async def test_redis_is_who_its_certificate_names(start: Start, authority: Authority, tmp_path: Path) -> None:
    """By the name in the URL, from an authority that we know; anything else is not spoken to."""
    (tmp_path / "other").mkdir()
    port = start("localhost")
    assert await answers(redis_url=f"rediss://localhost:{port}/0", redis_ca_file=authority.file)
    assert not await answers(redis_url=f"rediss://127.0.0.1:{port}/0", redis_ca_file=authority.file)
    assert not await answers(redis_url=f"rediss://localhost:{port}/0")
    assert not await answers(redis_url=f"rediss://localhost:{port}/0", redis_ca_file=Authority(tmp_path / "other").file)
    assert not await answers(redis_url=f"redis://localhost:{port}/0")


async def test_redis_may_ask_who_we_are(start: Start, authority: Authority) -> None:
    """With a certificate we are let in, without we are not."""
    url = f"rediss://localhost:{start('localhost', tls_auth_clients='yes')}/0"
    ours = authority.pair("volant")
    assert not await answers(redis_url=url, redis_ca_file=authority.file)
    assert await answers(
        redis_url=url,
        redis_ca_file=authority.file,
        redis_certificate=ours["certificate"],
        redis_key_file=ours["certificate_key"],
    )


@pytest.mark.filterwarnings("ignore:ssl.TLSVersion:DeprecationWarning")
async def test_nothing_below_tls_1_2_is_spoken(start: Start, authority: Authority) -> None:
    """With a Redis that knows nothing newer."""
    settings = {"redis_ca_file": authority.file}
    old = start("localhost", tls_protocols="TLSv1.1", tls_ciphers="ALL:@SECLEVEL=0")
    assert not await answers(redis_url=f"rediss://localhost:{old}/0", **settings)
    lax = authority.trust()
    lax.minimum_version = ssl.TLSVersion.TLSv1
    lax.set_ciphers("ALL:@SECLEVEL=0")
    with (
        socket.create_connection(("localhost", int(old))) as plain,
        lax.wrap_socket(plain, server_hostname="localhost") as spoken,
    ):
        assert spoken.version() == "TLSv1.1"  # by others it is


def test_files_that_will_not_do_are_refused_at_once(authority: Authority, tmp_path: Path) -> None:
    """A service would wait for Redis for ever otherwise."""
    url = "rediss://localhost:1/0"
    ours = authority.pair("volant")
    pair = {"redis_certificate": ours["certificate"], "redis_key_file": ours["certificate_key"]}
    connect(Settings(redis_url=url, redis_ca_file=authority.file, **pair), retries=0)
    other = authority.pair("other")
    readable = tmp_path / "readable.key"
    readable.write_bytes(ours["certificate_key"].read_bytes())
    readable.chmod(0o644)
    for wrong in (
        {"redis_ca_file": tmp_path / "absent"},
        {**pair, "redis_key_file": other["certificate_key"]},
        {**pair, "redis_certificate": tmp_path / "absent"},
        {**pair, "redis_key_file": readable},
    ):
        with pytest.raises(SettingsError, match=r"redis_|make it 0600"):
            connect(Settings(redis_url=url, **wrong), retries=0)


async def test_all_processes_speak_tls_with_redis(start: Start, authority: Authority, tmp_path: Path) -> None:
    """The API, a worker, a notifier and the command line become ready."""
    url = f"rediss://localhost:{start('localhost')}/0"
    with Stack(tmp_path / "stack", settings={"redis_ca_file": str(authority.file)}, redis_url=url) as stack:
        tenant, _ = stack.new_tenant("secured")
        assert tenant in stack.volant("tenant", "list")
