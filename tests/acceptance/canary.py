"""The canary: a client that leaves markers in all that it says, and the search for what became of them.

A marker is a few random bytes that went in; that they are found nowhere, in no form that is easily read, shows that
nothing was kept in clear.
"""

import asyncio
import base64
import secrets
import urllib.parse
from collections.abc import Callable, Iterable, Iterator, Mapping
from itertools import chain
from pathlib import Path
from typing import Any
from urllib.parse import urlsplit

import aiohttp
import redis

from deploy.stack import Stack

Markers = Mapping[str, bytes]
"""What was put in, by what it was: names, never the bytes, are reported."""


class Canary:
    """A client that leaves markers: a random word for everything that it may say, by what it was said as."""

    def __init__(self, stack: Stack, apikey: str) -> None:
        self.markers: dict[str, bytes] = {}
        self._url = f"{stack.url}/v1/recognitions"
        self._apikey = apikey
        self._callback: dict[str, str] = {}
        self._authorization = {"Authorization": aiohttp.encode_basic_auth("apikey", apikey)}

    def word(self, name: str) -> str:
        """Return the marker of this name."""
        return self.markers.setdefault(name, b"canary" + secrets.token_hex(9).encode()).decode()

    async def submit(self, audio: Any, content_type: str, *, coding: str = "identity") -> str:
        """Create a job with markers in all that goes with it; return its id."""
        query = {
            "keywords": f"{self.word('keyword')},{self.word('second keyword')} again",
            "keywords_threshold": "0.5",
            "user_token": self.word("user token"),
            "timestamps": "true",
            "word_confidence": "true",
            self.word("name of an unknown parameter"): self.word("unknown parameter"),
            **self._callback,
        }
        headers = {
            "Content-Type": content_type,
            "Content-Encoding": coding,
            **self._labelled(),
            "User-Agent": self.word("user agent"),
            "Cookie": f"a={self.word('cookie')}",
        }
        status, body = await self.ask("POST", params=query, data=audio, headers=headers)
        assert status == 201, body
        return str(body["id"])

    async def register(self, receiver: str) -> None:
        """Register a callback URL with markers in it and beside it; jobs are told there from now on."""
        path = f"{self.word('callback path')}/{self.word('callback path, second part')}"
        url = f"{receiver}/{path}?{self.word('callback parameter')}={self.word('callback query')}"
        asked = {"callback_url": url, "user_secret": self.word("user secret")}
        status, body = await self.ask("POST", "/../register_callback", params=asked, headers=self._labelled())
        assert status == 201, body
        events = ("started", "completed_with_results", "failed")
        self._callback = {"callback_url": url, "events": ",".join(f"recognitions.{event}" for event in events)}

    async def buy(self) -> None:
        """Buy a bearer token and use it; its signature is a marker."""
        form = {"grant_type": "urn:ibm:params:oauth:grant-type:apikey", "apikey": self._apikey}
        _, body = await self.ask("POST", "/../../identity/token", data=form)
        token = str(body["access_token"])
        self.markers["bearer token"] = token.rpartition(".")[2].encode()
        assert (await self.ask("GET", headers={"Authorization": f"Bearer {token}"}))[0] == 200

    async def erase(self) -> None:
        """Erase the customer whose label all jobs and the callback URL bear."""
        asked = {"customer_id": self.word("customer id")}
        assert await self.ask("DELETE", "/../user_data", params=asked) == (200, None)

    async def ask(
        self, method: str, path: str = "", *, headers: dict[str, str] | None = None, **options: Any
    ) -> tuple[int, Any]:
        """Return the status code and the body; with the right key unless the headers hold another."""
        every = self._authorization | (headers or {})
        async with (
            aiohttp.ClientSession() as session,
            session.request(method, self._url + path, headers=every, **options) as response,
        ):
            return response.status, await response.json() if response.content_length else None

    async def ended(self, job: str) -> bool:
        """Tell whether the job is final."""
        _, body = await self.ask("GET", f"/{job}")
        return body.get("status") in {"completed", "failed"}

    async def be_refused(self) -> None:
        """Say everything that is answered with a refusal, and some that is no HTTP at all."""
        raw = {"Content-Type": "audio/l16; rate=16000"}
        for status, method, path, options in (
            (404, "POST", "", {"params": {"model": self.word("model")}}),
            (400, "POST", "", {"params": {"callback_url": f"http://{self.word('callback')}/"}}),
            (400, "POST", "", {"params": {"language_customization_id": self.word("customization")}}),
            (400, "POST", "", {"params": {"results_ttl": self.word("results_ttl")}}),
            (400, "POST", "", {"params": {"timestamps": self.word("switch")}}),
            (415, "POST", "", {"headers": {"Content-Type": f"audio/{self.word('media type')}"}}),
            (415, "POST", "", {"headers": {"Content-Encoding": self.word("coding")}}),
            (400, "POST", "", {"headers": {"X-Watson-Metadata": self.word("metadata")}}),
            (415, "POST", "", {"data": self.word("text as audio").encode() * 9}),
            (400, "POST", "", {"data": self.word("too little audio").encode(), "headers": raw}),
            (
                400,
                "POST",
                "",
                {"data": self.word("no gzip").encode() * 9, "headers": raw | {"Content-Encoding": "gzip"}},
            ),
            (400, "POST", "/../register_callback", {"params": {"callback_url": f"ftp://{self.word('scheme')}/"}}),
            (400, "POST", "/../register_callback", {"params": {"user_secret": self.word("secret of no url")}}),
            (
                404,
                "POST",
                "/../unregister_callback",
                {"params": {"callback_url": f"http://{self.word('unregistered')}/"}},
            ),
            (400, "DELETE", "/../user_data", {"params": {"customer_id": f"{self.word('no customer')};"}}),
            (200, "DELETE", "/../user_data", {"params": {"customer_id": self.word("unknown customer")}}),
            (401, "GET", "", {"headers": {"Authorization": self._basic("apikey", self.word("wrong key"))}}),
            (401, "GET", "", {"headers": {"Authorization": self._basic("apikey", f"volant_a_{self.word('secret')}")}}),
            (401, "GET", "", {"headers": {"Authorization": f"Bearer {self.word('token')}"}}),
            (401, "GET", "", {"headers": {"Authorization": f"Basic {self.word('no base64')}!"}}),
            (404, "GET", f"/{self.word('job id')}", {"params": {"a": self.word("query of no job")}}),
            (404, "DELETE", f"/{self.word('deleted id')}", {}),
            (404, "GET", f"/../../{self.word('path')}", {"params": {self.word("query of no path"): ""}}),
            (405, "PATCH", "", {"params": {"a": self.word("query of no method")}}),
        ):
            assert (await self.ask(method, path, **options))[0] == status, (status, method, path, options)
        asks = b"POST /v1/recognitions HTTP/1.1\r\nAuthorization: %b\r\nContent-Type: audio/l16; rate=16000\r\n" % (
            self._authorization["Authorization"].encode()
        )
        for said in (
            b"%b\r\n\r\n" % self.word("first line").encode(),
            b"GET /%b HTTP/9.9\r\n\r\n" % self.word("version").encode(),
            b"%b / HTTP/1.1\r\nHost: %b\r\n\r\n" % (self.word("method").encode(), self.word("host").encode()),
            b"GET / HTTP/1.1\r\n%b\r\n\r\n" % self.word("header").encode(),
            b"GET /\0%b HTTP/1.1\r\n\r\n" % self.word("zero").encode(),
            b"GET /%b HTTP/1.1\r\n\r\n" % (self.word("long line").encode() * 4000),
            b"GET / HTTP/1.1\r\na: %b\r\n\r\n" % (self.word("long header").encode() * 4000),
            b"\x16\x03\x01\x02\x00%b\r\n\r\n" % self.word("no TLS").encode(),
            asks + b"Content-Length: %b\r\n\r\n" % self.word("length").encode(),
            asks + b"Transfer-Encoding: chunked\r\n\r\n%b\r\n" % self.word("chunk").encode(),
            asks + b"Content-Length: 999\r\n\r\n%b" % (self.word("cut off").encode() * 9),
        ):
            await self._say(said)

    async def _say(self, said: bytes) -> None:
        address = urlsplit(self._url)
        reader, writer = await asyncio.open_connection(address.hostname, address.port)
        writer.write(said)
        writer.write_eof()
        async with asyncio.timeout(60):
            await reader.read()
        writer.close()
        await writer.wait_closed()

    def _labelled(self) -> dict[str, str]:
        return {"X-Watson-Metadata": f"customer_id={self.word('customer id')}"}

    @staticmethod
    def _basic(user: str, password: str) -> str:
        return aiohttp.encode_basic_auth(user, password)


