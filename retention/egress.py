"""The one way in which Volant's processes make requests to callback receivers (spec 3.1, 3.5).

Receivers are chosen by clients and may be hostile: a URL may name a machine of ours, its name may
resolve to another address each time, and the reply may be endless, slow or no HTTP. So

- a URL is taken apart by one strict grammar, and aiohttp is given the parts: no second parser can read
  another host out of it (`urls`);
- whether an address is allowed is decided where its socket is made, for each attempt to connect:
  numbers, names, names that change their address, and every address of a name pass there (`addresses`);
- nothing is followed, repeated, inflated, stored, or taken from the environment, and one deadline
  holds for everything.

`Denied` and `Unreachable` carry one fixed text each and no cause. How long a refusal took still tells
something: whoever answers a client has to even that out.
"""

import asyncio
import errno
import io
import socket
import ssl
from collections.abc import Callable, Mapping
from concurrent.futures import ThreadPoolExecutor
from datetime import timedelta
from typing import Self
from urllib.parse import quote

import aiohttp
from aiohttp.abc import AbstractResolver, ResolveResult
from msgspec import Struct
from yarl import URL

from retention.addresses import Network, may_reach, parse_networks
from retention.errors import Denied, Unreachable
from retention.urls import Parts, check_url, in_brackets, origin, take_apart

__all__ = ["LARGEST", "Denied", "Egress", "Reply", "Unreachable", "check_url", "origin", "parse_networks"]

LARGEST = 64 << 10
"""Bytes of a reply's body that are read; the rest is cut."""

_ADDRESSES = 4  # of one name; each refused connection makes aiohttp go through the remaining ones again


class Reply(Struct, frozen=True):
    """What a receiver answered. The body is cut at LARGEST, and is as it was sent: not inflated."""

    status: int
    body: bytes


class Egress:
    """Makes requests to receivers, as a context manager; `at_once` bounds its open connections.

    `networks` may be reached although they are not public; `loopback` lets requests reach this machine.
    TLS is verified for the URL's name, against the certificates of the system or of `SSL_CERT_FILE`.
    """

    _session: aiohttp.ClientSession

    def __init__(self, *, networks: tuple[Network, ...] = (), loopback: bool = False, at_once: int = 100) -> None:
        self._networks = networks
        self._loopback = loopback
        self._at_once = at_once

    async def __aenter__(self) -> Self:
        connector = aiohttp.TCPConnector(
            socket_factory=self._make_socket,
            resolver=_Resolver(self._may_reach, self._at_once),
            use_dns_cache=False,
            force_close=True,
            limit=self._at_once,
            ssl=ssl.create_default_context(),
        )
        self._session = aiohttp.ClientSession(
            connector=connector,
            cookie_jar=aiohttp.DummyCookieJar(),
            headers={"User-Agent": "volant", "Accept-Encoding": "identity"},
            skip_auto_headers=("Content-Type",),
            timeout=aiohttp.ClientTimeout(total=None),  # aiohttp rounds long ones up to whole seconds
            trust_env=False,
            auto_decompress=False,
            max_line_size=4096,
            max_field_size=8190,
            max_headers=100,
            middlewares=(_never_again,),
        )
        return self

    async def __aexit__(self, *_: object) -> None:
        await self._session.close()

    async def get(self, url: str, *, headers: Mapping[str, str], within: timedelta) -> Reply:
        """Ask once and return the reply; `within` is for all of it, looking up the name included.

        Raises Denied for a URL, or for the address of its name, that callbacks may not have, and
        Unreachable when there is no whole reply in time.
        """
        return await self._ask("GET", url, None, headers, within)

    async def post(self, url: str, body: bytes, *, headers: Mapping[str, str], within: timedelta) -> Reply:
        """Send these bytes once and return the reply, as `get` does."""
        return await self._ask("POST", url, body, headers, within)

    async def _ask(
        self, method: str, url: str, body: bytes | None, headers: Mapping[str, str], within: timedelta
    ) -> Reply:
        wanted = _to_yarl(take_apart(url))
        try:
            async with asyncio.timeout(within.total_seconds()):
                # As a file, so that aiohttp sends a large body in pieces and the loop goes on meanwhile.
                data = None if body is None else io.BytesIO(body)
                response = await self._session.request(
                    method, wanted, data=data, headers=headers, allow_redirects=False
                )
                try:
                    return Reply(response.status, await _read(response.content))
                finally:
                    response.close()  # and does not wait for a receiver that never reads all of our body
        except aiohttp.ClientConnectorError as error:
            raise (Denied() if isinstance(error.os_error, _NotAllowed) else Unreachable()) from None
        except (aiohttp.ClientError, OSError, ValueError):  # TimeoutError is an OSError
            raise Unreachable from None

    def _may_reach(self, address: str) -> bool:
        return may_reach(address, networks=self._networks, loopback=self._loopback)

    def _make_socket(self, dialled: aiohttp.AddrInfoType) -> socket.socket:
        """Make the socket for one attempt to connect, if its address is allowed: the guard that nothing gets past."""
        family, kind, protocol, _, address = dialled
        if not self._may_reach(str(address[0])):
            raise _NotAllowed
        return socket.socket(family, kind, protocol)


