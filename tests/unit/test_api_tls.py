"""TLS of a listener: what is spoken, with whom, and certificates that are replaced."""

import asyncio
import contextlib
import socket
import ssl
from collections.abc import AsyncIterator
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any
from urllib.parse import urlsplit

import pytest
import trustme
from cryptography import x509
from cryptography.hazmat.primitives import serialization
from structlog.testing import capture_logs

from api import listener, tls
from deploy.certificates import write
from retention.errors import SettingsError
from retention.listening import Listener
from tests.certificates import Authority
from tests.stack import wait_until
from tests.unit.fake_retention import WAV, Api, hang_up, serving


@pytest.fixture
def authority(tmp_path: Path) -> Authority:
    """Give an authority of this test."""
    return Authority(tmp_path)


@contextlib.asynccontextmanager
async def secured(
    authority: Authority, shows: str = "", key_type: trustme.KeyType = trustme.KeyType.ECDSA, **settings: Any
) -> AsyncIterator[Api]:
    """Serve with a certificate of the authority, which the client trusts."""
    pair = authority.pair(key_type=key_type)
    async with serving(
        trust=authority.trust(shows=shows), listeners=(Listener(name="x", port=0, **pair, **settings),)
    ) as api:
        yield api


async def talk(api: Api, context: ssl.SSLContext) -> tuple[str, str, int]:
    """Ask something with TLS, and return the version, the suite, and the serial number of the certificate."""
    parts = urlsplit(api.url)
    reader, writer = await asyncio.open_connection(parts.hostname, parts.port, ssl=context)
    session = writer.get_extra_info("ssl_object")
    certificate = x509.load_der_x509_certificate(session.getpeercert(binary_form=True))
    spoken = session.version(), session.cipher()[0], certificate.serial_number
    try:
        writer.write(b"GET /health/live HTTP/1.1\r\nHost: x\r\nConnection: close\r\n\r\n")
        if not (await reader.readline()).startswith(b"HTTP/1.1 200 "):
            raise ConnectionError
    finally:
        await hang_up(writer)
    return spoken


async def test_it_speaks_tls_and_says_so(authority: Authority) -> None:
    """The address is of https, and browsers are told to stay with it: also with what is no HTTP."""
    async with secured(authority) as api:
        created = await api.submit()
        assert api.url.startswith("https://")
        assert created.body["url"].startswith(api.url)
        assert created.headers["Strict-Transport-Security"] == "max-age=31536000"
        assert (await api.ask("GET", "/nothing")).headers["Strict-Transport-Security"]
        assert b"\r\nStrict-Transport-Security: max-age=31536000\r\n" in await api.talk(b"nonsense\r\n\r\n")


@pytest.mark.parametrize("version", [ssl.TLSVersion.TLSv1_2, ssl.TLSVersion.TLSv1_3])
async def test_tls_1_2_and_1_3_are_spoken(authority: Authority, version: ssl.TLSVersion) -> None:
    """The first with ephemeral keys and AEAD only."""
    async with secured(authority) as api:
        context = authority.trust()
        context.minimum_version = context.maximum_version = version
        spoken, suite, _ = await talk(api, context)
        assert spoken == {ssl.TLSVersion.TLSv1_2: "TLSv1.2", ssl.TLSVersion.TLSv1_3: "TLSv1.3"}[version]
        assert suite.startswith("ECDHE-ECDSA-" if version is ssl.TLSVersion.TLSv1_2 else "TLS_")


@pytest.mark.filterwarnings("ignore:ssl.TLSVersion:DeprecationWarning")
@pytest.mark.parametrize(
    ("version", "ciphers"),
    [
        (ssl.TLSVersion.TLSv1_1, "ALL:@SECLEVEL=0"),
        (ssl.TLSVersion.TLSv1, "ALL:@SECLEVEL=0"),
        (ssl.TLSVersion.TLSv1_2, "ECDHE+AES:!AESGCM:!AESCCM:@SECLEVEL=0"),
        (ssl.TLSVersion.TLSv1_2, "kRSA:@SECLEVEL=0"),
        (ssl.TLSVersion.TLSv1_2, "DHE:@SECLEVEL=0"),
        (ssl.TLSVersion.TLSv1_2, "aNULL:@SECLEVEL=0"),
    ],
)
async def test_nothing_weaker_is_spoken(authority: Authority, version: ssl.TLSVersion, ciphers: str) -> None:
    """No version below, and no CBC, no key that is not ephemeral, no suite without a certificate."""
    async with secured(authority, key_type=trustme.KeyType.RSA) as api:  # with which more would be possible
        context = authority.trust()
        context.minimum_version = context.maximum_version = version
        context.set_ciphers(ciphers)
        with pytest.raises((ssl.SSLError, ConnectionError)):
            await talk(api, context)