def forms(marker: bytes) -> dict[str, bytes]:
    """Return how the marker looks raw and in each encoding that would keep it legible."""
    latin = marker.decode("latin-1")
    percent = "".join(f"%{byte:02X}" for byte in marker).encode()
    escaped = "".join(f"\\x{byte:02x}" for byte in marker).encode()
    swapped = [bytes(chain.from_iterable(zip(part[1::2], part[::2], strict=True))) for part in _even(marker)]
    found = {
        "raw": marker,
        "hex": marker.hex().encode(),
        "HEX": marker.hex().upper().encode(),
        "UTF-8": latin.encode(),
        "UTF-16LE": latin.encode("utf-16-le"),
        "UTF-16BE": latin.encode("utf-16-be"),
        "percent": percent,
        "percent, small": percent.lower(),
        "percent where needed": urllib.parse.quote_from_bytes(marker, safe="").encode(),
        "repr": repr(marker)[2:-1].encode(),
        "escaped": escaped,
        "bytes swapped": swapped[0],
        "bytes swapped, odd": swapped[1],
    }
    for shift in range(3):
        found[f"base64 at {shift}"] = standard = _base64(marker, shift)
        found[f"base64url at {shift}"] = standard.translate(bytes.maketrans(b"+/", b"-_"))
    return found


