"""Which URLs and addresses callbacks may have, by form and by number; nothing here is dialled."""

import ipaddress
import string
from urllib.parse import urlsplit

import psutil
import pytest
from hypothesis import given, settings, strategies as st

from retention import errors
from retention.addresses import is_this_machine, may_reach
from retention.egress import _to_yarl, check_url, origin, parse_networks
from retention.errors import Denied, SettingsError, Unreachable
from retention.settings import load
from retention.urls import take_apart
from tests.hostile_urls import ADDRESSES, DIALLED, MALFORMED, NAMES, at

EVERYTHING = (ipaddress.ip_network("0.0.0.0/0"), ipaddress.ip_network("::/0"))


@pytest.mark.parametrize("url", MALFORMED, ids=lambda url: ascii(url)[:60])
def test_a_malformed_url_is_denied(url: str) -> None:
    """Whatever is hostile about it, the error is the same."""
    for function in (check_url, origin):
        with pytest.raises(Denied) as denied:
            function(at(url, 8080))
        assert str(denied.value) == "the callback URL is not allowed"
        assert denied.value.__cause__ is None


@pytest.mark.parametrize("url", DIALLED, ids=lambda url: ascii(url)[:60])
def test_a_good_form_says_nothing_of_the_address(url: str) -> None:
    """What these URLs lead to is judged when it is dialled."""
    check_url(at(url, 8080))


@pytest.mark.parametrize(
    ("url", "expected"),
    [
        ("http://example.com", "http://example.com:80"),
        ("HTTPS://Example.COM./path?query", "https://example.com:443"),
        ("https://example.com:8443/", "https://example.com:8443"),
        ("http://b\u00fccher.example/\u00fc", "http://xn--bcher-kva.example:80"),
        ("http://b\u00fccher.EXAMPLE/", "http://xn--bcher-kva.example:80"),
        ("http://XN--bcher-kva.example/", "http://xn--bcher-kva.example:80"),
        ("http://fa\u00df.example/", "http://xn--fa-hia.example:80"),
        ("http://93.184.216.34/", "http://93.184.216.34:80"),
        ("http://[2606:4700:0:0::1111]:8080/", "http://[2606:4700::1111]:8080"),
        ("http://a_b.example:1/", "http://a_b.example:1"),
        ("http://receiver:65535/", "http://receiver:65535"),
        ("http://1.example/", "http://1.example:80"),
        ("http://0x7f.example/", "http://0x7f.example:80"),
        ("http://" + "a" * 63 + ".example?" + "q" * 1900, "http://" + "a" * 63 + ".example:80"),
    ],
)
def test_a_receiver_has_one_origin(url: str, expected: str) -> None:
    """Case, the default port, IDNA, the dot of the root and the spelling of an address make no difference."""
    assert origin(url) == expected
    check_url(url)


@pytest.mark.parametrize(
    ("url", "target"),
    [
        ("http://x.example", "/"),
        ("http://x.example?", "/?"),
        ("http://x.example?a=b", "/?a=b"),
        ("http://x.example/?", "/?"),
        ("http://x.example/a?", "/a?"),
        ("http://x.example/../a/./b//c", "/../a/./b//c"),
        ("http://x.example/%7e%2F%2f%zz%", "/%7e%2F%2f%zz%"),
        ("http://x.example/a+b;c=d,e?x=%20+y&&=&x='\"<>^`{|}", "/a+b;c=d,e?x=%20+y&&=&x='\"<>^`{|}"),
        ("http://x.example/?a?b?/c:d@e[0]=1", "/?a?b?/c:d@e[0]=1"),
        ("http://x.example/@localhost:1/", "/@localhost:1/"),
        ("http://x.example/\u00fc?\u00fc=%C3%BC", "/%C3%BC?%C3%BC=%C3%BC"),
    ],
)
def test_the_target_is_sent_as_it_was_given(url: str, target: str) -> None:
    """Byte for byte; only what a request cannot hold is encoded."""
    assert _to_yarl(take_apart(url)).raw_path_qs == target


ODD = st.text(st.sampled_from(string.printable + "\u00fc\u017f\uff0e\u3002\u2100\uff11"), max_size=12)
HOSTS = st.one_of(
    ODD,
    st.sampled_from([*NAMES, *(host for hosts in ADDRESSES.values() for host in hosts), "example.com", "[::1]"]),
    st.ip_addresses().map(str),
    st.ip_addresses(v=6).map(lambda address: f"[{address}]"),
    st.from_regex(r"\A(0x)?[0-9a-f]{1,9}(\.(0x)?[0-9a-f]{1,4}){0,4}\Z"),
)


@settings(max_examples=2000)
@given(st.builds("{}{}{}{}{}".format, st.sampled_from(["http://", "https://", "HTTP:"]), ODD, HOSTS, ODD, ODD))
def test_no_parser_reads_another_host_than_the_one_dialled(url: str) -> None:
    """What is not denied has one host: ours, the one that aiohttp dials, and the one the standard library sees."""
    try:
        parts = take_apart(url)
    except Denied:
        return
    wanted = _to_yarl(parts)
    assert (wanted.raw_host, wanted.port, wanted.scheme) == (parts.host, parts.port, parts.scheme)
    assert (wanted.raw_user, wanted.raw_password, wanted.raw_fragment) == (None, None, "")
    other = urlsplit(url)
    assert other.port in {parts.port, None}
    assert other.username is None
    if url.isascii() and ":" not in parts.host:
        assert other.hostname == parts.host


