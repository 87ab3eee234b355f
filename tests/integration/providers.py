"""The providers of root keys as tests have them: a file, moto's KMS over HTTP, SoftHSM. Each can be made to fail."""

import shutil
import subprocess
import sys
from collections.abc import AsyncIterator, Iterator
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any, Protocol

import boto3
import pytest
from moto.core.exceptions import JsonRESTError
from moto.kms.models import KmsBackend
from moto.server import ThreadedMotoServer

from retention.cell_settings import RootSettings
from retention.roots import RootProvider, open_root
from tests.missing import missing

MODULES = [
    Path("/usr/lib/softhsm/libsofthsm2.so"),
    Path("/usr/lib64/pkcs11/libsofthsm2.so"),
    Path("/usr/lib/pkcs11/libsofthsm2.so"),
    Path("/usr/local/lib/softhsm/libsofthsm2.so"),
]
PIN = "pin-of-the-token"
SECRET_ACCESS_KEY = "secret-access-key"


class Provider(Protocol):
    """Who keeps root keys: two of them, so that each can be tried on what the other wrapped."""

    settings: RootSettings
    another: RootSettings


class Remote(Provider, Protocol):
    """A provider that is not in this process, and not in its power."""

    def disable(self) -> None:
        """Make the first root key useless, without a word to those who use it."""

    def down(self) -> None:
        """Have the provider go away."""

    def up(self) -> None:
        """Bring it back as it was."""


@asynccontextmanager
async def opened(settings: RootSettings) -> AsyncIterator[RootProvider]:
    """Open a root for as long as the block lasts. One that stays open would keep its login for the next test."""
    root = await open_root(settings)
    try:
        yield root
    finally:
        await root.close()


def secret(path: Path, text: str) -> Path:
    """Write a file for its owner only."""
    path.touch(mode=0o600)
    path.write_text(text)
    return path


class Files:
    """Two files in a directory."""

    def __init__(self, directory: Path) -> None:
        self.settings = RootSettings(root_key_file=directory / "root.key", create_root_key=True)
        self.another = RootSettings(root_key_file=directory / "another.key", create_root_key=True)


class Kms:
    """Two keys in moto's KMS, which is made to mind a key's state and its own limits, as AWS's does."""

    def __init__(self, directory: Path, patch: pytest.MonkeyPatch) -> None:
        for name in ("encrypt", "decrypt"):
            patch.setattr(KmsBackend, name, _minding(getattr(KmsBackend, name)))
        self._server = _serving(0)
        self.url = "http://{}:{}".format(*self._server.get_host_and_port())
        self.admin = boto3.client(
            "kms", "eu-central-1", endpoint_url=self.url, aws_access_key_id="admin", aws_secret_access_key="admin"
        )
        self.access = secret(
            directory / "aws.toml",
            f'access_key_id = "volant"\nsecret_access_key = "{SECRET_ACCESS_KEY}"\nendpoint_url = "{self.url}"\n',
        )
        self.arn, self.settings = self._new()
        _, self.another = self._new()

    def _new(self) -> tuple[str, RootSettings]:
        arn = self.admin.create_key()["KeyMetadata"]["Arn"]
        return arn, RootSettings(root=f"aws-kms:{arn}", root_credentials_file=self.access)

    def disable(self) -> None:
        self.admin.disable_key(KeyId=self.arn.rpartition("/")[2])

    def down(self) -> None:
        self._server.stop()

    def up(self) -> None:
        self._server = _serving(int(self.url.rpartition(":")[2]))

    def close(self) -> None:
        self._server.stop()
        self.admin.close()


def _serving(port: int) -> ThreadedMotoServer:
    server = ThreadedMotoServer("127.0.0.1", port, verbose=False)
    server.start()
    return server


def _minding(work: Any) -> Any:
    """Return the work of moto's backend, refused as AWS documents it ("Key states of AWS KMS keys", `Decrypt`)."""

    def minding(self: KmsBackend, **asked: Any) -> Any:
        key = self.keys[self.any_id_to_key_id(asked["key_id"])]
        if key.key_state == "Disabled":
            raise JsonRESTError("DisabledException", f"{key.arn} is disabled.")
        if key.key_state == "PendingDeletion":
            raise JsonRESTError("KMSInvalidStateException", f"{key.arn} is pending deletion.")
        if not 1 <= len(asked.get("ciphertext_blob", b"-")) <= 6144:
            raise JsonRESTError("ValidationException", "1 validation error detected")
        return work(self, **asked)

    return minding


class SoftHsm:
    """A token of SoftHSM with two keys. Administered by other processes: a login is shared by all of one."""

    def __init__(self, directory: Path, patch: pytest.MonkeyPatch) -> None:
        self.module = next(filter(Path.exists, MODULES))
        self.pin_file = secret(directory / "pin", PIN)
        self._tokens = directory / "tokens"
        self._tokens.mkdir()
        configuration = directory / "softhsm2.conf"
        configuration.write_text(f"directories.tokendir = {self._tokens}\nlog.level = ERROR\n")
        patch.setenv("SOFTHSM2_CONF", str(configuration))
        command = ["softhsm2-util", "--init-token", "--free", "--label", "volant", "--so-pin", "so-pin", "--pin", PIN]
        subprocess.run(command, check=True, capture_output=True)
        self.settings, self.another = self.new("root"), self.new("another")

    def new(self, label: str, template: str = "") -> RootSettings:
        """Make a key, with further attributes; return how it is named."""
        self.administer(
            f"session.generate_key(KeyType.AES, 256, label={label!r}, store=True, template={{"
            f"Attribute.EXTRACTABLE: False, {template}}})"
        )
        root = f"pkcs11:token=volant;object={label}?module-path={self.module}"
        return RootSettings(root=root, root_credentials_file=self.pin_file)

    def serial(self) -> str:
        """Return the token's serial number."""
        return self.administer("print(token.serial.decode())").strip()

    def administer(self, statement: str) -> str:
        """Run a statement on a session, in another process; return what it prints."""
        program = (
            "import sys, pkcs11\nfrom pkcs11 import Attribute, KeyType\n"
            "token = pkcs11.lib(sys.argv[1]).get_token(token_label='volant')\n"
            f"session = token.open(rw=True, user_pin=sys.argv[2])\n{statement}\n"
        )
        command = [sys.executable, "-c", program, str(self.module), PIN]
        return subprocess.run(command, check=True, stdout=subprocess.PIPE, text=True).stdout

    def disable(self) -> None:
        self.administer("session.get_key(label='root').destroy()")

    def down(self) -> None:
        self._tokens.rename(self._tokens.with_name("away"))

    def up(self) -> None:
        self._tokens.with_name("away").rename(self._tokens)


def softhsm(directory: Path, patch: pytest.MonkeyPatch) -> SoftHsm:
    """Return SoftHSM, which may be `missing`."""
    if not shutil.which("softhsm2-util") or not any(map(Path.exists, MODULES)):
        missing("SoftHSM is not installed: on Debian and Ubuntu, apt-get install softhsm2")
    return SoftHsm(directory, patch)


def provided(kind: str, directory: Path, patch: pytest.MonkeyPatch) -> Iterator[Any]:
    """Give the provider of this kind, for a fixture to yield from."""
    if kind == "aws-kms":
        kms = Kms(directory, patch)
        yield kms
        kms.close()
    else:
        yield softhsm(directory, patch) if kind == "pkcs11" else Files(directory)
