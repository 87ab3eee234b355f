"""Over HTTPS a receiver is who its URL names, or is not reached."""

import ssl
from datetime import UTC, datetime, timedelta
from ipaddress import ip_address
from pathlib import Path

import pytest
from cryptography import x509
from cryptography.hazmat.primitives import hashes, serialization
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.x509.oid import NameOID

from retention.egress import Egress, Reply
from retention.errors import Unreachable
from tests.integration.test_egress_receivers import BRIEF, OK, hang, sends
from tests.integration.witness import Witness, answer, serve

SOON = timedelta(seconds=30)
NOW = datetime.now(UTC)


class Authority:
    """Issues certificates into a directory."""

    def __init__(self, directory: Path) -> None:
        self.key = ec.generate_private_key(ec.SECP256R1())
        self.name = x509.Name([x509.NameAttribute(NameOID.COMMON_NAME, "authority")])
        self.directory = directory
        self.file = directory / "authority.pem"
        usage = x509.KeyUsage(
            digital_signature=True,
            key_cert_sign=True,
            crl_sign=True,
            content_commitment=False,
            key_encipherment=False,
            data_encipherment=False,
            key_agreement=False,
            encipher_only=False,
            decipher_only=False,
        )
        builder = self._builder(self.name, self.key.public_key(), NOW + timedelta(days=1))
        builder = builder.add_extension(x509.BasicConstraints(ca=True, path_length=None), critical=True)
        certificate = builder.add_extension(usage, critical=True).sign(self.key, hashes.SHA256())
        self.file.write_bytes(certificate.public_bytes(serialization.Encoding.PEM))

    def _builder(self, name: x509.Name, key: ec.EllipticCurvePublicKey, until: datetime) -> x509.CertificateBuilder:
        identifier = x509.SubjectKeyIdentifier.from_public_key(key)
        issuer = x509.AuthorityKeyIdentifier.from_issuer_public_key(self.key.public_key())
        return (
            x509.CertificateBuilder(self.name, name, key, x509.random_serial_number(), NOW - timedelta(days=2), until)
            .add_extension(identifier, critical=False)
            .add_extension(issuer, critical=False)
        )

    def server(self, *names: str, days: int = 1) -> ssl.SSLContext:
        """Return what a server needs that goes by these names, for so many days from now."""
        key = ec.generate_private_key(ec.SECP256R1())
        found = [x509.IPAddress(ip_address(name)) if name[-1].isdigit() else x509.DNSName(name) for name in names]
        subject = x509.Name([x509.NameAttribute(NameOID.COMMON_NAME, "receiver")])
        certificate = (
            self._builder(subject, key.public_key(), NOW + timedelta(days=days))
            .add_extension(x509.SubjectAlternativeName(found), critical=False)
            .sign(self.key, hashes.SHA256())
        )
        file = self.directory / "server.pem"
        file.write_bytes(
            certificate.public_bytes(serialization.Encoding.PEM)
            + key.private_bytes(
                serialization.Encoding.PEM, serialization.PrivateFormat.PKCS8, serialization.NoEncryption()
            )
        )
        context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
        context.load_cert_chain(file)
        return context


@pytest.fixture
def authority(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Authority:
    """Give an authority that this process trusts."""
    authority = Authority(tmp_path)
    monkeypatch.setenv("SSL_CERT_FILE", str(authority.file))
    return authority


@pytest.mark.parametrize(
    ("url", "name"),
    [
        ("https://receiver.example:{}/", "receiver.example"),
        ("https://RECEIVER.example.:{}/", "receiver.example"),
        ("https://b\u00fccher.example:{}/", "xn--bcher-kva.example"),
        ("https://127.0.0.1:{}/", "127.0.0.1"),
        ("https://[0::1]:{}/", "::1"),
    ],
)
async def test_a_receiver_is_who_its_certificate_names(
    authority: Authority, monkeypatch: pytest.MonkeyPatch, url: str, name: str
) -> None:
    """By name or by number; any other is not reached, and hears nothing."""
    witness = Witness(monkeypatch)
    witness.names = {each: [["127.0.0.1"]] for each in ("receiver.example", "receiver.example.", name)}
    async with Egress(loopback=True) as outside:
        async with serve(answer, ssl=authority.server(name)) as server:
            reply = await outside.get(url.format(server.port), headers={}, within=SOON)
            assert reply == Reply(200, b"heard")
        async with serve(answer, ssl=authority.server("other.example", "10.0.0.1")) as server:
            with pytest.raises(Unreachable):
                await outside.get(url.format(server.port), headers={}, within=SOON)
            assert server.received == b""


async def test_a_certificate_that_proves_nothing_is_unreachable(authority: Authority, tmp_path: Path) -> None:
    """Of an unknown authority, or expired."""
    (tmp_path / "other").mkdir()
    stranger = Authority(tmp_path / "other")
    async with Egress(loopback=True) as outside:
        for context in (stranger.server("127.0.0.1"), authority.server("127.0.0.1", days=-1)):
            async with serve(answer, ssl=context) as server:
                with pytest.raises(Unreachable):
                    await outside.get(f"https://127.0.0.1:{server.port}/", headers={}, within=SOON)
                assert server.received == b""


async def test_https_is_not_http(authority: Authority) -> None:
    """Neither is taken for the other, and a handshake that hangs ends at the deadline."""
    async with Egress(loopback=True) as outside:
        async with serve(answer, ssl=authority.server("127.0.0.1")) as server:
            with pytest.raises(Unreachable):
                await outside.get(f"http://127.0.0.1:{server.port}/", headers={}, within=SOON)
        for handler in (hang, answer):
            async with serve(handler) as server:
                with pytest.raises(Unreachable):
                    await outside.get(f"https://127.0.0.1:{server.port}/", headers={}, within=BRIEF)
        async with serve(sends(OK + b"\r\n"), ssl=authority.server("127.0.0.1")) as server:
            assert await outside.get(f"https://127.0.0.1:{server.port}/", headers={}, within=SOON) == Reply(200, b"")
