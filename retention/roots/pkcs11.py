"""The root key in an HSM, by the PKCS #11 module of its maker.

An AES-256 key that cannot leave its token encrypts with `CKM_AES_GCM`; the context is the additional
data. The IV is random: with 96 bits that is sound for 2^32 wraps (NIST SP 800-38D §8.3), and a cell
wraps a handful of keys with its root. The key is looked up for every use, so that one that was
destroyed opens nothing from that moment on.
"""

import asyncio
import os
from collections.abc import Callable
from contextlib import suppress
from pathlib import Path
from typing import Any, Self

from retention.errors import KeyUnavailable, SettingsError, Unavailable
from retention.private_files import read_secret
from retention.roots.module import Module
from retention.roots.token_uri import TokenUri
from retention.seal import Context, Key

_WITHIN = 10.0
_IV = 12
_WRAPPED = _IV + 32 + 16  # IV ‖ key ‖ tag


class TokenRoot:
    """Wraps and unwraps inside the token."""

    def __init__(self, uri: TokenUri, pin_file: Path) -> None:
        """Use the key that the URI names, let in by the PIN in this file."""
        self.name = uri.name
        self._uri = uri
        self._pin_file = pin_file
        self._module = Module.of(uri.module)

    @classmethod
    async def open(cls, uri: str, pin_file: Path | None) -> Self:
        """Return the root that an RFC 7512 URI names. Raises SettingsError."""
        try:
            import pkcs11  # noqa: F401, PLC0415 - an extra
        except ImportError as error:
            raise SettingsError("root: pkcs11 needs what `pip install 'volant[pkcs11]'` brings") from error
        where = TokenUri.parse(uri)
        if pin_file is None:
            raise SettingsError("root: pkcs11 needs the token's PIN, in a file named in root_credentials_file")
        read_secret(pin_file)
        if not where.module.is_file():
            raise SettingsError(f"root: there is no PKCS #11 module {where.module}")
        return cls(where, pin_file)

    async def wrap(self, key: Key, context: Context) -> bytes:
        """Return IV, encrypted key and tag. Raises Unavailable."""
        return await self._with_key(lambda root: _encrypt(root, key.raw(), context.encode()))

    async def unwrap(self, wrapped: bytes, context: Context) -> Key:
        """Return the key. Raises KeyUnavailable, Unavailable."""
        if len(wrapped) != _WRAPPED:
            raise KeyUnavailable(f"{self.name} did not wrap it")
        return Key(await self._with_key(lambda root: self._open(root, wrapped, context.encode())))

    async def check(self) -> None:
        """Encrypt something in the token. Raises Unavailable."""
        await self._with_key(lambda root: _encrypt(root, bytes(_IV), b"check"))

    async def close(self) -> None:
        """Let the module go; it ends its sessions when nobody else here has any."""
        self._module.release()

    async def _with_key(self, work: Callable[[Any], bytes]) -> bytes:
        try:
            async with asyncio.timeout(_WITHIN):
                return await asyncio.get_running_loop().run_in_executor(self._module.thread, self._twice, work)
        except TimeoutError:
            raise Unavailable(f"{self.name} gave no answer in time") from None

    def _twice(self, work: Callable[[Any], bytes]) -> bytes:
        """Work with the key, over a module started anew if need be: what a token lost shows only then."""
        from pkcs11.exceptions import NoSuchKey, PKCS11Error  # noqa: PLC0415

        with suppress(PKCS11Error):
            return work(self._find())
        try:
            self._module.restart()
            return work(self._find())
        except NoSuchKey as error:
            raise Unavailable(f"{self.name} is not in its token") from error
        except PKCS11Error as error:
            raise Unavailable(f"{self.name} cannot be used: {type(error).__name__}") from error

    def _find(self) -> Any:
        from pkcs11 import Attribute, KeyType, ObjectClass  # noqa: PLC0415
        from pkcs11.exceptions import NoSuchKey  # noqa: PLC0415

        wanted: dict[Attribute, Any] = {Attribute.CLASS: ObjectClass.SECRET_KEY, Attribute.KEY_TYPE: KeyType.AES}
        if self._uri.object is not None:
            wanted[Attribute.LABEL] = self._uri.object
        if self._uri.id is not None:
            wanted[Attribute.ID] = self._uri.id
        # To its end: a search that is left open is closed by the garbage collector, in whichever thread that runs.
        found = list(self._module.session(self._uri, self._pin_file).get_objects(wanted))
        if not found:
            raise NoSuchKey
        if len(found) > 1:
            raise Unavailable(f"{self.name} is not one key: its token has {len(found)} of that name")
        key = found[0]
        if key[Attribute.EXTRACTABLE] or not key[Attribute.SENSITIVE]:
            raise Unavailable(f"{self.name} may leave its token: it must be sensitive and not extractable")
        if key[Attribute.VALUE_LEN] != 32:  # noqa: PLR2004 - AES-256
            raise Unavailable(f"{self.name} is not an AES key of 256 bits")
        return key

    def _open(self, root: Any, wrapped: bytes, bound_to: bytes) -> bytes:
        from pkcs11.exceptions import PKCS11Error  # noqa: PLC0415

        try:
            return _decrypt(root, wrapped, bound_to)
        except PKCS11Error:
            # Modules have no common word for a tag that does not hold: SoftHSM's is that of a broken token. So whether
            # the key opens what it sealed a moment ago tells which it was.
            _decrypt(root, _encrypt(root, bytes(_IV), bound_to), bound_to)
        try:
            return _decrypt(root, wrapped, bound_to)  # the trouble may have passed before that
        except PKCS11Error as error:
            raise KeyUnavailable(f"{self.name} does not open it") from error


def _encrypt(root: Any, plain: bytes, bound_to: bytes) -> bytes:
    from pkcs11 import GCMParams, Mechanism  # noqa: PLC0415

    iv = os.urandom(_IV)
    sealed = root.encrypt(plain, mechanism=Mechanism.AES_GCM, mechanism_param=GCMParams(iv, bound_to))
    return iv + bytes(sealed)


def _decrypt(root: Any, sealed: bytes, bound_to: bytes) -> bytes:
    from pkcs11 import GCMParams, Mechanism  # noqa: PLC0415

    parameters = GCMParams(sealed[:_IV], bound_to)
    return bytes(root.decrypt(sealed[_IV:], mechanism=Mechanism.AES_GCM, mechanism_param=parameters))
