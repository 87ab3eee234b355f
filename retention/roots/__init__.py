"""The root key: what wraps a cell's tenant, index and token keys, and never leaves its provider.

A provider is a file, AWS KMS, or an HSM behind PKCS #11. All keep to one protocol and pass one suite
(`tests/integration/test_root_providers.py`). What they wrap is 32 bytes; longer material is sealed
under a key that they wrap.
"""

from typing import Protocol

from retention.cell_settings import RootSettings
from retention.errors import SettingsError
from retention.roots.aws_kms import KmsRoot
from retention.roots.file import FileRoot
from retention.roots.pkcs11 import TokenRoot
from retention.seal import Context, Key


class RootProvider(Protocol):
    """Wraps keys under a root key that is nowhere else. Safe to use from many tasks of one loop."""

    name: str
    """What a wrapped key names, such as "file" or "aws-kms/KEY-ID": stable, no secret, without a colon."""

    async def wrap(self, key: Key, context: Context) -> bytes:
        """Return the key wrapped under the root, bound to the context.

        Raises Unavailable as `unwrap` does.
        """

    async def unwrap(self, wrapped: bytes, context: Context) -> Key:
        """Return the key.

        Raises KeyUnavailable when this root does not open it: wrapped by another root or for another
        context, or damaged; a refusal that may pass is asked for twice. Raises Unavailable when nobody can
        tell: the provider is away, overloaded, does not let us in, or its key is disabled or not there.
        """

    async def check(self) -> None:
        """Return when the root key can be used. Raises Unavailable, with a sentence for the log.

        A provider that is elsewhere is asked, each time.
        """

    async def close(self) -> None:
        """Give up what is held: connections, sessions, threads."""


async def open_root(settings: RootSettings) -> RootProvider:
    """Return the root that the settings name. The provider is not asked yet; `check` does.

    Raises SettingsError when the setting `root` or a file that it needs is not as it must be.
    """
    kind, _, place = settings.root.partition(":")
    match kind, bool(place):
        case "file", False:
            return FileRoot.open(settings.root_key_file, create=settings.create_root_key)
        case "aws-kms", True:
            return await KmsRoot.open(place, settings.root_credentials_file)
        case "pkcs11", True:
            return await TokenRoot.open(settings.root, settings.root_credentials_file)
        case _:
            raise SettingsError('root must be "file", "aws-kms:" and a key, or a "pkcs11:" URI')
