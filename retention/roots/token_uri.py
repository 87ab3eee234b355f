"""Where a PKCS #11 key is: the part of RFC 7512's URIs that names a module, a token and a key in it."""

import re
from pathlib import Path
from typing import Self
from urllib.parse import quote, unquote, unquote_to_bytes

from msgspec import Struct

from retention.errors import SettingsError

_ESCAPES = re.compile(r"(?:[^%]|%[0-9A-Fa-f]{2})*")
_PLACES = frozenset({"token", "serial", "object", "id"})


class TokenUri(Struct, frozen=True, kw_only=True):
    """A key by its label or id, in a token by its label or serial number, reached by a module of its maker."""

    module: Path
    token: str | None = None
    serial: bytes | None = None
    object: str | None = None
    id: bytes | None = None

    @classmethod
    def parse(cls, text: str) -> Self:
        """Read a URI such as `pkcs11:token=volant;object=root?module-path=/usr/lib/softhsm/libsofthsm2.so`.

        Raises SettingsError. A PIN in it is refused: settings hold no secrets.
        """
        path, _, query = text.removeprefix("pkcs11:").partition("?")
        place, how = _attributes(path, ";"), _attributes(query, "&")
        if how.keys() & {"pin-value", "pin-source"}:
            raise SettingsError("root: the PIN belongs into a file of its own, named in root_credentials_file")
        if place.keys() - _PLACES or how.keys() != {"module-path"}:
            raise SettingsError("root: a pkcs11: URI has token or serial, object or id, and after ? its module-path")
        if not place.keys() & {"token", "serial"} or not place.keys() & {"object", "id"}:
            raise SettingsError("root: a pkcs11: URI must name the token (or serial) and the object (or id)")
        return cls(
            module=Path(unquote(how["module-path"])),
            token=unquote(place["token"]) if "token" in place else None,
            serial=unquote_to_bytes(place["serial"]) if "serial" in place else None,
            object=unquote(place["object"]) if "object" in place else None,
            id=unquote_to_bytes(place["id"]) if "id" in place else None,
        )

    @property
    def name(self) -> str:
        """The name of the root that is there, without what is of this machine only."""
        token = self.serial if self.token is None else self.token
        key = self.id if self.object is None else self.object
        return f"pkcs11/{quote(token or '', safe='')}/{quote(key or '', safe='')}"


def _attributes(text: str, separator: str) -> dict[str, str]:
    """Return what is between the separators. Raises SettingsError for a part without a value, or twice the same."""
    parts = [part.partition("=") for part in text.split(separator) if part]
    found = {name: value for name, _, value in parts}
    if len(found) < len(parts) or not all(found.values()) or not _ESCAPES.fullmatch(text):
        raise SettingsError("root: a pkcs11: URI has each attribute once, with a value, as RFC 7512 has it")
    return found
