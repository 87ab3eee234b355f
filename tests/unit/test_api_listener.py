"""Connections: what is no HTTP, what is too slow, and how the front stops."""

import asyncio
import json
import re
from datetime import timedelta
from typing import Any

import pytest
from structlog.testing import capture_logs

from api import admission, connection, jobs
from retention.errors import SettingsError
from retention.listening import Listener
from tests.stack import wait_until
from tests.unit.fake_retention import WAV, Api, hang_up, serving

UPLOAD = (
    b"POST /v1/recognitions HTTP/1.1\r\nHost: x\r\nContent-Length: 100000\r\n"
    b"Authorization: Basic YXBpa2V5OnZvbGFudF9hbGljZV9zZWNyZXQ=\r\n\r\n" + WAV
)


async def under_way(api: Api) -> bool:
    """Tell whether an upload is being taken in."""
    return api.jobs.under_way == 1


@pytest.mark.parametrize(
    "sent",
    [
        b"secret nonsense\r\n\r\n",
        b"\x16\x03\x01\x02\x00\x01\x00\x01\xfc\x03\x03secret",
        b"GET /secret\xff HTTP/1.1\r\nHost: x\r\n\r\n",
        b"GET / HTTP/9.9\r\nHost: x\r\n\r\n",
        b"GET / HTTP/1.1\r\nsecret header\r\n\r\n",
        b"GET / HTTP/1.1\r\nHost: x\r\nsecret : 1\r\n\r\n",
        b"GET / HTTP/1.1\r\nHost: x\r\nX: " + b"secret" * 10_000 + b"\r\n\r\n",
        b"GET / HTTP/1.1\r\nHost: x\r\nContent-Length: secret\r\n\r\n",
        b"POST / HTTP/1.1\r\nHost: x\r\nContent-Length: 5\r\nContent-Length: 6\r\n\r\nsecret",
        b"POST / HTTP/1.1\r\nHost: x\r\nContent-Length: 5\r\nTransfer-Encoding: chunked\r\n\r\n0\r\n\r\n",
        b"GET http://[secret/ HTTP/1.1\r\nHost: x\r\n\r\n",
    ],
)
async def test_what_is_no_http_gets_the_contracts_error(sent: bytes, over: dict[str, Any]) -> None:
    """The answer is JSON, has the headers of every answer, and quotes nothing."""
    async with serving(**over) as api:
        answer = await api.talk(sent)
        head, _, body = answer.partition(b"\r\n\r\n")
        assert b" 400 Bad Request\r\n" in head
        assert b"\r\nX-Global-Transaction-ID: " in head
        assert b"aiohttp" not in head
        assert json.loads(body) == {
            "code": 400,
            "code_description": "Bad Request",
            "error": "The request is not valid HTTP, or its head is too long.",
        }


async def test_the_longest_request_line_is_the_one_that_the_document_tells(over: dict[str, Any]) -> None:
    """What fits is served, and one byte more is refused: `keywords` may be long, but not all of them at once."""
    told = re.search(r"at most ([0-9]+) KiB", jobs.CREATE.means)
    assert told
    most = int(told[1]) * 1024
    async with serving(**over) as api:
        for length, status in ((most, b" 404 "), (most + 1, b" 414 ")):
            answer = await api.talk(
                b"GET /".ljust(length + 4, b"x") + b" HTTP/1.1\r\nHost: x\r\nConnection: close\r\n\r\n"
            )
            assert status in answer.partition(b"\r\n")[0]


async def test_who_is_still_sending_a_line_that_is_too_long_can_read_so(over: dict[str, Any]) -> None:
    """In place of a reset."""
    async with serving(**over) as api:
        reader, writer = await api.connect()
        with capture_logs() as lines:
            writer.write(b"GET /".ljust(connection.LINE_LENGTH + 100, b"x"))

            async def is_answered() -> bool:
                return any(line["event"] == "not a request" for line in lines)

            await wait_until(is_answered)
        for _ in range(10):
            writer.write(b"x" * 10_000)
            await writer.drain()
        answer = await reader.read()
        assert b" 414 " in answer.partition(b"\r\n")[0]
        assert answer.count(b" 414 ") == 1
        await hang_up(writer)


