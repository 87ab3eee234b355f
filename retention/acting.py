"""Who acts, and in which request: what the audit log says of everything that comes to pass there.

It goes with the context of a task (`contextvars`), as the request's own log line does: the front names the request
before anything is done in it, and whoever looks up a credential names the API key; a command names its user.
"""

import os
import pwd
import uuid
from contextvars import ContextVar

from msgspec import Struct
from msgspec.structs import replace


class Acting(Struct, frozen=True, kw_only=True):
    """`actor` is "apikey:" and a public id, "operator:" and a user name of the host, "service", or "" for nobody."""

    actor: str = "service"
    transaction: str = ""
    """The id of the request, as its answer and its log line bear it; of a command a random one."""


_acting: ContextVar[Acting] = ContextVar("acting", default=Acting())  # noqa: B039 - it is frozen


def acting() -> Acting:
    """Return who acts. Outside of requests and commands that is the service itself."""
    return _acting.get()


def begin_request(transaction: str) -> None:
    """Say which request this task serves from now on. Nobody is known to act in it yet."""
    _acting.set(Acting(actor="", transaction=transaction))


def act_as_key(key_id: str) -> None:
    """Say by which API key, of this public id, the request is made."""
    _acting.set(replace(_acting.get(), actor=f"apikey:{key_id}"))


def act_as_operator() -> None:
    """Say that the user of the host who runs this process acts: by the system's list, no variable counts."""
    user = os.getuid()
    try:
        name = ascii(pwd.getpwuid(user).pw_name)[1:-1]
    except KeyError:
        name = str(user)
    _acting.set(Acting(actor=f"operator:{name}", transaction=uuid.uuid4().hex))
