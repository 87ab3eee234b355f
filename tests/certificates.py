"""An authority of the tests' own, and what it has issued, as files and as what clients need."""

import ssl
from datetime import datetime
from pathlib import Path
from typing import Any

import trustme

from deploy.certificates import NAMES, issue, write


class Authority:
    """Issues certificates into a directory."""

    def __init__(self, directory: Path) -> None:
        self.directory = directory
        self.ca = trustme.CA()
        self.file = directory / "ca.pem"
        write(self.file, self.ca.cert_pem.bytes())

    def pair(
        self,
        name: str = "server",
        *names: str,
        key_type: trustme.KeyType = trustme.KeyType.ECDSA,
        until: datetime | None = None,
    ) -> dict[str, Any]:
        """Issue a certificate for these names, else for this machine, and return the settings that name its files."""
        issue(self.directory, name, self.ca.issue_cert(*(names or NAMES), key_type=key_type, not_after=until))
        return {"certificate": self.directory / f"{name}.pem", "certificate_key": self.directory / f"{name}.key"}

    def settings(self, name: str = "server") -> dict[str, Any]:
        """Issue one for this machine, and return the settings as an environment has them."""
        return {setting: str(file) for setting, file in self.pair(name).items()}

    def trust(self, *, shows: str = "") -> ssl.SSLContext:
        """Return what a client needs that trusts this authority, and shows a certificate that it has issued."""
        context = ssl.create_default_context(cafile=self.file)
        if shows:
            context.load_cert_chain(self.directory / f"{shows}.pem", self.directory / f"{shows}.key")
        return context