@settings(max_examples=2000)
@given(st.text(max_size=40))
def test_any_text_is_a_url_or_denied(text: str) -> None:
    """Nothing else is ever raised."""
    for url in (text, f"http://{text}", f"http://x.example{text}", f"http://{text}.example/"):
        try:
            origin(url)
        except Denied:
            continue


@pytest.mark.parametrize("host", [host for hosts in ADDRESSES.values() for host in hosts])
def test_a_hostile_address_may_not_be_reached(host: str) -> None:
    """None of them, by any spelling."""
    assert not may_reach(host.strip("[]"), networks=(), loopback=False)


@pytest.mark.parametrize(
    "host",
    [
        *ADDRESSES["IPv4 in IPv6"],
        *ADDRESSES["metadata"],
        *("0.0.0.1", "169.254.1.1", "[fe80::1]", "[fec0::1]", "[::]", "224.0.0.1", "[ff02::1]", "255.255.255.255"),
    ],
)
def test_some_addresses_are_never_reached(host: str) -> None:
    """Whatever the operator allows."""
    assert not may_reach(host.strip("[]"), networks=EVERYTHING, loopback=True)


@pytest.mark.parametrize("public", ["1.1.1.1", "93.184.216.34", "223.255.255.254", "2606:4700::1111", "2a00:1450::1"])
def test_a_public_address_may_be_reached(public: str) -> None:
    """Without being named."""
    assert may_reach(public, networks=(), loopback=False)


@pytest.mark.parametrize(
    "text", ["", "localhost", "1.1.1.1%1", "2606:4700::1111%1", "127.1", "0x7f.1", "1.1.1.1 ", "\x00"]
)
def test_what_is_no_plain_address_may_not_be_reached(text: str) -> None:
    """However it comes to be asked."""
    assert not may_reach(text, networks=EVERYTHING, loopback=True)


def test_loopback_is_allowed_by_its_own_setting_only() -> None:
    """A network does not open it, and it opens no other way to the same machine."""
    for address in ("127.0.0.1", "127.1.2.3", "::1"):
        assert may_reach(address, networks=(), loopback=True)
        assert not may_reach(address, networks=EVERYTHING, loopback=False)
    assert not may_reach("::ffff:127.0.0.1", networks=EVERYTHING, loopback=True)


def test_a_network_is_allowed_up_to_its_borders() -> None:
    """And nothing besides."""
    networks = parse_networks(" 10.1.0.0/16\tfd00:1::/64 ")
    for address, allowed in {
        "10.1.0.0": True,
        "10.1.255.255": True,
        "10.0.255.255": False,
        "10.2.0.0": False,
        "fd00:1::1": True,
        "fd00:1:0:1::1": False,
        "::ffff:10.1.0.1": False,
        "64:ff9b::10.1.0.1": False,
    }.items():
        assert may_reach(address, networks=networks, loopback=False) is allowed


def test_the_machine_knows_its_own_addresses() -> None:
    """All of its interfaces, and no other."""
    mine = [
        each.address for addresses in psutil.net_if_addrs().values() for each in addresses if each.family in (2, 10)
    ]
    assert "127.0.0.1" in mine
    for address in mine:
        if "%" not in address:
            assert is_this_machine(ipaddress.ip_address(address))
    for address in ("192.0.2.1", "2001:db8::1", "8.8.8.8"):
        assert not is_this_machine(ipaddress.ip_address(address))


@pytest.mark.parametrize(
    "text",
    [
        *("10.1.0.1/16", "10.1/16", "10.0.0.0/33", "ten", "10.0.0.0/8,10.1.0.0/16", "[fd00::]/64", "fe80::1%1/128"),
        *(
            "0.0.0.0/0",
            "::/0",
            "127.0.0.0/8",
            "127.0.0.1",
            "127.0.0.1/32",
            "::1",
            "::1/128",
            "0.0.0.0/32",
            "::",
            "::/8",
        ),
        *("169.254.0.0/16", "169.254.169.254", "169.254.169.254/32", "fe80::/10", "fe80::/64", "fc00::/7", "fd00::/8"),
        *("fd00:ec2::254", "fd00:ec2::/64", "100.64.0.0/10", "100.100.100.200/32", "168.63.129.16", "128.0.0.0/1"),
        *(
            "224.0.0.0/8",
            "239.0.0.0/24",
            "ff02::/16",
            "240.0.0.0/4",
            "::ffff:10.0.0.0/104",
            "64:ff9b::/96",
            "2002::/16",
        ),
        *("2001::/16", "2000::/3", "10.1.0.0/16 127.0.0.0/8"),
    ],
)
def test_a_network_that_cannot_be_allowed_is_refused(text: str) -> None:
    """At the start, by a sentence that names it."""
    with pytest.raises(SettingsError, match="callback_networks: ") as refused:
        parse_networks(text)
    assert text.rsplit(maxsplit=1)[-1] in str(refused.value)
    with pytest.raises(SettingsError):
        load({"VOLANT_CALLBACK_NETWORKS": text})


def test_no_network_is_allowed_by_default() -> None:
    """And this machine is not."""
    assert parse_networks("") == ()
    assert (load({}).callback_networks, load({}).callback_loopback) == ("", False)


def test_the_errors_say_one_thing_each() -> None:
    """They take no text, so no caller can say more by them."""
    for error in (Denied, Unreachable):
        assert issubclass(error, errors.RetentionError)
        with pytest.raises(TypeError):
            error("10.0.0.1 is private")  # type: ignore[call-arg]
