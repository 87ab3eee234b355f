"""The root key in a file of its own: the embedded default."""

import base64
import binascii
import os
import tempfile
from pathlib import Path
from typing import Self

from retention.errors import KeyUnavailable, SettingsError, Unsealable
from retention.private_files import read_secret
from retention.seal import Context, Key, seal, unseal


class FileRoot:
    """Wraps with a key that this process read from its file at the start, and holds."""

    name = "file"

    def __init__(self, key: Key) -> None:
        self._key = key

    @classmethod
    def open(cls, path: Path, *, create: bool) -> Self:
        """Return the root in this file. Raises SettingsError as `read_root_key` does."""
        return cls(read_root_key(path, create=create))

    async def wrap(self, key: Key, context: Context) -> bytes:
        """Return the key, sealed."""
        return seal(self._key, key.raw(), context)

    async def unwrap(self, wrapped: bytes, context: Context) -> Key:
        """Return the key. Raises KeyUnavailable."""
        try:
            return Key(unseal(self._key, wrapped, context))
        except (Unsealable, ValueError) as error:
            raise KeyUnavailable("the root key file does not open it") from error

    async def check(self) -> None:
        """Return: the key is at hand."""

    async def close(self) -> None:
        """Do nothing: nothing is open."""


def read_root_key(path: Path, *, create: bool) -> Key:
    """Return the root key. Raises SettingsError when it is missing, malformed or open to others.

    With `create`, a missing one is made first; processes that start together agree on one.
    """
    if create and not path.exists():
        _make_root_key(path)
    try:
        return Key(base64.b64decode(read_secret(path), validate=True))
    except (binascii.Error, ValueError) as error:
        raise SettingsError(f"root_key_file: {path} does not hold 32 bytes in base64") from error


def _make_root_key(path: Path) -> None:
    path.parent.mkdir(parents=True, exist_ok=True, mode=0o700)
    descriptor, name = tempfile.mkstemp(prefix=f".{path.name}.", dir=path.parent)  # of mode 0600
    draft = Path(name)
    try:
        with os.fdopen(descriptor, "wb") as file:
            file.write(base64.b64encode(Key.random().raw()) + b"\n")
            file.flush()
            os.fsync(file.fileno())
        try:
            path.hardlink_to(draft)
        except FileExistsError:
            return  # another process was first; its key stands
        directory = os.open(path.parent, os.O_RDONLY)
        try:
            os.fsync(directory)
        finally:
            os.close(directory)
    finally:
        draft.unlink()