def places(directories: Iterable[Path], redis_url: str) -> Iterator[tuple[str, bytes]]:
    """Give everything that can hold a marker: what it is called, and what is in it."""
    yield from files(directories)
    yield from in_redis(redis_url)


def files(directories: Iterable[Path]) -> Iterator[tuple[str, bytes]]:
    """Give every file and its name; sockets have none but a name."""
    for directory in directories:
        for path in sorted(directory.rglob("*")):
            yield f"the name of {path}", str(path).encode()
            if path.is_file():
                yield str(path), path.read_bytes()


def in_redis(url: str) -> Iterator[tuple[str, bytes]]:
    """Give every key of every database with all that is in it, and what Redis remembers of slow commands."""
    with redis.Redis.from_url(url) as client:
        for database in client.info("keyspace"):
            client.select(int(database.removeprefix("db")))
            for key in client.scan_iter(count=1000):
                yield f"a key of {database}", key
                yield f"{database} {key!r}", b"\0".join(_content(client, key))
        yield "the slow log", repr(client.slowlog_get(10000)).encode()


def hits(places: Iterable[tuple[str, bytes]], markers: Markers) -> list[str]:
    """Return one line for each marker, form and place where it is found."""
    sought = [(name, form, needle) for name, marker in markers.items() for form, needle in forms(marker).items()]
    return sorted(
        {f"{name}, {form}: {place}" for place, content in places for name, form, needle in sought if needle in content}
    )


def _base64(marker: bytes, shift: int) -> bytes:
    """Return what is sure to be seen of the marker in base64, when it begins `shift` bytes into a group of three."""
    encoded = base64.b64encode(bytes(shift) + marker)
    begins = (shift * 8 + 5) // 6
    ends = (shift + len(marker)) * 8 // 6
    return encoded[begins:ends]


def _even(marker: bytes) -> list[bytes]:
    """Return the longest parts of even length from the first byte, and from the second."""
    return [part[: len(part) // 2 * 2] for part in (marker, marker[1:])]


def _content(client: Any, key: bytes) -> list[bytes]:
    read: dict[bytes, Callable[[], Iterable[Any]]] = {
        b"string": lambda: [client.get(key) or b""],
        b"hash": lambda: chain.from_iterable(client.hgetall(key).items()),
        b"list": lambda: client.lrange(key, 0, -1),
        b"set": lambda: client.smembers(key),
        b"zset": lambda: client.zrange(key, 0, -1),
        b"stream": lambda: chain.from_iterable(chain.from_iterable(fields.items()) for _, fields in client.xrange(key)),
        b"none": list,  # expired since it was listed
    }
    return list(read[client.type(key)]())
