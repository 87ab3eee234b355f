"""Callback receivers on this machine, well-behaved and not, in the test's own process.

Every one answers the challenge of a registration as it should, so that it can be registered (spec 3.1); what it does
with notifications is its behaviour, which may be changed at any time. Knows HTTP only as far as Volant speaks it.
"""

import asyncio
import base64
import hmac
import json
import time
from collections.abc import Awaitable, Callable, Mapping
from types import TracebackType
from typing import Any, NamedTuple, Self
from urllib.parse import parse_qs, urlsplit

SECRET = "Geheimnis, größer als ASCII"


class Told(NamedTuple):
    """A notification that reached a receiver, whatever it then made of it. `at` is in unix seconds."""

    id: str
    event: str
    headers: Mapping[str, str]
    body: bytes
    target: str
    at: float

    def is_signed(self, secret: str = SECRET) -> bool:
        """Tell whether both signatures are those of the secret (spec 3.4, Standard Webhooks)."""
        key = secret.encode()
        ours = base64.b64encode(hmac.digest(key, self.body, "sha256")).decode()
        message = f"{self.headers['webhook-id']}.{self.headers['webhook-timestamp']}.".encode() + self.body
        theirs = base64.b64encode(hmac.digest(key, message, "sha256")).decode()
        return (
            self.headers.get("x-callback-signature") == ours
            and self.headers.get("webhook-signature") == f"v1,{theirs}"
            and abs(int(self.headers["webhook-timestamp"]) - self.at) < 10
        )


class Asked(NamedTuple):
    """A challenge that reached a receiver."""

    challenge: str
    headers: Mapping[str, str]
    target: str


Behaviour = Callable[[Told, asyncio.StreamWriter], Awaitable[None]]
Answer = Callable[[Asked, asyncio.StreamWriter], Awaitable[None]]


async def echo(asked: Asked, writer: asyncio.StreamWriter) -> None:
    """Answer a challenge as the contract wants it."""
    await reply(writer, 200, asked.challenge)


async def well(_told: Told, writer: asyncio.StreamWriter) -> None:
    """Take every notification."""
    await reply(writer, 200)


async def hangs(_told: Told, _writer: asyncio.StreamWriter) -> None:
    """Never answer."""
    await asyncio.Event().wait()


async def drips(_told: Told, writer: asyncio.StreamWriter) -> None:
    """Answer one byte a second, and never to the end."""
    for byte in b"HTTP/1.1 200 OK\r\nContent-Length: 9\r\n\r\n":
        writer.write(bytes([byte]))
        await writer.drain()
        await asyncio.sleep(1)  # this pace is the behaviour


async def closes_early(_told: Told, writer: asyncio.StreamWriter) -> None:
    """Begin an answer, and hang up."""
    writer.write(b"HTTP/1.1 200 OK\r\nContent-Length: 100\r\n\r\nno")
    await writer.drain()


def answers(status: int, **headers: str) -> Behaviour:
    """Answer always with this status."""

    async def behave(_told: Told, writer: asyncio.StreamWriter) -> None:
        await reply(writer, status, headers=headers)

    return behave


def fails_at_first(times: int, status: int = 500) -> Behaviour:
    """Answer so many tries of each notification with this status, and take the next."""
    tries: dict[str, int] = {}

    async def behave(told: Told, writer: asyncio.StreamWriter) -> None:
        key = told.headers["webhook-id"]
        tries[key] = tries.get(key, 0) + 1
        await reply(writer, status if tries[key] <= times else 200)

    return behave


def fails(times: int, status: int = 500) -> Behaviour:
    """Answer so many notifications in all with this status, and take the others."""
    left = iter(range(times))

    async def behave(_told: Told, writer: asyncio.StreamWriter) -> None:
        await reply(writer, 200 if next(left, None) is None else status)

    return behave


async def reply(
    writer: asyncio.StreamWriter, status: int, body: str = "", headers: Mapping[str, str] | None = None
) -> None:
    """Send one whole answer."""
    lines = [f"HTTP/1.1 {status} so", f"Content-Length: {len(body.encode())}", "Connection: close"]
    if status == 204:
        del lines[1]
    lines += [f"{name}: {value}" for name, value in (headers or {}).items()]
    writer.write("\r\n".join([*lines, "", body]).encode())
    await writer.drain()


class Receiver:
    """A server on 127.0.0.1; a context manager that ends it, with every connection that it still has.

    Public: `told`, the notifications in the order of their arrival, at any path; `asked`, the challenges; `behaviour`,
    which says what becomes of a notification; `answer`, the same of a challenge; `others`, whatever else reached it.
    `path` is what its URL ends with.
    """

    def __init__(self, behaviour: Behaviour = well, *, path: str = "/told?by=volant") -> None:
        self.behaviour = behaviour
        self.answer: Answer = echo
        self.told: list[Told] = []
        self.asked: list[Asked] = []
        self.others: list[str] = []
        self._path = path
        self._port = 0
        self._server: asyncio.Server | None = None
        self._busy: set[asyncio.Task[None]] = set()

    async def __aenter__(self) -> Self:
        await self.open()
        return self

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        await self.close()

    @property
    def url(self) -> str:
        return f"http://127.0.0.1:{self._port}{self._path}"

    async def open(self) -> None:
        """Listen, at the same port as before if it was closed."""
        self._server = await asyncio.start_server(self._serve, "127.0.0.1", self._port)
        self._port = self._server.sockets[0].getsockname()[1]

    async def close(self) -> None:
        """Be down: refuse connections, and break off those that there are."""
        if self._server is not None:
            self._server.close()
            self._server = None
        for task in list(self._busy):
            task.cancel()
        await asyncio.gather(*self._busy, return_exceptions=True)

    def events(self, job: str) -> list[str]:
        """Return what it was told of a job, in order, repetitions left out."""
        return list(dict.fromkeys(told.event for told in self.told if told.id == job))

    def in_full(self, job: str) -> list[str]:
        """Return what it was told of a job, in order, with every repetition."""
        return [told.event for told in self.told if told.id == job]

    async def _serve(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        task = asyncio.ensure_future(self._handle(reader, writer))
        self._busy.add(task)
        task.add_done_callback(self._busy.discard)
        await asyncio.wait([task])
        if not task.cancelled():
            task.exception()  # a sender that hangs up is no concern of a receiver's

    async def _handle(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        try:
            method, target, headers, body = await _request(reader)
            challenge = parse_qs(urlsplit(target).query).get("challenge_string", [""])[-1]
            if method == "GET" and challenge:
                asked = Asked(challenge, headers, target)
                self.asked.append(asked)
                await self.answer(asked, writer)
            elif method == "POST":
                said: Any = json.loads(body)
                told = Told(said["id"], said["event"], headers, body, target, time.time())
                self.told.append(told)
                await self.behaviour(told, writer)
            else:
                self.others.append(f"{method} {target}")
                await reply(writer, 404)
        finally:
            writer.close()


async def _request(reader: asyncio.StreamReader) -> tuple[str, str, Mapping[str, str], bytes]:
    head = (await reader.readuntil(b"\r\n\r\n")).decode()
    first, *lines = head.rstrip("\r\n").split("\r\n")
    method, target, _ = first.split(" ")
    headers = {name.lower(): value for name, _, value in (line.partition(": ") for line in lines)}
    return method, target, headers, await reader.readexactly(int(headers.get("content-length", "0")))