async def test_http_without_tls_is_no_answer(authority: Authority) -> None:
    """Nothing is said to it."""
    async with secured(authority) as api:
        api.trust = None
        parts = urlsplit(api.url)
        reader, writer = await asyncio.open_connection(parts.hostname, parts.port)
        writer.write(b"GET /health/live HTTP/1.1\r\nHost: x\r\n\r\n")
        with contextlib.suppress(ConnectionError):
            assert b"HTTP" not in await reader.read()
        await hang_up(writer)


async def test_only_clients_with_a_certificate_are_served_where_one_is_wanted(
    authority: Authority, tmp_path: Path
) -> None:
    """Of the listener's authority, and not of any other."""
    (tmp_path / "other").mkdir()
    stranger = Authority(tmp_path / "other")
    authority.pair("client", "client")
    stranger.pair("client", "client")
    async with secured(authority, shows="client", client_ca=authority.file) as api:
        assert (await api.ask("GET", "/v1/recognitions")).status == 200
        showing = authority.trust()
        showing.load_cert_chain(stranger.directory / "client.pem", stranger.directory / "client.key")
        for context in (authority.trust(), showing):
            with pytest.raises((ssl.SSLError, ConnectionError)):
                await talk(api, context)


@pytest.mark.parametrize("sent", [b"", b"\x16\x03\x01\x02\x00\x01"], ids=["nothing", "half a hello"])
async def test_a_handshake_that_does_not_come_is_cut_off(
    authority: Authority, sent: bytes, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A client that connects and does not go on with TLS holds nothing for long."""
    monkeypatch.setattr(listener, "HANDSHAKE_WITHIN", timedelta(milliseconds=300))
    async with secured(authority) as api:
        parts = urlsplit(api.url)
        reader, writer = await asyncio.open_connection(parts.hostname, parts.port)
        writer.write(sent)
        with contextlib.suppress(ConnectionError):
            assert await asyncio.wait_for(reader.read(), 8) == b""
        await hang_up(writer)


async def test_stopping_does_not_wait_for_a_handshake(authority: Authority) -> None:
    """One that comes to its end afterwards is served nothing."""
    loop = asyncio.get_running_loop()
    with socket.socket() as plain:
        plain.setblocking(False)
        async with secured(authority) as api:
            await loop.sock_connect(plain, ("127.0.0.1", urlsplit(api.url).port))
            await asyncio.sleep(0.1)  # until it was accepted, which nothing tells
            began = loop.time()
        assert loop.time() - began < 8
        reader, writer = await asyncio.open_connection(sock=plain, ssl=authority.trust(), server_hostname="127.0.0.1")
        writer.write(b"GET /health/live HTTP/1.1\r\nHost: x\r\n\r\n")
        with contextlib.suppress(ConnectionError):
            assert await asyncio.wait_for(reader.read(), 30) == b""
        await hang_up(writer)


@pytest.fixture
def _looking_often(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(tls, "LOOK_EVERY", timedelta(milliseconds=20))


@pytest.mark.usefixtures("_looking_often")
async def test_a_new_certificate_is_taken_by_new_connections(authority: Authority) -> None:
    """Of another kind of key, too; a connection that was there goes on."""
    async with secured(authority) as api:
        reader, writer = await api.connect()
        _, _, first = await talk(api, authority.trust())
        authority.pair(key_type=trustme.KeyType.RSA)

        async def renewed() -> bool:
            return (await talk(api, authority.trust()))[2] != first

        await wait_until(renewed)
        legacy = authority.trust()
        legacy.maximum_version = ssl.TLSVersion.TLSv1_2
        _, suite, _ = await talk(api, legacy)
        assert suite.startswith("ECDHE-RSA-")  # a context that was loaded twice would go on with ECDSA
        writer.write(b"GET /health/live HTTP/1.1\r\nHost: x\r\n\r\n")
        assert (await reader.readline()).startswith(b"HTTP/1.1 200 ")
        await hang_up(writer)


@pytest.mark.usefixtures("_looking_often")
@pytest.mark.parametrize("broken", ["mismatch", "no certificate", "no key", "readable", "gone", "password"])
async def test_a_pair_that_will_not_do_is_left(authority: Authority, broken: str) -> None:
    """The one before stays, an error is logged once, and a good pair is taken after that."""
    async with secured(authority) as api:
        _, _, first = await talk(api, authority.trust())
        with capture_logs() as lines:
            spoil(authority, broken)

            async def refused() -> bool:
                return any(line["log_level"] == "error" for line in lines)

            await wait_until(refused)
            assert (await talk(api, authority.trust()))[2] == first
            authority.pair()

            async def renewed() -> bool:
                return (await talk(api, authority.trust()))[2] != first

            await wait_until(renewed)
        [line] = [line for line in lines if line["log_level"] == "error"]
        assert line["event"] == "certificate refused, the one before stays"
        assert line["listener"] == "x"
        assert "PRIVATE KEY" not in line["reason"]


def spoil(authority: Authority, broken: str) -> None:
    """Make the server's files such that they will not do."""
    certificate, key = authority.directory / "server.pem", authority.directory / "server.key"
    if broken == "mismatch":
        key_of_another = authority.pair("other")["certificate_key"].read_bytes()
        write(key, key_of_another)
    elif broken == "no certificate":
        write(certificate, b"nonsense")
    elif broken == "no key":
        write(key, b"nonsense")
    elif broken == "readable":
        authority.pair()
        key.chmod(0o644)
        key.rename(key)
    elif broken == "gone":
        certificate.unlink()
    else:
        loaded = serialization.load_pem_private_key(key.read_bytes(), None)
        sealed = serialization.BestAvailableEncryption(b"secret")
        pem = serialization.PrivateFormat.PKCS8
        write(key, loaded.private_bytes(serialization.Encoding.PEM, pem, sealed))


async def test_files_that_change_still_are_not_read(authority: Authority) -> None:
    """Only when they were alike at two looks; and a pair is read once."""
    certificates = tls.Certificates(Listener(name="x", port=0, **authority.pair()))
    with capture_logs() as lines:
        for _ in range(3):
            authority.pair()
            certificates.look()
        assert lines == []
        certificates.look()
        certificates.look()
    assert [line["event"] for line in lines] == ["certificate read"]


async def test_a_new_authority_of_clients_is_taken(authority: Authority, tmp_path: Path) -> None:
    """As a certificate is."""
    certificates = tls.Certificates(Listener(name="x", port=0, client_ca=authority.file, **authority.pair()))
    (tmp_path / "other").mkdir()
    other = Authority(tmp_path / "other")
    before = certificates._newest.get_ca_certs(binary_form=True)
    write(authority.file, other.file.read_bytes())
    certificates.look()
    certificates.look()
    assert certificates._newest.get_ca_certs(binary_form=True) != before
    assert certificates._newest.verify_mode is ssl.CERT_REQUIRED


ASKED = b"GET /v1/recognitions/nothing HTTP/1.1\r\nHost: x\r\n\r\n"
UPLOAD = (
    b"POST /v1/recognitions HTTP/1.1\r\nHost: x\r\nContent-Length: 100000\r\n"
    b"Authorization: Basic YXBpa2V5OnZvbGFudF9hbGljZV9zZWNyZXQ=\r\n\r\n" + WAV
)


@contextlib.asynccontextmanager
async def serving_clients(authority: Authority) -> AsyncIterator[tuple[Api, Path, asyncio.Event]]:
    """Serve clients with a certificate of the authority; give its file, and what is set when files were taken."""
    clients = authority.directory / "clients.pem"
    write(clients, authority.file.read_bytes())
    authority.pair("client", "client")
    taken = asyncio.Event()
    with pytest.MonkeyPatch.context() as patch:
        look = tls.Certificates.look

        def noticing(certificates: tls.Certificates) -> bool:
            if found := look(certificates):
                asyncio.get_running_loop().call_soon(taken.set)  # after those who are told
            return found

        patch.setattr(tls.Certificates, "look", noticing)
        async with secured(authority, shows="client", client_ca=clients) as api:
            yield api, clients, taken


@pytest.mark.usefixtures("_looking_often")
async def test_clients_of_an_authority_that_is_gone_are_served_no_more(authority: Authority, tmp_path: Path) -> None:
    """Nor on connections that they have: one that waits is closed, and one in a request with its answer."""
    (tmp_path / "other").mkdir()
    async with serving_clients(authority) as (api, clients, taken):
        idle, idle_writer = await api.connect()
        busy, busy_writer = await api.connect()
        idle_writer.write(ASKED)
        assert (await idle.readuntil(b"\r\n\r\n")).startswith(b"HTTP/1.1 401 ")
        busy_writer.write(UPLOAD)

        async def uploading() -> bool:
            return api.jobs.under_way == 1

        await wait_until(uploading)
        write(clients, Authority(tmp_path / "other").file.read_bytes())
        await taken.wait()
        assert b"HTTP" not in await asyncio.wait_for(idle.read(), 30)  # but the rest of the answer before
        busy_writer.write(bytes(100_000 - len(WAV)) + ASKED)
        head, _, rest = (await asyncio.wait_for(busy.read(), 30)).partition(b"\r\n\r\n")
        assert head.startswith(b"HTTP/1.1 201 ")
        assert b"\r\nConnection: close" in head
        assert b"HTTP" not in rest
        for writer in (idle_writer, busy_writer):
            await hang_up(writer)


@pytest.mark.usefixtures("_looking_often")
async def test_an_authority_that_is_added_ends_no_connection(authority: Authority, tmp_path: Path) -> None:
    """Nor does a new certificate of the listener."""
    (tmp_path / "other").mkdir()
    async with serving_clients(authority) as (api, clients, taken):
        reader, writer = await api.connect()
        write(clients, Authority(tmp_path / "other").file.read_bytes() + authority.file.read_bytes())
        await taken.wait()
        taken.clear()
        authority.pair(key_type=trustme.KeyType.RSA)
        await taken.wait()
        writer.write(ASKED)
        assert (await reader.readline()).startswith(b"HTTP/1.1 401 ")
        await hang_up(writer)


async def test_a_handshake_that_ends_after_its_authority_is_gone_is_for_nothing(
    authority: Authority, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The client was judged by it all the same."""
    (tmp_path / "other").mkdir()
    other = Authority(tmp_path / "other").file.read_bytes()
    async with serving_clients(authority) as (api, clients, _):
        begin = tls.Certificates.wrap_bio

        def replaced_meanwhile(certificates: tls.Certificates, *args: Any, **options: Any) -> ssl.SSLObject:
            session = begin(certificates, *args, **options)
            write(clients, other)
            certificates.look()
            certificates.look()
            return session

        monkeypatch.setattr(tls.Certificates, "wrap_bio", replaced_meanwhile)
        reader, writer = await api.connect()
        writer.write(ASKED)
        with contextlib.suppress(ConnectionError):
            assert await asyncio.wait_for(reader.read(), 30) == b""
        await hang_up(writer)


@pytest.mark.parametrize(("year", "level"), [(2131, "info"), (2021, "warning")])
async def test_the_log_says_when_a_certificate_ends(authority: Authority, year: int, level: str) -> None:
    """So that a forgotten renewal can be seen coming, and is plain when it has come."""
    until = datetime(year, 2, 3, 4, 5, 6, tzinfo=UTC)
    with capture_logs() as lines:
        tls.Certificates(Listener(name="x", port=0, **authority.pair(until=until)))
    assert [(line["log_level"], line["listener"], line["expires"]) for line in lines] == [
        (level, "x", f"{year}-02-03T04:05:06Z")
    ]


@pytest.mark.parametrize("broken", ["mismatch", "no certificate", "no key", "readable", "gone", "password"])
async def test_the_start_is_refused_with_a_pair_that_will_not_do(authority: Authority, broken: str) -> None:
    """By a sentence that names the file."""
    pair = authority.pair()
    spoil(authority, broken)
    with pytest.raises(SettingsError, match=r"server\.(pem|key)"):
        async with serving(listeners=(Listener(name="x", port=0, **pair),)):
            pass