@pytest.mark.parametrize("target", [b"OPTIONS *", b"CONNECT example.org:443"])
async def test_a_target_that_is_no_path_is_404(target: bytes, over: dict[str, Any]) -> None:
    """It is nothing that we have, and no error of ours."""
    async with serving(**over) as api:
        with capture_logs() as lines:
            answer = await api.talk(target + b" HTTP/1.1\r\nHost: x\r\nConnection: close\r\n\r\n")
        assert b" 404 Not Found\r\n" in answer
        assert [(line["log_level"], line["status"]) for line in lines] == [("info", 404)]


async def test_a_refusal_before_the_body_was_invited_ends_the_connection(over: dict[str, Any]) -> None:
    """Whether the body still comes is the client's choice, so what follows could not be told from it."""
    head = b"POST /v1/recognitions HTTP/1.1\r\nHost: x\r\nContent-Length: 100000\r\nExpect: 100-continue\r\n\r\n"
    async with serving(**over) as api:
        reader, writer = await api.connect()
        writer.write(head)
        answer = await reader.readuntil(b"\r\n\r\n")
        assert b" 401 Unauthorized\r\n" in answer
        assert b"\r\nConnection: close\r\n" in answer
        await hang_up(writer)


@pytest.mark.parametrize("method", ["PUT", "PATCH", "OPTIONS", "TRACE", "PROPFIND"])
@pytest.mark.parametrize(
    ("path", "allowed"),
    [("/v1/recognitions", "GET, POST"), ("/v1/recognitions/x", "DELETE, GET"), ("/health/live", "GET, HEAD")],
)
async def test_other_methods_are_405(method: str, path: str, allowed: str, over: dict[str, Any]) -> None:
    """The answer names the methods that the path takes."""
    async with serving(**over) as api:
        answer = await api.ask(method, path, auth=None)
        assert (answer.status, answer.headers["Allow"]) == (405, allowed)
        assert answer.body["code_description"] == "Method Not Allowed"


@pytest.mark.parametrize("path", ["/", "/v1", "/v1/recognitionsx", "/v2/recognitions", "/a%0ab", "/instances//v1"])
async def test_other_paths_are_404(path: str, over: dict[str, Any]) -> None:
    """In JSON, and without asking for credentials."""
    async with serving(**over) as api:
        answer = await api.talk(f"GET {path} HTTP/1.1\r\nHost: x\r\nConnection: close\r\n\r\n".encode())
        assert answer.startswith(b"HTTP/1.1 404 ")
        assert json.loads(answer.partition(b"\r\n\r\n")[2])["code"] == 404


async def test_a_strange_expectation_is_no_matter(over: dict[str, Any]) -> None:
    """It may be ignored (RFC 9110 §10.1.1), and is."""
    async with serving(**over) as api:
        for path, status in (("/v1/recognitions", 200), ("/nothing", 404)):
            assert (await api.ask("GET", path, headers={"Expect": "miracles"})).status == status


@pytest.mark.parametrize("sent", [b"GET /v1", b"GET /v1/recognitions HTTP/1.1\r\nHost: x\r\n"])
async def test_a_head_that_does_not_end_is_cut_off(
    sent: bytes, monkeypatch: pytest.MonkeyPatch, over: dict[str, Any]
) -> None:
    """A connection that began a request and does not go on is closed, also when bytes trickle."""
    monkeypatch.setattr(connection, "HEAD_WITHIN", timedelta(milliseconds=300))
    async with serving(**over) as api:
        reader, writer = await api.connect()
        writer.write(sent)

        async def closed() -> bool:
            writer.write(b"X")
            return waiting.done()

        waiting = asyncio.create_task(reader.read())
        await wait_until(closed, within=15)
        assert waiting.exception() is not None or waiting.result() == b""
        await hang_up(writer)


async def test_a_silent_connection_is_closed(monkeypatch: pytest.MonkeyPatch, over: dict[str, Any]) -> None:
    """A client that never sends anything is not waited for any longer than one between two requests."""
    monkeypatch.setattr(connection, "IDLE_FOR", timedelta(milliseconds=200))
    async with serving(**over) as api:
        assert await asyncio.wait_for(api.talk(), 30) == b""


async def test_a_slow_but_whole_head_is_served(monkeypatch: pytest.MonkeyPatch, over: dict[str, Any]) -> None:
    """The limit concerns the head only: afterwards the connection lives on."""
    monkeypatch.setattr(connection, "HEAD_WITHIN", timedelta(milliseconds=300))
    async with serving(**over, upload_stall=timedelta(seconds=1)) as api:
        reader, writer = await api.connect()
        writer.write(UPLOAD[:30])
        writer.write(UPLOAD[30:])
        assert (await reader.readuntil(b"\r\n")).startswith(b"HTTP/1.1 408 ")
        await hang_up(writer)


