"""Whatever a receiver does, a request to it ends in time, with a bounded reply or as unreachable; and what it gets."""

import asyncio
import gzip
import random
import socket
import threading
import time
from collections.abc import AsyncIterator
from contextlib import suppress
from datetime import timedelta
from functools import partial

import pytest

from retention.egress import LARGEST, Egress, Reply
from retention.errors import Unreachable
from tests.integration.witness import Handler, Witness, answer, serve
from tests.ports import reserved_port
from tests.stack import wait_until

SOON = timedelta(seconds=30)
BRIEF = timedelta(seconds=1)
"""Until then a receiver on this machine is reached for sure, busy as the machine may be."""
OK = b"HTTP/1.1 200 OK\r\n"
FOREVER = 10**9


def sends(*pieces: bytes, times: int = 1, pause: float = 0.0) -> Handler:
    """Make a receiver that sends these pieces, the last one so many times, and hangs up."""

    async def send(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        del reader
        for piece in pieces[:-1]:
            writer.write(piece)
        for _ in range(times):
            writer.write(pieces[-1])
            await writer.drain()
            await asyncio.sleep(pause)

    return send


async def hang(reader: asyncio.StreamReader, _: asyncio.StreamWriter) -> None:
    await reader.read()
    await asyncio.Event().wait()


@pytest.fixture
async def outside() -> AsyncIterator[Egress]:
    """Give an egress to this machine's servers."""
    async with Egress(loopback=True) as outside:
        yield outside


SLOW = {
    "silent": hang,
    "drips its head": sends(b"H", b"T", times=FOREVER, pause=0.01),
    "drips headers": sends(OK, b"X: y\r\n", times=FOREVER, pause=0.05),
    "drips its body": sends(OK + b"Content-Length: 1000\r\n\r\n", b"x", times=FOREVER, pause=0.05),
    "drips a body of any length": sends(OK + b"\r\n", b"x", times=FOREVER, pause=0.05),
    "drips chunks": sends(OK + b"Transfer-Encoding: chunked\r\n\r\n", b"1\r\nx\r\n", times=FOREVER, pause=0.05),
    "bids to continue": sends(b"HTTP/1.1 100 Continue\r\n\r\n", times=FOREVER, pause=0.001),
    "extends its chunk": sends(OK + b"Transfer-Encoding: chunked\r\n\r\n1;", b"x" * 1000, times=FOREVER, pause=0.001),
    "hints": sends(b"HTTP/1.1 103 Early Hints\r\nLink: x\r\n\r\n", times=FOREVER),
}


@pytest.mark.parametrize("handler", SLOW.values(), ids=SLOW)
@pytest.mark.parametrize("method", ["GET", "POST"])
async def test_a_receiver_that_takes_its_time_is_left_at_the_deadline(
    outside: Egress, handler: Handler, method: str
) -> None:
    """Silent, dripping, or saying a lot without coming to the point."""
    async with serve(handler) as server:
        began = time.monotonic()
        url = f"http://127.0.0.1:{server.port}/"
        asking = outside.get if method == "GET" else partial(outside.post, body=b"{}")
        with pytest.raises(Unreachable) as unreachable:
            await asking(url, headers={}, within=BRIEF)
        assert time.monotonic() - began < 10  # it would go on for ever
        assert server.served == 1
    assert str(unreachable.value) == "the callback receiver cannot be reached"
    assert unreachable.value.__cause__ is None


BROKEN = {
    "nothing": sends(b""),
    "half a line": sends(b"HTTP/1.1 200"),
    "half a head": sends(OK),
    "half a body": sends(OK + b"Content-Length: 10\r\n\r\nshort"),
    "half a chunk": sends(OK + b"Transfer-Encoding: chunked\r\n\r\n5\r\nshort"),
    "no chunk": sends(OK + b"Transfer-Encoding: chunked\r\n\r\nzz\r\n"),
    "a negative length": sends(OK + b"Content-Length: -1\r\n\r\n"),
    "endless trailers": sends(OK + b"Transfer-Encoding: chunked\r\n\r\n0\r\n", b"X: y\r\n", times=FOREVER),
    "two lengths": sends(OK + b"Content-Length: 1\r\nContent-Length: 2\r\n\r\nxx"),
    "a megabyte in one header": sends(OK + b"X: " + b"y" * 1_000_000 + b"\r\n\r\n"),
    "a megabyte of a name": sends(OK + b"y" * 1_000_000 + b": z\r\n\r\n"),
    "a megabyte of headers": sends(OK + b"X: y\r\n" * 200_000 + b"Content-Length: 0\r\n\r\n"),
    "endless long headers": sends(OK, b"X: " + b"y" * 8000 + b"\r\n", times=FOREVER),
    "a megabyte of a reason": sends(b"HTTP/1.1 200 " + b"x" * 1_000_000 + b"\r\n\r\n"),
    "another version": sends(b"HTTP/9.9 200 OK\r\n\r\n"),
    "no status": sends(b"HTTP/1.1 99999 OK\r\n\r\n"),
    "another protocol": sends(b"ICY 200 OK\r\n\r\n"),
    "redis": sends(b"-ERR unknown command\r\n", times=100),
    "tls": sends(b"\x16\x03\x01" + bytes(1000)),
    "zeros": sends(bytes(1 << 20)),
}


@pytest.mark.parametrize("handler", BROKEN.values(), ids=BROKEN)
async def test_what_is_no_whole_reply_is_unreachable(outside: Egress, handler: Handler) -> None:
    """At once, and it is not asked again: a GET that broke off is not repeated."""
    async with serve(handler) as server:
        with pytest.raises(Unreachable):
            await outside.get(f"http://127.0.0.1:{server.port}/", headers={}, within=SOON)
        assert server.served == 1


BOMB = gzip.compress(bytes(50 << 20))


FULL = Reply(200, b"x" * LARGEST)
REPLIES = {
    "good": (answer, Reply(200, b"heard")),
    "empty": (sends(b"HTTP/1.1 204 No Content\r\n\r\n"), Reply(204, b"")),
    "old": (sends(b"HTTP/1.0 406 Not Acceptable\r\n\r\nno"), Reply(406, b"no")),
    "chunks": (sends(b"HTTP/1.1 500 \r\nTransfer-Encoding: chunked\r\n\r\n2\r\nno\r\n0\r\n\r\n"), Reply(500, b"no")),
    "at second": (sends(b"HTTP/1.1 100 Continue\r\n\r\n" + OK + b"Content-Length: 0\r\n\r\n"), Reply(200, b"")),
    "odd headers": (sends(OK + b"Set-Cookie: \xff=\x80; a\r\nContent-Length: 1\r\n\r\nx"), Reply(200, b"x")),
    "endless": (sends(OK + b"\r\n", b"x" * 65536, times=FOREVER), FULL),
    "huge": (sends(OK + b"Content-Length: 999999999999\r\n\r\n", b"x" * 999, times=FOREVER), FULL),
    "endless chunks": (sends(OK + b"Transfer-Encoding: chunked\r\n\r\n", b"3\r\nxxx\r\n", times=FOREVER), FULL),
    "bomb": (
        sends(OK + b"Content-Encoding: gzip\r\nContent-Length: %d\r\n\r\n" % len(BOMB) + BOMB),
        Reply(200, BOMB[:LARGEST]),
    ),
    "odd codings": (sends(OK + b"Content-Encoding: br, gzip, x\r\nContent-Length: 3\r\n\r\nxyz"), Reply(200, b"xyz")),
}


@pytest.mark.parametrize(("handler", "reply"), REPLIES.values(), ids=REPLIES)
async def test_a_reply_is_bounded_and_as_it_was_sent(outside: Egress, handler: Handler, reply: Reply) -> None:
    """Cut at 64 KiB, not inflated, and whatever its status."""
    async with serve(handler) as server:
        assert await outside.get(f"http://127.0.0.1:{server.port}/", headers={}, within=SOON) == reply


async def test_noise_is_unreachable_or_a_bounded_reply(outside: Egress) -> None:
    """Whatever a receiver says, no other error comes out."""
    noise = random.Random(7)

    async def babble(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        del reader
        said = bytearray(OK + b"Content-Length: 5\r\nX: y\r\n\r\nheard")
        for _ in range(noise.randint(1, 4)):
            said[noise.randrange(len(said))] = noise.randrange(256)
        writer.write(said)

    replies = []
    async with serve(babble) as server:
        for _ in range(500):
            with suppress(Unreachable):
                replies.append(await outside.get(f"http://127.0.0.1:{server.port}/", headers={}, within=SOON))
        assert server.served == 500
    assert 0 < len(replies) < 500
    assert max(len(reply.body) for reply in replies) <= LARGEST


async def test_a_body_that_nobody_reads_is_given_up(outside: Egress) -> None:
    """At the deadline; or at once, if the reply comes all the same."""
    body = bytes(32 << 20)

    async def ignore(_: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        writer.transport.pause_reading()  # type: ignore[attr-defined] # it is a socket's
        await asyncio.Event().wait()

    async def answer_early(_: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        writer.transport.pause_reading()  # type: ignore[attr-defined] # likewise
        writer.write(OK + b"Content-Length: 5\r\n\r\nheard")
        await asyncio.Event().wait()

    async with serve(ignore) as server:
        with pytest.raises(Unreachable):
            await outside.post(f"http://127.0.0.1:{server.port}/", body, headers={}, within=BRIEF)
    async with serve(answer_early) as server:
        reply = await outside.post(f"http://127.0.0.1:{server.port}/", body, headers={}, within=SOON)
        assert reply == Reply(200, b"heard")


async def test_nobody_there_is_unreachable(outside: Egress, monkeypatch: pytest.MonkeyPatch) -> None:
    """A closed port, and a name that does not exist."""
    witness = Witness(monkeypatch)
    with reserved_port() as port:
        for url in (f"http://127.0.0.1:{port}/", "http://nobody.example/"):
            with pytest.raises(Unreachable):
                await outside.get(url, headers={}, within=SOON)
    assert witness.looked_up == ["nobody.example"]


async def test_a_slow_name_server_is_left_at_the_deadline(outside: Egress, monkeypatch: pytest.MonkeyPatch) -> None:
    """And holds up nothing else: the loop's own threads are free for files."""
    looked_up: list[object] = []
    answers = threading.Event()

    def look_up(host: str, *_: object) -> None:
        looked_up.append(host)
        answers.wait()

    async def ask() -> None:
        with pytest.raises(Unreachable):
            await outside.get("http://slow.example/", headers={}, within=BRIEF)

    async def all_are_looked_up() -> bool:
        return len(looked_up) == 50

    monkeypatch.setattr(socket, "getaddrinfo", look_up)
    try:
        async with asyncio.timeout(30), asyncio.TaskGroup() as asked:
            for _ in range(50):
                asked.create_task(ask())
            await wait_until(all_are_looked_up)
            await asyncio.to_thread(lambda: None)
    finally:
        answers.set()


async def test_connections_are_bounded_and_waiting_for_one_counts() -> None:
    """What `at_once` leaves out ends at its own deadline, without a connection."""
    async with serve(hang) as server, Egress(loopback=True, at_once=1) as outside:
        url = f"http://127.0.0.1:{server.port}/"
        first = asyncio.create_task(outside.get(url, headers={}, within=SOON))
        await server.asked.wait()
        others = [outside.get(url, headers={}, within=BRIEF) for _ in range(5)]
        assert [type(each) for each in await asyncio.gather(*others, return_exceptions=True)] == [Unreachable] * 5
        assert server.served == 1
        first.cancel()
        await asyncio.wait([first])


async def test_being_cancelled_is_no_unreachable_receiver(outside: Egress) -> None:
    """A process that stops is not misled."""
    async with serve(hang) as server:
        asking = asyncio.create_task(outside.get(f"http://127.0.0.1:{server.port}/", headers={}, within=SOON))
        await server.asked.wait()
        asking.cancel()
        with pytest.raises(asyncio.CancelledError):
            await asking


@pytest.mark.parametrize(
    ("given", "line"),
    [
        ("", b"/"),
        ("?", b"/?"),
        ("/hook?", b"/hook?"),
        ("/hook?job=1&x=%20+y&&=&challenge_string=n9", b"/hook?job=1&x=%20+y&&=&challenge_string=n9"),
        ("/%7e%2F%2f/../a/./b//c%zz%", b"/%7e%2F%2f/../a/./b//c%zz%"),
        ("/a;b='\"<>^`{|}?a?b/c:d@[0]", b"/a;b='\"<>^`{|}?a?b/c:d@[0]"),
        ("/\u00fc?\u00fc=%C3%BC", b"/%C3%BC?%C3%BC=%C3%BC"),
    ],
)
async def test_the_request_is_what_was_given_and_nothing_more(outside: Egress, given: str, line: bytes) -> None:
    """The target byte for byte, the caller's headers, and only those of ours that are needed."""
    async with serve(answer) as server:
        url = f"http://LocalHost:{server.port}{given}"
        host = b"Host: localhost:%d" % server.port
        ours = {host, b"User-Agent: volant", b"Accept-Encoding: identity", b"Connection: close"}
        await outside.get(url, headers={"Accept": "text/plain", "X-Callback-Signature": "c2ln="}, within=SOON)
        first, *rest = server.received.removesuffix(b"\r\n\r\n").split(b"\r\n")
        assert first == b"GET " + line + b" HTTP/1.1"
        assert set(rest) == ours | {b"Accept: text/plain", b"X-Callback-Signature: c2ln="}
        await outside.post(url, b'{"id":1}', headers={"Content-Type": "application/json"}, within=SOON)
        first, *rest = server.received.removesuffix(b"\r\n\r\n").split(b"\r\n")
        assert first == b"POST " + line + b" HTTP/1.1"
        assert set(rest) == ours | {b"Accept: */*", b"Content-Type: application/json", b"Content-Length: 8"}


async def test_cookies_are_not_kept(outside: Egress) -> None:
    """One receiver's reply leaves nothing for the next request."""
    async with serve(sends(OK + b"Set-Cookie: a=b; Path=/\r\nContent-Length: 0\r\n\r\n")) as server:
        for _ in range(2):
            await outside.get(f"http://localhost:{server.port}/", headers={}, within=SOON)
        assert b"cookie" not in server.received.lower()
        assert server.served == 2
