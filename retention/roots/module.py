"""A PKCS #11 module in this process, and its sessions.

What a module knows is the process's: there is one of each module, a login counts for all sessions on
a token, and starting the module anew ends them all. So roots that share a module share this, and all
calls are made from its one thread, which is what modules are initialised for here.
"""

from concurrent.futures import ThreadPoolExecutor
from contextlib import suppress
from pathlib import Path
from typing import TYPE_CHECKING

from retention.errors import SettingsError, Unavailable
from retention.private_files import read_secret
from retention.roots.token_uri import TokenUri

if TYPE_CHECKING:
    import pkcs11
    from pkcs11._pkcs11 import lib as Library  # noqa: N812 - a class


class Module:
    """One module of this process. `restart` and `session` are called in its thread only."""

    _all: "dict[Path, Module]" = {}  # noqa: RUF012 - the process's

    def __init__(self, path: Path) -> None:
        self.thread = ThreadPoolExecutor(1, thread_name_prefix="pkcs11")
        self.users = 0
        self._path = path
        self._library: Library | None = None
        self._sessions: dict[tuple[str | None, bytes | None], pkcs11.Session] = {}
        self._refused: dict[int, str] = {}

    @classmethod
    def of(cls, path: Path) -> "Module":
        """Return the module at this path, which is to be released when it is not used any more."""
        module = cls._all.get(path) or cls._all.setdefault(path, cls(path))
        module.users += 1
        return module

    def release(self) -> None:
        """Give the module up; when nobody uses it, it forgets the logins. It stays, and with it the thread."""
        self.users -= 1
        if self.users == 0:
            self.thread.submit(self._stop)

    def restart(self) -> "Library":
        """Start the module, anew if it was: only then does it notice a token that went or came. Raises PKCS11Error."""
        import pkcs11  # noqa: PLC0415 - an extra

        self._stop()
        self._library = pkcs11.lib(str(self._path))
        return self._library

    def session(self, uri: TokenUri, pin_file: Path) -> "pkcs11.Session":
        """Return a session on the token, logged in. Raises PKCS11Error, or Unavailable when the PIN is wrong."""
        from pkcs11.exceptions import PinExpired, PinIncorrect, PinInvalid, PinLenRange, PinLocked  # noqa: PLC0415

        place = (uri.token, uri.serial)
        if place in self._sessions:
            return self._sessions[place]
        library = self._library or self.restart()
        token = library.get_token(token_label=uri.token, token_serial=uri.serial)
        slot = token.slot.slot_id
        for session in self._sessions.values():
            if session.token.slot.slot_id == slot:  # the same token by its other name: a second login is refused
                return self._sessions.setdefault(place, session)
        try:
            pin = read_secret(pin_file).decode()
        except (SettingsError, UnicodeDecodeError) as error:
            raise Unavailable(f"root_credentials_file: {pin_file} holds no PIN that can be read") from error
        # A token locks itself after a few wrong PINs: a wrong one is not sent twice.
        if self._refused.get(slot) == pin:
            raise Unavailable(f"the token refused the PIN in {pin_file}, which is not sent again until it is changed")
        try:
            return self._sessions.setdefault(place, token.open(user_pin=pin))
        except (PinExpired, PinIncorrect, PinInvalid, PinLenRange, PinLocked) as error:
            self._refused[slot] = pin
            raise Unavailable(f"the token refuses the PIN in {pin_file}: {type(error).__name__}") from error

    def _stop(self) -> None:
        from pkcs11.exceptions import PKCS11Error  # noqa: PLC0415

        library, self._library = self._library, None
        self._sessions.clear()
        if library is not None:
            with suppress(PKCS11Error):  # it may have stopped by itself
                library.finalize()