async def test_stopping_lets_an_upload_finish(over: dict[str, Any]) -> None:
    """A body that arrives in time is still made into a job."""
    async with serving(**over) as api:
        reader, writer = await api.connect()
        writer.write(UPLOAD)
        await wait_until(lambda: under_way(api))
        finishing = asyncio.create_task(reader.read())
        asyncio.get_running_loop().call_later(0.2, writer.write, bytes(100_000 - len(WAV)))
    answer = await finishing
    assert answer.startswith(b"HTTP/1.1 201 ")
    assert b"\r\nConnection: close\r\n" in answer  # so that the client sends nothing more that would be lost
    assert len(api.jobs.accepted) == 1
    await hang_up(writer)


async def test_stopping_cuts_what_does_not_finish_and_leaves_nothing(over: dict[str, Any]) -> None:
    """When the grace is over the client is told to come back, and no job is made."""
    async with serving(**over, grace=timedelta(milliseconds=200)) as api:
        reader, writer = await api.connect()
        writer.write(UPLOAD)
        await wait_until(lambda: under_way(api))
    assert (await reader.read()).startswith(b"HTTP/1.1 503 ")
    assert (api.jobs.broken_off, api.jobs.accepted) == (["Problem"], [])
    await hang_up(writer)


async def test_stopping_cuts_a_body_that_has_come_faster_than_it_is_taken_in(
    over: dict[str, Any], monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    """What of it waits here is thrown away, and nothing is logged as an error of ours."""
    monkeypatch.setattr(admission, "BANDWIDTH", 30_000)
    async with serving(**over, grace=timedelta(milliseconds=200)) as api:
        reader, writer = await api.connect()
        writer.write(UPLOAD)
        await wait_until(lambda: under_way(api))
        for _ in range(3):
            writer.write(bytes(30_000))
            await asyncio.sleep(0.05)
    assert (await reader.read()).startswith(b"HTTP/1.1 503 ")
    assert caplog.records == []
    await hang_up(writer)


async def test_stopping_does_not_wait_for_the_rest_of_a_refused_body(over: dict[str, Any]) -> None:
    """What is only thrown away holds nobody up; nor do idle connections."""
    async with serving(**over, grace=timedelta(seconds=50)) as api:
        reader, writer = await api.connect()
        writer.write(UPLOAD.replace(b"Basic", b"Basil"))
        assert (await reader.readuntil(b"\r\n")).startswith(b"HTTP/1.1 401 ")
        _, idle = await api.connect()
        began = asyncio.get_running_loop().time()
    assert asyncio.get_running_loop().time() - began < 25
    await hang_up(writer)
    await hang_up(idle)


async def test_a_refused_body_is_taken_in_and_thrown_away(over: dict[str, Any]) -> None:
    """A client that goes on sending is not cut off, and the connection serves the next request."""
    async with serving(**over) as api:
        reader, writer = await api.connect()
        writer.write(UPLOAD.replace(b"Basic", b"Basil"))
        assert (await reader.readuntil(b"}")).startswith(b"HTTP/1.1 401 ")
        writer.write(bytes(100_000 - len(WAV)) + b"GET /health/live HTTP/1.1\r\nHost: x\r\n\r\n")
        assert (await reader.readuntil(b"}")).startswith(b"HTTP/1.1 200 ")
        await hang_up(writer)


async def test_the_rest_of_a_refused_body_is_not_awaited_from_a_client_that_left(over: dict[str, Any]) -> None:
    """Its connection is let go of at once."""
    async with serving(**over) as api:
        reader, writer = await api.connect()
        writer.write(UPLOAD.replace(b"Basic", b"Basil"))
        await reader.readuntil(b"}")
        await hang_up(writer)

        async def nobody_served() -> bool:
            return not any("RequestHandler.start" in repr(task) for task in asyncio.all_tasks())

        await wait_until(nobody_served, within=20)


async def test_an_address_that_cannot_be_had_is_a_sentence() -> None:
    """With the listener's name; the others are let go."""
    async with serving(listeners=(Listener(name="x", port=0),)) as api:
        port = int(api.url.rpartition(":")[2])
        with pytest.raises(SettingsError, match=f"^listener y: 127.0.0.1, port {port}, cannot be listened on: "):
            async with serving(listeners=(Listener(name="x", port=0), Listener(name="y", port=port))):
                pass
