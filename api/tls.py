"""TLS of a listener: what is spoken, and certificates that are replaced while connections go on.

TLS 1.3, and 1.2 with ephemeral keys and AEAD only (RFC 9325 §4.2): no CBC, no static RSA; no compression and no
renegotiation. Each connection lives with the certificate that it began with, but not with authorities of clients that
are trusted no more.
"""

import asyncio
import os
import ssl
from asyncio import sslproto
from collections.abc import Callable, Iterable
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any, Self

import structlog
from cryptography import x509

from retention.errors import SettingsError
from retention.listening import Listener
from retention.private_files import read_secret

LOOK_EVERY = timedelta(seconds=1)
"""How often files of certificates are looked at. They are read when they were alike at two looks."""

_SUITES = "ECDHE+AESGCM:ECDHE+CHACHA20"

sslproto.SSLProtocol.max_size = 1 << 15
"""asyncio has a buffer of this size for each connection, as long as that lives: by itself, of 256 KiB."""

_log = structlog.get_logger()


class _Context(ssl.SSLContext):
    """What a connection begins with, and keeps."""

    clients: frozenset[x509.Certificate] = frozenset()
    """The authorities of which clients must show a certificate; none: they need none."""


class Certificates(ssl.SSLContext):
    """What a listener needs to speak TLS: asked for a new connection, it uses the newest certificate that is good.

    A context of its own for each certificate, and not one that is loaded anew: OpenSSL would keep an old certificate
    beside a new one of another kind of key, and half of a pair that does not fit.
    """

    def __new__(cls, _listener: Listener) -> Self:
        """Make a context that itself never meets a client."""
        return super().__new__(cls, ssl.PROTOCOL_TLS_SERVER)

    def __init__(self, listener: Listener) -> None:
        """Read the files. Raises SettingsError when they are not as they must be."""
        self._name = listener.name
        self._files = (listener.certificate, listener.certificate_key, listener.client_ca)
        self._read = self._noticed = self._state()
        self._newest = self._load()

    def wrap_bio(self, *args: Any, **options: Any) -> ssl.SSLObject:
        """Begin a connection; asyncio calls this once for each."""
        return self._newest.wrap_bio(*args, **options)

    def trusts(self, session: ssl.SSLObject) -> bool:
        """Tell whether every authority that a client was judged by is one still.

        Its own is not looked for among them: a client that was of another is let in again at once.
        """
        context = session.context
        return isinstance(context, _Context) and context.clients <= self._newest.clients

    def look(self) -> bool:
        """Take the files if they have changed, unless they are changing still, and tell whether they were taken.

        What will not do is logged and left.
        """
        state, noticed = self._state(), self._noticed
        self._noticed = state
        if state == self._read or state != noticed:
            return False
        self._read = state
        try:
            self._newest = self._load()
        except SettingsError as error:
            _log.error("certificate refused, the one before stays", listener=self._name, reason=str(error))
            return False
        return True

    def _state(self) -> tuple[tuple[int, ...], ...]:
        """Return what tells whether a file was changed or replaced; nothing of one that is not there."""
        found: list[tuple[int, ...]] = []
        for file in filter(None, self._files):
            try:
                status = file.stat()
                found.append((status.st_dev, status.st_ino, status.st_mtime_ns, status.st_size))
            except OSError:
                found.append(())
        return tuple(found)

    def _load(self) -> _Context:
        certificate, key, client_ca = self._files
        assert certificate is not None  # noqa: S101 - a listener without a certificate has no TLS
        assert key is not None  # noqa: S101 - they go together
        pair = _text(certificate), read_secret(key)
        context = _Context(ssl.PROTOCOL_TLS_SERVER)
        context.minimum_version = ssl.TLSVersion.TLSv1_2
        context.options |= ssl.OP_NO_COMPRESSION | ssl.OP_NO_RENEGOTIATION | ssl.OP_CIPHER_SERVER_PREFERENCE
        context.set_ciphers(_SUITES)
        context.set_alpn_protocols(["http/1.1"])
        try:
            _load_pair(context, *pair)
            expires = x509.load_pem_x509_certificate(pair[0]).not_valid_after_utc
            if client_ca is not None:
                authorities = _text(client_ca)
                context.load_verify_locations(cadata=authorities.decode("ascii"))
                context.clients = frozenset(x509.load_pem_x509_certificates(authorities))
                context.verify_mode = ssl.CERT_REQUIRED
        except ValueError as error:  # which an SSLError is not, but what is no PEM at all may be
            raise SettingsError(f"{self._described()}: {error}") from error
        except ssl.SSLError as error:
            raise SettingsError(f"{self._described()}: {error.reason or 'not in PEM, or with a password'}") from error
        write, event = _log.info, "certificate read"
        if expires < datetime.now(UTC):
            write, event = _log.warning, "certificate has expired"
        write(event, listener=self._name, expires=f"{expires:%Y-%m-%dT%H:%M:%SZ}")
        return context

    def _described(self) -> str:
        return f"listener {self._name}: {', '.join(str(file) for file in self._files if file)} will not do"


async def keep_fresh(all_certificates: Iterable[Certificates], on_change: Callable[[], None]) -> None:
    """Look at the files again and again, until cancelled, and tell when some were taken."""
    certificates = list(all_certificates)
    while True:
        await asyncio.sleep(LOOK_EVERY.total_seconds())
        taken = [each.look() for each in certificates]
        if any(taken):
            on_change()


def _text(file: Path) -> bytes:
    try:
        return file.read_bytes()
    except OSError as error:
        raise SettingsError(f"{file} cannot be read: {error.strerror}") from error


def _load_pair(context: ssl.SSLContext, certificate: bytes, key: bytes) -> None:
    """Load what was read, and not the files once more, which may be others by now; OpenSSL takes paths alone."""
    with open(os.memfd_create("certificate"), "wb") as file:  # noqa: PTH123 - it has no path
        file.write(certificate + b"\n" + key + b"\n")
        file.flush()
        context.load_cert_chain(f"/proc/self/fd/{file.fileno()}", password="")
