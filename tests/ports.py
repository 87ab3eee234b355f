"""A port that stays one's own."""

import socket
from collections.abc import Iterator
from contextlib import contextmanager


@contextmanager
def reserved_port() -> Iterator[int]:
    """Give a port of this machine at which nobody listens, and which nobody else is given while the block lasts.

    A server that is told of it may listen there meanwhile, as all do that set SO_REUSEADDR (socket(7)).
    """
    with socket.socket() as held:
        held.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        held.bind(("127.0.0.1", 0))
        yield int(held.getsockname()[1])
