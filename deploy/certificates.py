"""`make tls`: an authority for this machine, and certificates of it for the API and for a client of it.

The authority stays, so that clients need to be told of it only once; the certificates are made anew each time, and a
running API takes them by itself. For development: whoever has `ca.key` can be any server to those who trust `ca.pem`.
"""

import os
import sys
from datetime import UTC, datetime, timedelta
from pathlib import Path

import click
import trustme

from deploy.processes import ROOT

LIFE = timedelta(days=90)
NAMES = ("localhost", "127.0.0.1", "::1")


def make(directory: Path) -> None:
    """Put `ca`, `server` and `client` there, each a certificate (.pem) and its key (.key); for their owner only."""
    directory.mkdir(mode=0o700, parents=True, exist_ok=True)
    ca, ca_key = directory / "ca.pem", directory / "ca.key"
    if ca.exists() and ca_key.exists():
        authority = trustme.CA.from_pem(ca.read_bytes(), ca_key.read_bytes())
    else:
        authority = trustme.CA(organization_name="Volant, for development")
        write(ca_key, authority.private_key_pem.bytes())
        write(ca, authority.cert_pem.bytes())
    until = datetime.now(UTC) + LIFE
    issue(directory, "server", authority.issue_cert(*NAMES, not_after=until))
    issue(directory, "client", authority.issue_cert(common_name="client", not_after=until))


def issue(directory: Path, name: str, leaf: trustme.LeafCert) -> None:
    """Put a certificate and its key there, in the place of those before."""
    write(directory / f"{name}.key", leaf.private_key_pem.bytes())
    write(directory / f"{name}.pem", b"".join(each.bytes() for each in leaf.cert_chain_pems))


def write(file: Path, content: bytes) -> None:
    """Make a file that is for its owner only, or replace one as a whole."""
    new = file.with_name(f".{file.name}")
    new.unlink(missing_ok=True)
    with os.fdopen(os.open(new, os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o600), "wb") as opened:
        opened.write(content)
    new.rename(file)


def main(directory: Path = ROOT / "var/tls") -> int:
    """Make them and say where they are."""
    make(directory)
    shown = directory.relative_to(ROOT) if directory.is_relative_to(ROOT) else directory
    click.echo(
        f"In {shown}: server.pem and server.key for {', '.join(NAMES)}, good for {LIFE.days} days;\n"
        f"client.pem and client.key for a client that must show one; and ca.pem, which whoever talks to it trusts:\n"
        f"  curl --cacert {shown}/ca.pem …   or, for IBM's SDK, set_http_config({{'verify': '{shown}/ca.pem'}})\n"
        "`make run TLS=1` serves with them."
    )
    return 0


if __name__ == "__main__":
    sys.exit(main())
