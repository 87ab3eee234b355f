"""Nothing that is denied is ever dialled, and what is allowed is reached: watched below asyncio, at the sockets."""

import asyncio
import shutil
import subprocess
import sys
from collections.abc import AsyncIterator
from datetime import timedelta
from ipaddress import ip_network

import pytest

from deploy.processes import ROOT
from retention import egress
from retention.egress import Egress, Reply, parse_networks
from retention.errors import Denied, Unreachable
from tests.hostile_urls import ADDRESSES, DIALLED, MALFORMED, NAMES, at
from tests.integration.witness import Server, Witness, answer, serve
from tests.missing import missing

SOON = timedelta(seconds=30)
HEARD = Reply(status=200, body=b"heard")
PUBLIC = ("93.184.216.34", "2606:4700::1111")
EVERYTHING = (ip_network("0.0.0.0/0"), ip_network("::/0"))


@pytest.fixture
def witness(monkeypatch: pytest.MonkeyPatch) -> Witness:
    """Watch, in a world where only the hostile names exist."""
    witness = Witness(monkeypatch)
    witness.names = {name: [addresses] for name, addresses in NAMES.items()}
    return witness


@pytest.fixture
async def server(witness: Witness) -> AsyncIterator[Server]:
    """Serve on loopback, and for two public addresses."""
    async with serve(answer) as server:
        witness.detours = dict.fromkeys(PUBLIC, server.port)
        yield server


async def ask(outside: Egress, url: str, method: str = "GET") -> Reply | type[Exception]:
    """Make one request; return what came of it."""
    try:
        if method == "POST":
            return await outside.post(url, b"{}", headers={}, within=SOON)
        return await outside.get(url, headers={}, within=SOON)
    except (Denied, Unreachable) as error:
        return type(error)


async def passed(outside: Egress, urls: list[str], port: int, method: str) -> list[str]:
    """Try them all; return those that were not denied."""
    return [url for url in urls if await ask(outside, at(url, port), method) is not Denied]


@pytest.mark.parametrize("method", ["GET", "POST"])
@pytest.mark.parametrize("networks", ["", "10.1.0.0/16 fd00:1::/64 192.168.7.0/24"])
@pytest.mark.parametrize("loopback", [False, True])
async def test_a_malformed_url_goes_nowhere(
    witness: Witness, server: Server, method: str, networks: str, *, loopback: bool
) -> None:
    """It is not even looked up, whatever the operator allows."""
    async with Egress(networks=parse_networks(networks), loopback=loopback) as outside:
        assert await passed(outside, MALFORMED, server.port, method) == []
    assert (witness.looked_up, witness.dialled, server.served) == ([], [], 0)


@pytest.mark.parametrize("method", ["GET", "POST"])
@pytest.mark.parametrize("scheme", ["http", "https"])
@pytest.mark.parametrize("networks", ["", "10.1.0.0/16 fd00:1::/64 192.168.7.0/24"])
async def test_a_hostile_address_is_never_dialled(
    witness: Witness, server: Server, method: str, scheme: str, networks: str
) -> None:
    """By number or by name, in any spelling, over HTTP or HTTPS."""
    urls = [url.replace("http://", f"{scheme}://") for url in DIALLED]
    async with Egress(networks=parse_networks(networks)) as outside:
        assert await passed(outside, urls, server.port, method) == []
    assert set(witness.looked_up) >= set(NAMES)
    assert (witness.dialled, server.served) == ([], 0)


async def test_what_is_never_to_be_reached_is_not_when_all_is_allowed(witness: Witness, server: Server) -> None:
    """Metadata, and IPv4 in IPv6, are out of the operator's reach."""
    names = ("metadata.google.internal", "metadata-v6.example", "mapped.example", "unspecified.example")
    urls = [f"http://{host}:{{port}}/" for host in (*ADDRESSES["metadata"], *ADDRESSES["IPv4 in IPv6"], *names)]
    async with Egress(networks=EVERYTHING, loopback=True) as outside:
        assert await passed(outside, urls, server.port, "GET") == []
    assert (witness.dialled, server.served) == ([], 0)


@pytest.mark.parametrize("host", ["127.0.0.1", "127.0.0.2", "[::1]", "localhost", "LOCALHOST.", "ip6-loopback"])
async def test_loopback_is_reached_where_it_is_allowed(witness: Witness, server: Server, host: str) -> None:
    """For development, in every spelling."""
    async with Egress(loopback=True) as outside:
        assert await ask(outside, f"http://{host}:{server.port}/") == HEARD
    assert set(witness.dialled) <= {"127.0.0.1", "127.0.0.2", "::1"}
    assert server.served == 1


@pytest.mark.parametrize("host", [*PUBLIC, "10.1.2.3", "fd00:1::5"])
@pytest.mark.parametrize("named", [False, True])
async def test_public_addresses_and_allowed_networks_are_reached(
    witness: Witness, server: Server, host: str, *, named: bool
) -> None:
    """By number and by name, and the number is the one that is dialled."""
    witness.detours[host] = server.port
    witness.names["receiver.example"] = [[host]]
    number = f"[{host}]" if ":" in host else host
    url = "http://receiver.example/x" if named else f"http://{number}/x"
    async with Egress(networks=parse_networks("10.1.0.0/16 fd00:1::/64")) as outside:
        assert await ask(outside, url) == HEARD
    assert (witness.dialled, server.served) == ([host], 1)
    assert f"Host: {'receiver.example' if named else number}\r\n".encode() in server.received


