"""The form of a callback URL: one strict grammar, and what it gives. Nothing is looked up here.

Stricter than RFC 3986 and the WHATWG's URL standard wherever the two, or parsers, disagree: a URL that
could mean two things is refused. So is every host that getaddrinfo would take for a number.
"""

import re
from ipaddress import IPv4Address, IPv6Address
from typing import NamedTuple

import idna

from retention.errors import Denied

_LONGEST_URL = 2048
_LONGEST_HOST = 253  # RFC 1035 §2.3.4, without the dot at the end
_LARGEST_PORT = 65535

# Always with ASCII: otherwise the long s passes for an s, and other digits for digits.
_URL = re.compile(
    r"(https?)://(\[[0-9a-f:.]+\]|[^/?:\[\]]+)(?::([1-9][0-9]{0,4}))?([/?][^#]*)?",
    re.ASCII | re.IGNORECASE,
)
_LABEL = r"[a-z0-9_](?:[a-z0-9_-]{0,61}[a-z0-9_])?"
_NAME = re.compile(rf"{_LABEL}(?:\.{_LABEL})*\.?", re.ASCII)
# What ends so is an IPv4 address, or nothing (WHATWG URL §3.5, "ends in a number").
_NUMERIC = re.compile(r"(?:.*\.)?(?:[0-9]+|0x[0-9a-f]*)\.?", re.ASCII)


class Parts(NamedTuple):
    """A URL that callbacks may have: its host as it is dialled, without brackets; path and query as given."""

    scheme: str
    host: str
    port: int
    target: str


def check_url(url: str) -> None:
    """Raise Denied if callbacks may not have this form. Looks nothing up: the address is judged when dialled."""
    take_apart(url)


def origin(url: str) -> str:
    """Return `scheme://host:port` in one spelling for all URLs of a receiver. Raises Denied like `check_url`."""
    scheme, host, port, _ = take_apart(url)
    return f"{scheme}://{in_brackets(host.removesuffix('.'))}:{port}"


def take_apart(url: str) -> Parts:
    """Return the parts of a URL that callbacks may have; raises Denied for any other."""
    # White space, controls and what is invisible is not printable; parsers disagree about backslashes.
    if not url.isprintable() or " " in url or "\\" in url or len(url.encode()) > _LONGEST_URL:
        raise Denied
    if not (found := _URL.fullmatch(url)):
        raise Denied
    scheme, host, port, target = found.groups()
    scheme = scheme.lower()
    number = int(port) if port else {"http": 80, "https": 443}[scheme]
    if number > _LARGEST_PORT:
        raise Denied
    return Parts(scheme, _host(host), number, target or "/")


def _host(text: str) -> str:
    """Return the host as it is dialled: an address, or a name in ASCII and in lower case. Raises Denied."""
    host = "".join(character.lower() if character.isascii() else character for character in text)
    try:
        if host.startswith("["):
            return IPv6Address(host[1:-1]).compressed
        if not host.isascii():
            host = idna.encode(host, strict=True).decode()  # strict: what only looks like ASCII stays refused
        if _NUMERIC.fullmatch(host):
            return str(IPv4Address(text))
    except ValueError:
        raise Denied from None
    if not _NAME.fullmatch(host) or len(host.removesuffix(".")) > _LONGEST_HOST:
        raise Denied
    return host


def in_brackets(host: str) -> str:
    """Return the host as it stands in a URL."""
    return f"[{host}]" if ":" in host else host