class _NotAllowed(OSError):
    """The error that becomes Denied; an OSError, because aiohttp hands on no other."""

    def __init__(self) -> None:
        super().__init__(errno.EACCES, "not allowed")


class _Resolver(AbstractResolver):
    """Looks names up in threads of its own.

    A name server of a client's may be as slow as it likes; in the loop's threads it would hold up the
    files that share them. Addresses that may not be reached are left out, so that a name is refused
    only when it has no other; they would be refused at the socket anyway.
    """

    def __init__(self, may_reach: Callable[[str], bool], at_once: int) -> None:
        self._may_reach = may_reach
        self._threads = ThreadPoolExecutor(at_once, thread_name_prefix="lookup")

    async def resolve(
        self, host: str, port: int = 0, family: socket.AddressFamily = socket.AF_UNSPEC
    ) -> list[ResolveResult]:
        found = await asyncio.get_running_loop().run_in_executor(
            self._threads,
            lambda: socket.getaddrinfo(host, port, family, socket.SOCK_STREAM, 0, socket.AI_ADDRCONFIG),
        )
        allowed = [each for each in found if self._may_reach(str(each[4][0]))]
        if not allowed:
            raise _NotAllowed
        return [
            ResolveResult(hostname=host, host=str(address[0]), port=port, family=kind, proto=0, flags=0)
            for kind, _, _, _, address in allowed[:_ADDRESSES]
        ]

    async def close(self) -> None:
        self._threads.shutdown(wait=False, cancel_futures=True)


async def _never_again(request: aiohttp.ClientRequest, send: aiohttp.ClientHandlerType) -> aiohttp.ClientResponse:
    """Keep aiohttp from repeating a GET whose connection broke: a receiver is asked once (spec 3.1)."""
    try:
        return await send(request)
    except (aiohttp.ClientOSError, aiohttp.ServerDisconnectedError) as error:
        if isinstance(error, aiohttp.ClientConnectorError):
            raise
        raise Unreachable from None


async def _read(content: aiohttp.StreamReader) -> bytes:
    """Return the body, up to LARGEST bytes."""
    body = bytearray()
    while len(body) < LARGEST and (piece := await content.read(LARGEST - len(body))):
        body += piece
    return bytes(body)


def _to_yarl(parts: Parts) -> URL:
    """Return the form in which aiohttp takes a URL and sends its target byte for byte.

    The query goes into the path, because yarl would drop the `?` of an empty one. Only characters
    outside ASCII, which a request cannot hold, are encoded (RFC 3987 §3.1).
    """
    scheme, host, port, target = parts
    path = "".join(character if character.isascii() else quote(character) for character in target)
    path = path if path.startswith("/") else f"/{path}"
    return URL.build(scheme=scheme, host=in_brackets(host), port=port, path=path, encoded=True)