async def test_a_name_that_changes_its_address_is_refused_when_dialled(witness: Witness, server: Server) -> None:
    """Whatever it led to before: each request looks it up, once, and dials what was found."""
    witness.names["rebinding.example"] = [[PUBLIC[0]], ["127.0.0.1"], [PUBLIC[1]], ["::1", "169.254.169.254"]]
    async with Egress() as outside:
        found = [await ask(outside, f"http://rebinding.example:{server.port}/") for _ in range(5)]
    assert found == [HEARD, Denied, HEARD, Denied, Denied]
    assert witness.looked_up == ["rebinding.example"] * 5
    assert witness.dialled == [PUBLIC[0], PUBLIC[1]]


async def test_of_a_name_with_many_addresses_only_the_allowed_are_dialled(witness: Witness, server: Server) -> None:
    """Nor are they all dialled: a name is no way to make us knock at a thousand doors."""
    many = [f"93.184.{third}.{fourth}" for third in range(4) for fourth in range(250)]
    witness.names["mixed.example"] = [["127.0.0.1", "10.0.0.1", "::1", "169.254.169.254", "fd00::1", PUBLIC[1]]]
    witness.names["many.example"] = [many]
    witness.detours |= dict.fromkeys(many, 1)  # where nobody listens
    async with Egress() as outside:
        assert await ask(outside, "http://mixed.example/") == HEARD
        assert witness.dialled == [PUBLIC[1]]
        witness.dialled.clear()
        assert await ask(outside, "http://many.example/") is Unreachable
        assert 1 <= len(witness.dialled) <= 10
    assert server.served == 1


async def test_the_socket_is_guarded_whatever_was_resolved(
    witness: Witness, server: Server, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A resolver that lies, or lets through, changes nothing: the last word is at the socket."""

    async def lie(_: object, host: str, port: int = 0, family: int = 0) -> list[dict[str, object]]:
        addresses = {"hostname": host, "port": port, "proto": 0, "flags": 0}
        return [addresses | {"host": each, "family": family} for each in ("127.0.0.1", "::1", "10.0.0.1", "0.0.0.0")]  # noqa: S104

    monkeypatch.setattr(egress._Resolver, "resolve", lie)
    async with Egress() as outside:
        assert await ask(outside, f"http://liar.example:{server.port}/") is Denied
    assert (witness.dialled, server.served) == ([], 0)


@pytest.mark.parametrize("status", [301, 302, 303, 307, 308])
@pytest.mark.parametrize("method", ["GET", "POST"])
@pytest.mark.parametrize("location", ["http://127.0.0.1:{port}/", "http://169.254.169.254/", "/again", "http://[", ""])
async def test_a_redirection_is_not_followed(witness: Witness, status: int, method: str, location: str) -> None:
    """It is the reply, to wherever it leads."""

    async def redirect(_: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        port = writer.get_extra_info("sockname")[1]
        head = f"HTTP/1.1 {status} Moved\r\nLocation: {at(location, port)}\r\nContent-Length: 0\r\n\r\n"
        writer.write(head.encode())

    async with serve(redirect) as server, Egress() as outside:
        witness.detours = {PUBLIC[0]: server.port}
        assert await ask(outside, f"http://{PUBLIC[0]}/", method) == Reply(status=status, body=b"")
    assert witness.dialled == [PUBLIC[0]]


async def test_the_environment_is_no_way_around(
    witness: Witness, server: Server, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Proxies that it names are not used."""
    for name in ("HTTP_PROXY", "http_proxy", "ALL_PROXY", "HTTPS_PROXY"):
        monkeypatch.setenv(name, f"http://127.0.0.1:{server.port}/")
    async with Egress() as outside:
        assert await ask(outside, f"http://{PUBLIC[0]}/") == HEARD
        assert await ask(outside, "http://10.0.0.1/") is Denied
    assert witness.dialled == [PUBLIC[0]]


OWN = """
import asyncio
from datetime import timedelta
from retention.egress import Egress
from retention.errors import Denied, Unreachable
from tests.integration.witness import answer
async def main():
    server = await asyncio.start_server(answer, "0.0.0.0", 8080)
    for loopback in (False, True):
        async with Egress(loopback=loopback) as outside:
            try:
                reply = await outside.get("http://9.9.9.9:8080/", headers={}, within=timedelta(seconds=30))
                print(reply.body.decode())
            except (Denied, Unreachable) as error:
                print(type(error).__name__)
asyncio.run(main())
"""


def test_this_machine_s_own_public_address_is_denied() -> None:
    """In a network namespace where it really has one; with loopback allowed it is reached."""
    if not (shutil.which("unshare") and shutil.which("ip")):
        missing("unshare or ip is not installed: on Debian and Ubuntu, apt-get install util-linux iproute2")
    setup = "ip link set lo up && ip address add 9.9.9.9/32 dev lo"
    command = ["unshare", "--user", "--map-root-user", "--net", "sh", "-c", f'{setup} && exec "$@"', "sh"]
    if subprocess.run([*command, "true"], check=False, capture_output=True).returncode:
        pytest.skip("this kernel, or what confines the tests, gives no user namespaces")
    done = subprocess.run([*command, sys.executable, "-c", OWN], cwd=ROOT, check=True, capture_output=True, text=True)
    assert done.stdout.split() == ["Denied", "heard"]
