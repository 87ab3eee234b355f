"""Where a request came in, and from whom: told by the listener and the connection, and by proxies that it trusts.

Of a listener's trusted proxies `X-Forwarded-For` and `X-Forwarded-Proto` are believed, which every proxy can be made
to write; `Forwarded` (RFC 7239) is not read, since most pass it on as the client has sent it. From anybody else they
are nothing. aiohttp-remotes was no help: of its two ways to know a proxy one believes whoever connects, the other
wants the exact number of hops; and neither knows of listeners.
"""

from collections.abc import Iterator
from ipaddress import IPv6Address, ip_address
from typing import Protocol, cast

from aiohttp import web
from msgspec import Struct

from retention.addresses import Address, Network, parse_cidrs, within
from retention.listening import Kind, Listener


class Endpoint(Struct, frozen=True, kw_only=True):
    """What requests need to know of the listener that they came in by."""

    kind: Kind
    host: str
    proxies: tuple[Network, ...]

    @classmethod
    def of(cls, listener: Listener) -> "Endpoint":
        """Return that of a listener."""
        return cls(
            kind=listener.kind,
            host=listener.host,
            proxies=parse_cidrs(listener.trusted_proxies, of="trusted_proxies"),
        )


class _Connection(Protocol):
    endpoint: Endpoint

    def admit(self) -> None: ...


def endpoint_of(request: web.BaseRequest) -> Endpoint:
    """Return where a request came in."""
    return cast("_Connection", request.protocol).endpoint


def keep(request: web.BaseRequest) -> None:
    """Have the connection of a request make room for no other until it is answered."""
    cast("_Connection", request.protocol).admit()


def client_of(request: web.BaseRequest) -> Address | None:
    """Return the client's address: the nearest hop that is none of the proxies; None if it is not known.

    A hop that cannot be read is not known, and neither is what lies behind it.
    """
    proxies = endpoint_of(request).proxies
    hop = _address(request.remote or "")
    hops = _forwarded_for(request)
    while hop is not None and within(hop, proxies) and (text := next(hops, None)) is not None:
        hop = _address(text)
    return hop


def scheme_of(request: web.BaseRequest) -> str:
    """Return the scheme that the client has used: `https` or `http`."""
    peer = _address(request.remote or "")
    if peer is not None and within(peer, endpoint_of(request).proxies):
        told = ",".join(request.headers.getall("X-Forwarded-Proto", [])).rpartition(",")[2].strip().lower()
        if told in ("http", "https"):
            return told
    return request.scheme


def _forwarded_for(request: web.BaseRequest) -> Iterator[str]:
    """Yield the hops from the nearest to the farthest. Several headers are one list (RFC 9110 §5.3)."""
    for text in reversed(",".join(request.headers.getall("X-Forwarded-For", [])).split(",")):
        if text.strip():
            yield text.strip()


def _address(text: str) -> Address | None:
    """Return the address in the notation of a hop, a port left out; one of IPv4 within IPv6 is that of IPv4."""
    if text.startswith("["):
        text = text[1:].partition("]")[0]
    elif text.count(":") == 1:
        text = text.partition(":")[0]
    try:
        address = ip_address(text)
    except ValueError:
        return None
    return (address.ipv4_mapped or address) if isinstance(address, IPv6Address) else address
