"""Files that hold secrets: nobody but their owner may read them."""

import os
import stat
from pathlib import Path

from retention.errors import SettingsError


def read_secret(path: Path) -> bytes:
    """Return the content of a secret's file, without surrounding white space. Raises what `read_private` raises."""
    return read_private(path).strip()


def read_private(path: Path) -> bytes:
    """Return the content of a file. Raises SettingsError when it is missing, or others than its owner may read it."""
    try:
        with path.open("rb") as file:
            if stat.S_IMODE(os.fstat(file.fileno()).st_mode) & 0o077:
                raise SettingsError(f"{path} can be read by others: make it 0600")
            return file.read()
    except OSError as error:
        raise SettingsError(f"{path} cannot be read: {error.strerror}") from error
