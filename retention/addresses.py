"""Networks as settings name them, and which addresses callbacks may reach; without any network of its own.

For callbacks a list of what is allowed (IPv4 without the blocks below, IPv6 of 2000::/3 without those), because
`ipaddress.is_global` calls multicast, NAT64, 6to4 and parts of 192.0.0.0/24 global. Sources: the IANA
special-purpose registries (RFC 6890), RFC 6666, RFC 8215, and what clouds document of their metadata.
"""

import ipaddress
import socket
from collections.abc import Iterable
from ipaddress import IPv4Address, IPv4Network, IPv6Address, IPv6Network

from retention.errors import SettingsError

Address = IPv4Address | IPv6Address
Network = IPv4Network | IPv6Network


def _networks(text: str) -> tuple[Network, ...]:
    return tuple(ipaddress.ip_network(word) for word in text.split())


LOOPBACK = _networks("127.0.0.0/8 ::1/128")

NEVER = _networks(
    # Unspecified, multicast and broadcast reach this machine or many; link-local reaches metadata.
    "0.0.0.0/8 224.0.0.0/4 255.255.255.255/32 169.254.0.0/16 fe80::/10 fec0::/10 ff00::/8"
    # IPv4 in IPv6, which would lead around every rule for IPv4: compatible, mapped, translated, NAT64, Teredo, 6to4.
    " ::/96 ::ffff:0:0/96 ::ffff:0:0:0/96 64:ff9b::/96 64:ff9b:1::/48 2001::/32 2002::/16"
    # Metadata outside link-local: AWS, Google, Scaleway, Alibaba, Oracle, Azure.
    " fd00:ec2::/32 fd20:ce::254/128 fd00:42::42/128 100.100.100.200/32 192.0.0.192/32 168.63.129.16/32"
)
"""Not to be reached, whatever the operator allows."""

_NOT_PUBLIC = _networks(
    "10.0.0.0/8 100.64.0.0/10 127.0.0.0/8 172.16.0.0/12 192.0.0.0/24 192.0.2.0/24 192.88.99.0/24 192.168.0.0/16"
    " 198.18.0.0/15 198.51.100.0/24 203.0.113.0/24 240.0.0.0/4"
    " 2001::/23 2001:db8::/32 3ffe::/16 3fff::/20"
)
"""Private, shared, reserved, for benchmarks or for books. The rest of IPv6 is outside _PUBLIC."""

_PUBLIC = _networks("0.0.0.0/0 2000::/3")


def parse_cidrs(text: str, *, of: str) -> tuple[Network, ...]:
    """Return the networks of a text such as "10.1.0.0/16 fd00:1::/64".

    Raises SettingsError for a word that is no network, with a sentence that names it and what it is `of`.
    """
    found = []
    for word in text.split():
        try:
            found.append(ipaddress.ip_network(word))
        except ValueError as error:
            raise SettingsError(f"{of}: {word} is not a network in CIDR form: {error}") from None
    return tuple(found)


def parse_networks(text: str) -> tuple[Network, ...]:
    """Return the networks of the setting `callback_networks`.

    Raises SettingsError likewise, and for a network that holds addresses which callbacks never reach, or
    loopback, which has a setting of its own.
    """
    found = parse_cidrs(text, of="callback_networks")
    for word, network in zip(text.split(), found, strict=True):
        for other in (*LOOPBACK, *NEVER):
            if network.overlaps(other):
                raise SettingsError(f"callback_networks: {word} overlaps {other}, which cannot be allowed")
    return found


def may_reach(text: str, *, networks: tuple[Network, ...], loopback: bool) -> bool:
    """Tell whether a callback may go to this numeric address.

    `networks` are allowed besides what is public; `loopback` allows this machine. An address with a
    zone, and what is no address, is not allowed. This machine's own public addresses are known from its
    interfaces only: one that a router translates to it is not.
    """
    try:
        address = ipaddress.ip_address(text)
    except ValueError:
        return False
    if "%" in text:
        return False
    if within(address, LOOPBACK):  # before NEVER, which has ::1 among the compatible addresses
        return loopback
    if within(address, NEVER):
        return False
    if within(address, networks):
        return True
    public = within(address, _PUBLIC) and not within(address, _NOT_PUBLIC)
    return public and (loopback or not is_this_machine(address))


def is_this_machine(address: Address) -> bool:
    """Tell whether this machine has that address.

    To an address of its own the kernel sends from that same address. Connecting a datagram socket asks
    it without sending anything. No way to the address at all is not this machine.
    """
    family = socket.AF_INET if address.version == 4 else socket.AF_INET6  # noqa: PLR2004 - the version of IP
    try:
        with socket.socket(family, socket.SOCK_DGRAM) as probe:
            probe.connect((str(address), 9))
            return ipaddress.ip_address(probe.getsockname()[0]) == address
    except OSError:
        return False


def within(address: Address, networks: Iterable[Network]) -> bool:
    """Tell whether one of the networks holds the address."""
    return any(address in network for network in networks)
